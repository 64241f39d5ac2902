//! The finish job: looks once more at what is doubtful, leaves no multipart upload open, writes the receipt, and gives
//! the session its final status.

use crate::lease::Lease;
use crate::receipt::{self, Written};
use crate::worker::JobFailure;
use database::TenantConn;
use database::jobs::{self, DoubtfulFile, JobError, WorkOrder};
use database::{plans, receipts as stored_receipts};
use domain::SessionStatus;
use futures::StreamExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use storage::{Bucket, OpenUpload, StorageError, UploadId};

/// Files looked at in one go, and requests in flight.
const PAGE: i64 = 500;
const IN_FLIGHT: usize = 16;
/// A store that does not answer keeps no session from its end: fewer attempts than for files, and a limit for all
/// aborts together.
const STORE_ATTEMPTS: u32 = 3;
const ABORT_PATIENCE: Duration = Duration::from_secs(60);

/// Runs a finish job to its end.
///
/// # Errors
/// Why it did not come to its end.
pub async fn run(lease: &Arc<Lease>) -> Result<(), JobFailure> {
    let order = lease.work_order().await?;
    if !order.session.settings.dry_run && order.session.files.total > 0 {
        // Without a bucket nothing was written, so that nothing can be doubtful or open.
        if let Ok(bucket) = lease.worker.targets.bucket(&order) {
            let bucket = bucket.with_max_attempts(STORE_ATTEMPTS);
            let look = async {
                failpoint::at!("finish.before_look");
                look_again(lease, &order, &bucket).await
            };
            lease.keep(look).await?;
            let clean = async {
                abort_recorded(lease, &order, &bucket).await?;
                abort_listed(lease, &order, &bucket).await
            };
            let cleaned = lease
                .keep(async { Ok(tokio::time::timeout(ABORT_PATIENCE, clean).await) })
                .await?;
            cleaned.unwrap_or_else(|_elapsed| {
                tracing::warn!(session_id = %lease.claim.session_id, "the store does not answer: multipart uploads may stay open");
                Ok(())
            })?;
        }
    }
    let written = receipt::write(lease, &order).await?;
    let status = finish(lease, &order, written).await?;
    failpoint::at!("finish.after_commit");
    tracing::info!(session_id = %lease.claim.session_id, run = lease.claim.run, status = %status, "session ended");
    if let Err(error) = lease.worker.queue.publish_progress(lease.claim.session_id).await {
        tracing::debug!("no progress hint: {error}");
    }
    Ok(())
}

/// Gives the session its final status, and records what became of its receipt, or a dry run's plan; all or nothing.
async fn finish(
    lease: &Lease,
    order: &WorkOrder,
    written: Option<Written>,
) -> Result<SessionStatus, JobError> {
    let settings = &order.session.settings;
    let (seal, missing) = written.map_or((None, None), |written| (written.seal, written.missing));
    lease
        .transact(|claim, term| {
            let (seal, missing) = (seal.clone(), missing.clone());
            let planned = settings.dry_run.then(|| settings.clone());
            async move |conn: &mut TenantConn| {
                let status = jobs::finish_session(conn, &claim, term).await?;
                if let Some(settings) = planned
                    && matches!(
                        status,
                        SessionStatus::Completed | SessionStatus::CompletedWithErrors
                    )
                {
                    plans::save(conn, &claim, &settings).await?;
                }
                if let Some(seal) = &seal {
                    stored_receipts::seal(conn, &claim, seal).await?;
                }
                if let Some(detail) = &missing {
                    jobs::receipt_missing(conn, &claim, detail).await?;
                }
                failpoint::at!("finish.before_commit");
                Ok(status)
            }
        })
        .await
}

/// Compares the objects of files whose job was claimed more than once with what was recorded: an earlier holder,
/// stopped for a while and then woken, may have written after the later one.
async fn look_again(lease: &Lease, order: &WorkOrder, bucket: &Bucket) -> Result<(), JobFailure> {
    let mut after = 0;
    loop {
        let page = lease
            .transact(|claim, _| {
                async move |conn: &mut TenantConn| Ok(jobs::doubtful_files(conn, &claim, after, PAGE).await?)
            })
            .await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.number;
        let findings: Vec<Result<Option<(i64, String)>, StorageError>> = futures::stream::iter(page)
            .map(|file| async move { contradiction(&file, &order.session.key_prefix, bucket).await })
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        // A store that does not answer proves nothing, and will not for the next files either.
        let error = findings
            .iter()
            .find_map(|finding| finding.as_ref().err().map(ToString::to_string));
        let wrong: Vec<(i64, String)> = findings.into_iter().filter_map(Result::ok).flatten().collect();
        lease
            .transact(|claim, term| {
                let wrong = wrong.clone();
                async move |conn: &mut TenantConn| jobs::contradict(conn, &claim, term, &wrong).await
            })
            .await?;
        if let Some(error) = error {
            tracing::warn!(session_id = %lease.claim.session_id, "objects of jobs that were claimed twice are not looked at again: {error}");
            return Ok(());
        }
    }
}

/// What is wrong with a file's object, if anything.
async fn contradiction(
    file: &DoubtfulFile,
    key_prefix: &str,
    bucket: &Bucket,
) -> Result<Option<(i64, String)>, StorageError> {
    let object = bucket.head(&format!("{key_prefix}{}", file.path)).await?;
    let detail = match object {
        None => "the object is not in the bucket any more",
        Some(object) => {
            let same_size = i64::try_from(object.size_bytes) == Ok(file.size_bytes);
            let same_etag = file.etag.is_none() || object.etag == file.etag;
            if same_size && same_etag {
                return Ok(None);
            }
            "the object in the bucket is another one than was recorded; retry sends it again"
        }
    };
    Ok(Some((file.number, detail.to_owned())))
}

/// Aborts the multipart uploads that rows refer to: when the last job has ended, nobody goes on with them.
async fn abort_recorded(lease: &Lease, order: &WorkOrder, bucket: &Bucket) -> Result<(), JobFailure> {
    let mut after = 0;
    loop {
        let page = lease
            .transact(|claim, _| {
                async move |conn: &mut TenantConn| {
                    Ok(jobs::open_uploads(conn, claim.session_id, after, PAGE).await?)
                }
            })
            .await?;
        let Some((last, ..)) = page.last() else {
            return Ok(());
        };
        after = *last;
        let named = page.into_iter().map(|(number, path, upload_id)| {
            let key = format!("{}{path}", order.session.key_prefix);
            (number, key, UploadId::new(upload_id))
        });
        let aborted: Vec<i64> = buckets::abort_all(bucket, named).await;
        failpoint::at!("finish.aborted");
        lease
            .transact(|claim, term| {
                let aborted = aborted.clone();
                async move |conn: &mut TenantConn| jobs::uploads_aborted(conn, &claim, term, &aborted).await
            })
            .await?;
    }
}

/// Aborts the open multipart uploads on this session's keys that no row refers to: of a worker that vanished
/// between opening one and recording it.
async fn abort_listed(lease: &Lease, order: &WorkOrder, bucket: &Bucket) -> Result<(), JobFailure> {
    let prefix = &order.session.key_prefix;
    let open = match bucket.list_multipart_uploads(prefix).await {
        Ok(open) => open,
        Err(error) => return not_allowed(&error),
    };
    let paths: Vec<String> = open
        .iter()
        .filter_map(|upload| upload.key.strip_prefix(prefix.as_str()))
        .map(str::to_owned)
        .collect();
    if paths.is_empty() {
        return Ok(());
    }
    let ours: HashSet<String> = lease
        .transact(|claim, _| {
            let paths = paths.clone();
            async move |conn: &mut TenantConn| {
                Ok(jobs::paths_of_session(conn, claim.session_id, &paths)
                    .await?
                    .into_iter()
                    .collect())
            }
        })
        .await?;
    let is_ours = |upload: &OpenUpload| {
        let path = upload.key.strip_prefix(prefix.as_str());
        path.is_some_and(|path| ours.contains(path))
    };
    let named = open
        .into_iter()
        .filter(is_ours)
        .map(|upload| ((), upload.key, upload.upload_id));
    buckets::abort_all(bucket, named).await;
    Ok(())
}

/// A store that will not list open uploads does not keep a session from its end; it is said in the log.
fn not_allowed(error: &StorageError) -> Result<(), JobFailure> {
    tracing::warn!("cannot look for multipart uploads that were left open: {error}");
    Ok(())
}
