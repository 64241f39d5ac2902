//! The scan job: walks the source, records what it finds, and adds an upload job for each batch while the walk
//! still runs.
//!
//! A scan that starts again (its worker vanished, or stopped) walks from the beginning and leaves out what is
//! recorded already: it holds 128-bit hashes of those paths, 16 bytes a file.

use crate::existing::Existing;
use crate::lease::Lease;
use crate::target::Targets;
use crate::worker::JobFailure;
use chrono::{DateTime, Utc};
use database::TenantConn;
use database::jobs::{self, Ending, FoundFile, ObjectMarks};
use database::plans;
use database::sessions::{MAX_BYTES_PER_JOB, MAX_FILES_PER_JOB};
use domain::object_key::{PathText, object_key};
use domain::plan::Excluded;
use domain::{FileErrorCode, FileStatus, Planned, StopFlag};
use settings::root_name;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use transfer::{ScanError, ScanEvent};
use twox_hash::XxHash3_128;

/// How long the first file of a batch waits for more: uploads begin while the walk runs.
const BATCH_AGE: Duration = Duration::from_millis(200);
/// How many recorded paths are read at a time.
const PAGE: i64 = 10_000;

/// Runs a scan job to its end.
///
/// # Errors
/// Why it did not come to its end.
pub async fn run(lease: &Lease) -> Result<(), JobFailure> {
    let order = lease.work_order().await?;
    let root = lease.keep(lease.worker.targets.source_root(&order)).await?;
    let options = Targets::scan_options(&order)?;
    let existing = Existing::of(lease, &order).await?;
    let mut batch = Batch::new(lease, &order, existing).await?;
    let _watched = lease.worker.live.watch(lease.claim.session_id);

    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let mut scan = transfer::scan(&root, options, stop);
    loop {
        if lease.worker.stopping.is_cancelled() {
            return Err(JobFailure::Stopped);
        }
        match tokio::time::timeout(batch.patience(), scan.events.recv()).await {
            Ok(Some(events)) => {
                failpoint::at!("scan.walking");
                for event in events {
                    batch.add(event).await?;
                }
            }
            Ok(None) => break,
            Err(_elapsed) => batch.flush().await?,
        }
    }
    let result = scan.result.await.map_err(|error| JobFailure::Session {
        code: domain::SessionErrorCode::Internal,
        detail: format!("the walk broke: {error}"),
        may_pass: true,
    })?;
    match result {
        Ok(totals) => {
            batch.flush().await?;
            if batch.is_dry_run {
                batch.note_walk(totals.excluded).await?;
            }
            tracing::info!(session_id = %lease.claim.session_id, files = totals.files, bytes = totals.bytes, failed = totals.failed, "scanned");
            Ok(lease.end(Ending::ScanComplete).await?)
        }
        Err(ScanError::SourceUnreadable { path, detail }) => Err(JobFailure::Session {
            code: domain::SessionErrorCode::SourceUnreadable,
            detail: format!("{}/{path}: {detail}", root_name(&order.session.source_root)),
            may_pass: false,
        }),
        Err(ScanError::Stopped) => Err(JobFailure::Stopped),
    }
}

/// The files that are found and not yet recorded.
struct Batch<'a> {
    lease: &'a Lease,
    key_prefix: String,
    location: String,
    is_dry_run: bool,
    existing: Option<Existing<'a>>,
    next_number: i64,
    recorded: HashSet<u128>,
    /// The texts of paths that another path could share.
    ambiguous: HashSet<u128>,
    files: Vec<FoundFile>,
    size_bytes: u64,
    since: Instant,
}

impl<'a> Batch<'a> {
    async fn new(
        lease: &'a Lease,
        order: &jobs::WorkOrder,
        existing: Option<Existing<'a>>,
    ) -> Result<Self, JobFailure> {
        let mut batch = Self {
            lease,
            key_prefix: order.session.key_prefix.clone(),
            location: order.session.source_root.clone(),
            is_dry_run: order.session.settings.dry_run,
            existing,
            next_number: 1,
            recorded: HashSet::new(),
            ambiguous: HashSet::new(),
            files: Vec::with_capacity(MAX_FILES_PER_JOB),
            size_bytes: 0,
            since: Instant::now(),
        };
        batch.load_recorded().await?;
        Ok(batch)
    }

    /// What an earlier scan of the session recorded.
    async fn load_recorded(&mut self) -> Result<(), JobFailure> {
        loop {
            let after = self.next_number - 1;
            let page = self
                .lease
                .transact(|claim, _| {
                    async move |conn: &mut TenantConn| {
                        Ok(jobs::recorded_paths(conn, claim.session_id, after, PAGE).await?)
                    }
                })
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            self.next_number = last + 1;
            for (_, path) in &page {
                self.recorded.insert(path_hash(path));
                if path.may_collide() {
                    self.ambiguous.insert(text_hash(path));
                }
            }
            if self.since.elapsed() > self.lease.renew_after() {
                self.lease.renew().await?;
                self.since = Instant::now();
            }
        }
    }

    /// How long to wait for the next event before something is due.
    fn patience(&self) -> Duration {
        let due = if self.files.is_empty() {
            self.lease.renew_after()
        } else {
            BATCH_AGE
        };
        due.saturating_sub(self.since.elapsed())
    }

    async fn add(&mut self, event: ScanEvent) -> Result<(), JobFailure> {
        if self.lease.renewed().elapsed() >= self.lease.renew_after()
            && self.lease.renew().await? != StopFlag::Run
        {
            return Err(JobFailure::Stopped);
        }
        if let ScanEvent::File(found) = &event
            && self.is_recorded(&found.path)
        {
            return self.pass(&found.path).await;
        }
        let Some(mut file) = self.classify(event) else {
            return Ok(());
        };
        if file.status == FileStatus::Pending {
            let planned = match &mut self.existing {
                Some(existing) => existing.decide(&mut file).await?,
                None => Planned::Send,
            };
            if self.is_dry_run && file.status == FileStatus::Pending {
                file.status = FileStatus::Skipped;
                file.planned = Some(planned);
                // What was not compared proves nothing to later sessions.
                file.object = ObjectMarks::default();
            }
        }
        if self.files.is_empty() {
            self.since = Instant::now();
        }
        self.size_bytes += u64::try_from(file.size_bytes).unwrap_or(0);
        self.files.push(file);
        let full = self.files.len() >= MAX_FILES_PER_JOB || self.size_bytes >= MAX_BYTES_PER_JOB;
        if full || self.since.elapsed() >= BATCH_AGE {
            self.flush().await
        } else {
            Ok(())
        }
    }

    fn is_recorded(&self, path: &PathText) -> bool {
        !self.recorded.is_empty() && self.recorded.contains(&path_hash(path))
    }

    /// Leaves out a file that was decided before. A dry run lists the bucket all the same, to tell what that takes; others
    /// leap over what they need not see.
    async fn pass(&mut self, path: &PathText) -> Result<(), JobFailure> {
        match &mut self.existing {
            Some(existing) if self.is_dry_run && object_key(&self.key_prefix, &path.text).is_ok() => {
                existing.reach(&path.text).await
            }
            _ => Ok(()),
        }
    }

    /// Notes what only a whole walk can tell.
    async fn note_walk(&self, excluded: Excluded) -> Result<(), JobFailure> {
        let list_requests = self.existing.as_ref().map_or(0, Existing::list_requests);
        let noted = self.lease.renewing(|claim, term| {
            async move |conn: &mut TenantConn| {
                plans::note_walk(conn, &claim, term, excluded, list_requests).await
            }
        });
        Ok(noted.await?)
    }

    /// The row of what was found; none where it has one already.
    fn classify(&mut self, event: ScanEvent) -> Option<FoundFile> {
        let (path, size_bytes, modified_at, mut status, mut error) = match event {
            ScanEvent::File(found) => {
                let modified_at = DateTime::<Utc>::from_timestamp_nanos(found.modified_at_ns);
                (
                    found.path,
                    found.size_bytes,
                    Some(modified_at),
                    FileStatus::Pending,
                    None,
                )
            }
            ScanEvent::NotSendable {
                path,
                size_bytes,
                code,
                detail,
                skipped,
            } => {
                let status = if skipped {
                    FileStatus::Skipped
                } else {
                    FileStatus::Failed
                };
                (path, size_bytes, None, status, Some((code, detail)))
            }
        };
        if self.is_recorded(&path) {
            return None;
        }
        if status == FileStatus::Pending {
            if let Err(problem) = object_key(&self.key_prefix, &path.text) {
                (status, error) = (
                    FileStatus::Failed,
                    Some((FileErrorCode::NameNotSupported, problem.to_string())),
                );
            } else if path.may_collide() && !self.ambiguous.insert(text_hash(&path)) {
                let detail = "another file of this session gives the same object key".to_owned();
                (status, error) = (FileStatus::Failed, Some((FileErrorCode::NameCollision, detail)));
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        let size_bytes = i64::try_from(size_bytes).unwrap_or(i64::MAX);
        Some(FoundFile {
            number,
            path,
            size_bytes,
            modified_at,
            status,
            error,
            planned: None,
            object: ObjectMarks::default(),
        })
    }

    /// Records what there is, or renews the lease where there is nothing.
    async fn flush(&mut self) -> Result<(), JobFailure> {
        let files = std::mem::take(&mut self.files);
        self.size_bytes = 0;
        self.since = Instant::now();
        // Shared, not copied, when an outage makes it try again.
        let (files, location) = (Arc::new(files), self.location.clone());
        let (flag, job) = self
            .lease
            .transact(|claim, term| {
                let (files, location) = (files.clone(), location.clone());
                async move |conn: &mut TenantConn| {
                    let emitted = jobs::emit_batch(conn, &claim, term, &location, &files).await?;
                    failpoint::at!("scan.before_commit");
                    Ok(emitted)
                }
            })
            .await?;
        if let Some(job) = job {
            failpoint::at!("scan.before_push");
            self.lease.worker.push(&[job]).await;
        }
        if flag == StopFlag::Run {
            Ok(())
        } else {
            Err(JobFailure::Stopped)
        }
    }
}

fn text_hash(path: &PathText) -> u128 {
    XxHash3_128::oneshot(path.text.as_bytes())
}

/// Tells apart two paths that have the same text, one of them encoded.
fn path_hash(path: &PathText) -> u128 {
    text_hash(path) ^ u128::from(path.is_encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_one_text_are_told_apart() {
        let (clean, encoded) = (PathText::from_bytes(b"a%0A"), PathText::from_bytes(b"a\n"));
        assert_eq!(text_hash(&clean), text_hash(&encoded));
        assert_ne!(path_hash(&clean), path_hash(&encoded));
    }
}
