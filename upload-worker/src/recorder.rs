//! Where the engine reports to: outcomes are gathered and flushed in batches, each flush through the fence;
//! live figures go to the board.

use crate::allowance::Allowance;
use crate::lease::Lease;
use crate::places::Place;
use chrono::{DateTime, Utc};
use database::TenantConn;
use database::jobs::{self, FileOutcome, JobError};
use domain::{FileStatus, StopFlag};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use storage::Bucket;
use tokio::sync::{Notify, watch};
use transfer::{Events, Lost, Outcome, PlannedFile, Stop};

/// How often outcomes are flushed.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Outcomes at which the engine waits for a flush: bounds what a crash has to repeat, and memory while the
/// database is away.
const MAX_BUFFERED: usize = 2_000;

/// Gathers what the engine reports of one upload job.
pub struct Recorder {
    lease: Arc<Lease>,
    planned_bytes: HashMap<i64, i64>,
    buffer: Mutex<Vec<FileOutcome>>,
    flushed: Notify,
    ended: Notify,
    place: Mutex<Place>,
    bucket: Bucket,
    stop: watch::Sender<Stop>,
    /// The store took something since this was last told to the database.
    answered: AtomicBool,
    allowance: Option<Allowance>,
    /// Why a multipart upload could not be recorded.
    error: Mutex<Option<JobError>>,
}

impl Recorder {
    /// For the job of `lease`, which sends to `bucket`, at the pace of `allowance`; `planned_bytes` are the sizes its rows
    /// have now. What the session wants goes to the engine through `stop`.
    pub fn new(
        lease: Arc<Lease>,
        planned_bytes: HashMap<i64, i64>,
        place: Place,
        bucket: Bucket,
        allowance: Option<Allowance>,
        stop: watch::Sender<Stop>,
    ) -> Self {
        Self {
            lease,
            planned_bytes,
            buffer: Mutex::default(),
            flushed: Notify::new(),
            ended: Notify::new(),
            place: Mutex::new(place),
            bucket,
            stop,
            answered: AtomicBool::new(false),
            allowance,
            error: Mutex::default(),
        }
    }

    /// Why a multipart upload could not be recorded, if so: the engine was told that the job is lost.
    pub fn take_error(&self) -> Option<JobError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Flushes until [`Recorder::engine_ended`], then once more. Also keeps the lease and watches for stops.
    ///
    /// # Errors
    /// [`JobError::Fenced`], or a fault: the engine was told to abandon the job.
    pub async fn flush_until_ended(&self) -> Result<(), JobError> {
        let worker = &self.lease.worker;
        let mut hints = worker.queue.subscribe_stop();
        let mut ended = false;
        // Told at once where the session waits for the store, and else now and then.
        let mut told = self.lease.claim.away_for.is_none().then(Instant::now);
        while !ended {
            let mut hinted = false;
            tokio::select! {
                () = self.ended.notified() => ended = true,
                () = tokio::time::sleep(FLUSH_EVERY) => {}
                Ok(session) = hints.recv() => hinted = session == self.lease.claim.session_id,
                () = worker.stopping.cancelled(), if *self.stop.borrow() < Stop::Drain => {
                    self.escalate(Stop::Drain);
                }
                () = worker.giving_up.cancelled(), if *self.stop.borrow() < Stop::Abandon => {
                    self.escalate(Stop::Abandon);
                }
            }
            let pace = self.bucket.pace();
            self.place
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .set_pace(pace);
            let outcomes = std::mem::take(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner));
            if outcomes.is_empty() && !hinted && self.lease.renewed().elapsed() < self.lease.renew_after() {
                continue;
            }
            let begun = Instant::now();
            let is_due = told.is_none_or(|told| told.elapsed() >= self.lease.renew_after());
            let answered = (is_due || ended) && self.answered.swap(false, Ordering::Relaxed);
            if answered {
                told = Some(begun);
            }
            match self.flush_or_drain(outcomes, answered).await {
                Ok(StopFlag::Run) => {}
                Ok(StopFlag::Pause) => self.escalate(Stop::Drain),
                Ok(StopFlag::Cancel | StopFlag::Fail) => self.escalate(Stop::Cancel),
                Err(error) => {
                    self.escalate(Stop::Abandon);
                    self.flushed.notify_waiters();
                    return Err(error);
                }
            }
            self.flushed.notify_waiters();
        }
        Ok(())
    }

    /// Flushes; when that takes until the lease is over, because the database is away, the engine starts nothing
    /// more: the job may be somebody else's by now, and S3 knows no fence.
    async fn flush_or_drain(&self, outcomes: Vec<FileOutcome>, answered: bool) -> Result<StopFlag, JobError> {
        let over = self.lease.renewed() + self.lease.term();
        let flush = self.flush(outcomes, answered);
        tokio::pin!(flush);
        tokio::select! {
            biased;
            flag = &mut flush => flag,
            () = tokio::time::sleep_until(over.into()) => {
                tracing::warn!(job_id = %self.lease.claim.job_id, "the lease is over and cannot be renewed: starting nothing more");
                self.escalate(Stop::Drain);
                flush.await
            }
        }
    }

    /// The engine reports nothing more.
    pub fn engine_ended(&self) {
        self.ended.notify_one();
    }

    fn escalate(&self, to: Stop) {
        self.stop.send_if_modified(|now| {
            let changes = *now < to;
            *now = (*now).max(to);
            changes
        });
    }

    /// With `answered`, also that the store took something.
    async fn flush(&self, outcomes: Vec<FileOutcome>, answered: bool) -> Result<StopFlag, JobError> {
        failpoint::at!("flush.before_write");
        let outcomes = Arc::new(outcomes);
        let flag = self
            .lease
            .renewing(|claim, term| {
                let outcomes = outcomes.clone();
                async move |conn: &mut TenantConn| {
                    let flag = jobs::record_outcomes(conn, &claim, term, &outcomes).await?;
                    if answered {
                        jobs::store_answers(conn, &claim).await?;
                    }
                    failpoint::at!("flush.before_commit");
                    Ok(flag)
                }
            })
            .await?;
        failpoint::at!("flush.after_commit");
        Ok(flag)
    }

    fn row(&self, outcome: Outcome) -> FileOutcome {
        let size_bytes = i64::try_from(outcome.size_bytes).unwrap_or(i64::MAX);
        FileOutcome {
            number: outcome.number,
            status: outcome.status,
            planned_size_bytes: self
                .planned_bytes
                .get(&outcome.number)
                .copied()
                .unwrap_or(size_bytes),
            size_bytes,
            modified_at: outcome.modified_at_ns.map(DateTime::from_timestamp_nanos),
            attempts: i32::try_from(outcome.attempts).unwrap_or(i32::MAX),
            etag: outcome.etag,
            checksum: outcome.checksum,
            error: outcome.error,
            started_at: time(outcome.started_at),
            finished_at: time(outcome.finished_at),
        }
    }
}

fn time(time: SystemTime) -> DateTime<Utc> {
    time.into()
}

impl Events for Recorder {
    fn stored(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    async fn may_send(&self, bytes: u64) {
        if let Some(allowance) = &self.allowance {
            allowance.take(bytes).await;
        }
    }

    fn is_ours(&self) -> bool {
        self.lease.holds()
    }

    fn progress(&self, number: i64, sent_bytes_delta: i64) {
        self.lease
            .worker
            .live
            .advance(self.lease.claim.session_id, number, sent_bytes_delta);
    }

    fn started(&self, file: &PlannedFile) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).begun();
        self.lease.worker.live.begin(
            self.lease.claim.session_id,
            file.number,
            &file.path.text,
            file.size_bytes,
        );
    }

    async fn finished(&self, outcome: Outcome) {
        self.lease
            .worker
            .live
            .end(self.lease.claim.session_id, outcome.number);
        // A file that a stop cut off has no outcome yet: the end of the session decides.
        if outcome.status == FileStatus::Cancelled {
            return;
        }
        if outcome.status == FileStatus::Uploaded {
            self.lease.worker.done.add_file(outcome.size_bytes);
        }
        let row = self.row(outcome);
        let flushed = self.flushed.notified();
        let buffered = {
            let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
            buffer.push(row);
            buffer.len()
        };
        if buffered >= MAX_BUFFERED {
            flushed.await;
        }
    }

    async fn multipart_opened(&self, number: i64, upload_id: &str, part_size_bytes: u64) -> Result<(), Lost> {
        let part_size_bytes = i64::try_from(part_size_bytes).map_err(|_| Lost)?;
        let recorded = self
            .lease
            .renewing(|claim, term| {
                let upload_id = upload_id.to_owned();
                async move |conn: &mut TenantConn| {
                    jobs::multipart_opened(conn, &claim, term, number, &upload_id, part_size_bytes).await
                }
            })
            .await;
        recorded.map_err(|error| {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Lost
        })
    }
}
