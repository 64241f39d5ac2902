//! The upload job: loads its range of files, runs the engine over them, and records what became of each.

use crate::allowance::Allowance;
use crate::lease::Lease;
use crate::places::Place;
use crate::recorder::Recorder;
use crate::worker::JobFailure;
use database::TenantConn;
use database::jobs::{self, Ending, JobError, PendingFile};
use domain::{OnExisting, SessionErrorCode};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use transfer::{Existing, PlannedFile, Stop, Summary, UploadPlan};

/// Runs an upload job to its end.
///
/// # Errors
/// Why it did not come to its end.
pub async fn run(lease: &Arc<Lease>, mut place: Place) -> Result<(), JobFailure> {
    let numbers = lease.claim.numbers.unwrap_or((1, 0));
    let order = lease.work_order().await?;
    let files = lease
        .transact(|claim, _| {
            async move |conn: &mut TenantConn| Ok(jobs::pending_files(conn, claim.session_id, numbers).await?)
        })
        .await?;
    let settings = order.session.settings.clone();
    if settings.dry_run {
        let detail = "a dry run has an upload job".to_owned();
        return Err(JobFailure::Session {
            code: SessionErrorCode::Internal,
            detail,
            may_pass: false,
        });
    }
    place.set(files.len(), settings.concurrency);
    let plan = UploadPlan {
        company_id: lease.claim.company_id,
        root: lease.keep(lease.worker.targets.source_root(&order)).await?,
        source_path: order.session.source_path.clone(),
        key_prefix: order.session.key_prefix.clone(),
        settings,
        token_prefix: order.session.id.to_string(),
        bucket: lease.worker.targets.bucket(&order)?,
        is_patient: lease.is_patient(),
    };
    let planned_bytes: HashMap<i64, i64> = files.iter().map(|file| (file.number, file.size_bytes)).collect();
    let (stop, stopped) = watch::channel(Stop::Run);
    let recorder = Arc::new(Recorder::new(
        lease.clone(),
        planned_bytes,
        place,
        plan.bucket.clone(),
        plan.settings
            .bandwidth_limit_bytes_per_s
            .map(|limit| Allowance::new(lease.worker.queue.clone(), lease.claim.session_id, limit)),
        stop,
    ));
    let _watched = lease.worker.live.watch(lease.claim.session_id);

    let engine = async {
        let compares = plan.settings.on_existing == OnExisting::SkipUnchanged;
        let files: Vec<PlannedFile> = files.into_iter().map(|file| planned(file, compares)).collect();
        let (plan, engine) = (Arc::new(plan), &lease.worker.engine);
        let summary = if lease.claim.is_isolated() {
            one_by_one(lease, &plan, files, &recorder, &stopped).await
        } else {
            Ok(engine.upload(plan, files, recorder.clone(), stopped).await)
        };
        recorder.engine_ended();
        summary
    };
    let (summary, recorded) = tokio::join!(engine, recorder.flush_until_ended());
    recorded?;
    let summary = summary?;
    if let Some(error) = recorder.take_error() {
        return Err(error.into());
    }
    settle(lease, summary).await
}

/// Sends one file at a time, each named before it is begun: should this worker vanish, that file is to blame.
async fn one_by_one(
    lease: &Lease,
    plan: &Arc<UploadPlan>,
    files: Vec<PlannedFile>,
    recorder: &Arc<Recorder>,
    stopped: &watch::Receiver<Stop>,
) -> Result<Summary, JobError> {
    let mut all = Summary::default();
    for file in files {
        let number = file.number;
        if *stopped.borrow() != Stop::Run || all.fatal.is_some() || all.lost {
            all.not_started.push(number);
            continue;
        }
        lease
            .renewing(|claim, term| {
                async move |conn: &mut TenantConn| jobs::suspect(conn, &claim, term, number).await
            })
            .await?;
        failpoint::at!("suspect.named");
        let engine = &lease.worker.engine;
        let summary = engine
            .upload(plan.clone(), vec![file], recorder.clone(), stopped.clone())
            .await;
        all.not_started.extend(summary.not_started);
        all.fatal = all.fatal.or(summary.fatal);
        all.lost |= summary.lost;
    }
    Ok(all)
}

fn planned(file: PendingFile, compares: bool) -> PlannedFile {
    let (upload_id, part_size_bytes) = file.open_upload.unzip();
    PlannedFile {
        number: file.number,
        path: file.path,
        size_bytes: u64::try_from(file.size_bytes).unwrap_or(0),
        upload_id,
        multipart_part_size_bytes: part_size_bytes.and_then(|size| u64::try_from(size).ok()),
        attempts: u32::try_from(file.attempts).unwrap_or(0),
        existing: file.existing.filter(|_| compares).map(|object| Existing {
            etag: object.etag,
            checksum: object.checksum,
        }),
    }
}

async fn settle(lease: &Lease, summary: Summary) -> Result<(), JobFailure> {
    if summary.lost {
        return Err(JobFailure::Fenced);
    }
    if let Some(fatal) = summary.fatal {
        if fatal.code == SessionErrorCode::StorageUnreachable {
            return Err(JobFailure::StoreAway(fatal.detail));
        }
        return Err(JobFailure::Session {
            code: fatal.code,
            detail: fatal.detail,
            may_pass: false,
        });
    }
    if !summary.not_started.is_empty() {
        return Err(JobFailure::Stopped);
    }
    Ok(lease.end(Ending::Done).await?)
}
