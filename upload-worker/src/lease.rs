//! A claimed job in this worker's hands: every write of it goes through the fence, and its end, good or bad, is
//! written exactly once.

use crate::worker::{JobFailure, Worker, service_delay};
use database::jobs::{self, Claim, Ending, JobError, StoreAway, WorkOrder};
use database::{ScopeFn, TenantConn};
use domain::backoff::Backoff;
use domain::{JobKind, QueuedJob, SessionErrorCode, StopFlag};
use rand::Rng as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often in a row a job that meets a passing error is begun again before its session fails.
const MAX_JOB_ERRORS: i32 = 3;
/// The wait before a job with a passing error is begun again.
const JOB_BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(2),
    cap: Duration::from_secs(60),
};
/// The bounds of the wait for a store that is away: about as long again as it has been.
const STORE_DELAY_S: (f64, f64) = (2.0, 30.0);

/// A claimed job and the worker that has it.
pub struct Lease {
    /// What the fence checks.
    pub claim: Claim,
    /// Who has it.
    pub worker: Arc<Worker>,
    renewed: Mutex<Instant>,
}

impl Lease {
    /// The job of `claim`, which was asked for at `begun`.
    pub fn new(worker: Arc<Worker>, claim: Claim, begun: Instant) -> Self {
        Self {
            claim,
            worker,
            renewed: Mutex::new(begun),
        }
    }

    /// How long a renewal holds.
    pub fn term(&self) -> Duration {
        self.worker.lease
    }

    /// After what time without a write the lease is renewed: well before a third of it is over.
    pub fn renew_after(&self) -> Duration {
        self.term() / 4
    }

    /// When the last renewal that succeeded was begun: the lease holds for at least its term from then on.
    pub fn renewed(&self) -> Instant {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody else can have the job yet. By the monotonic clock, which goes on while the process is frozen.
    pub fn holds(&self) -> bool {
        self.renewed().elapsed() < self.term()
    }

    /// Runs `work`, made anew for each attempt, in a transaction of the job's company, and repeats it for as long
    /// as the database cannot be reached. What is written must therefore stand being written twice.
    ///
    /// # Errors
    /// What is no outage: [`JobError::Fenced`], or a fault.
    pub async fn transact<T, F, W>(&self, work: F) -> Result<T, JobError>
    where
        F: Fn(Claim, Duration) -> W + Send + Sync,
        W: for<'c> AsyncFnOnce(&'c mut TenantConn) -> Result<T, JobError>
            + for<'c> ScopeFn<&'c mut TenantConn, Result<T, JobError>, Fut: Send>
            + Send,
        T: Send,
    {
        self.timed(work).await.map(|(_, done)| done)
    }

    /// As [`Lease::transact`], of work that renews the lease.
    ///
    /// # Errors
    /// As there.
    pub async fn renewing<T, F, W>(&self, work: F) -> Result<T, JobError>
    where
        F: Fn(Claim, Duration) -> W + Send + Sync,
        W: for<'c> AsyncFnOnce(&'c mut TenantConn) -> Result<T, JobError>
            + for<'c> ScopeFn<&'c mut TenantConn, Result<T, JobError>, Fut: Send>
            + Send,
        T: Send,
    {
        let (begun, done) = self.timed(work).await?;
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed = begun.max(*renewed);
        Ok(done)
    }

    /// Also tells when the attempt that succeeded was begun.
    async fn timed<T, F, W>(&self, work: F) -> Result<(Instant, T), JobError>
    where
        F: Fn(Claim, Duration) -> W + Send + Sync,
        W: for<'c> AsyncFnOnce(&'c mut TenantConn) -> Result<T, JobError>
            + for<'c> ScopeFn<&'c mut TenantConn, Result<T, JobError>, Fut: Send>
            + Send,
        T: Send,
    {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let work = work(self.claim.clone(), self.term());
            match self.worker.database.tenant(self.claim.company_id, work).await {
                Err(JobError::Database(error)) if error.is_unavailable() => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(job_id = %self.claim.job_id, "waiting for the database: {error}");
                    }
                    tokio::time::sleep(service_delay(failures)).await;
                }
                outcome => return outcome.map(|done| (begun, done)),
            }
        }
    }

    /// Renews the lease and tells what the session wants.
    ///
    /// # Errors
    /// [`JobError::Fenced`], or a fault.
    pub async fn renew(&self) -> Result<StopFlag, JobError> {
        self.renewing(|claim, term| async move |conn: &mut TenantConn| jobs::renew(conn, &claim, term).await)
            .await
    }

    /// Runs `work` while the lease is renewed beside it, and drops it when the lease is lost. For work that writes
    /// nothing for a while; it must not end the job itself.
    ///
    /// # Errors
    /// What `work` gives, or [`JobError::Fenced`].
    pub async fn keep<T>(&self, work: impl Future<Output = Result<T, JobFailure>>) -> Result<T, JobFailure> {
        // Of many short works in a row, each would else begin to wait anew.
        if self.renewed().elapsed() >= self.renew_after() {
            self.renew().await?;
        }
        let keeper = async {
            loop {
                tokio::time::sleep(self.renew_after().saturating_sub(self.renewed().elapsed())).await;
                if let Err(error) = self.renew().await {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            outcome = work => outcome,
            error = keeper => Err(error.into()),
            () = self.worker.giving_up.cancelled() => Err(JobFailure::Stopped),
        }
    }

    /// The session, project and company of the job.
    ///
    /// # Errors
    /// A fault, such as a session that was deleted.
    pub async fn work_order(&self) -> Result<WorkOrder, JobError> {
        self.transact(|claim, _| async move |conn: &mut TenantConn| Ok(jobs::work_order(conn, &claim).await?))
            .await
    }

    /// Ends the job.
    ///
    /// # Errors
    /// [`JobError::Fenced`], or a fault.
    pub async fn end(&self, ending: Ending) -> Result<(), JobError> {
        let finish = self
            .transact(|claim, term| {
                async move |conn: &mut TenantConn| {
                    jobs::renew(conn, &claim, term).await?;
                    let finish = jobs::end(conn, &claim, ending).await?;
                    failpoint::at!("end.before_commit");
                    Ok(finish)
                }
            })
            .await?;
        failpoint::at!("end.before_push");
        self.push(finish).await;
        Ok(())
    }

    /// Settles a job that did not come to its end.
    ///
    /// # Errors
    /// [`JobError::Fenced`], or a fault.
    pub async fn give_up(&self, failure: JobFailure) -> Result<(), JobError> {
        match failure {
            JobFailure::Fenced => Err(JobError::Fenced),
            JobFailure::Stopped => match self.renew().await? {
                // Nothing else can end the session: a finish job goes on elsewhere, whatever the session was told.
                StopFlag::Cancel | StopFlag::Fail if self.claim.kind != JobKind::Finish => {
                    self.end(Ending::Cancelled).await
                }
                _ => self.release(Duration::ZERO, None).await,
            },
            JobFailure::NoPlace(delay) => self.release(delay, None).await,
            JobFailure::StoreAway(detail) => self.await_store(detail).await,
            JobFailure::ReceiptWaits(detail) => self.await_receipt(detail).await,
            JobFailure::Session {
                code,
                detail,
                may_pass,
            } => {
                let delay = self.retry_delay().filter(|_| may_pass);
                match delay {
                    Some(delay) => self.release(delay, Some(detail)).await,
                    None => self.fail_session(code, detail).await,
                }
            }
            JobFailure::Database(error) => {
                tracing::error!(job_id = %self.claim.job_id, session_id = %self.claim.session_id, "{error}");
                match self.retry_delay() {
                    Some(delay) => self.release(delay, Some(error.to_string())).await,
                    None => {
                        let detail =
                            "the database refused what the worker wrote; its log tells more".to_owned();
                        self.fail_session(SessionErrorCode::Internal, detail).await
                    }
                }
            }
        }
    }

    async fn release(&self, delay: Duration, error: Option<String>) -> Result<(), JobError> {
        self.transact(|claim, _| {
            let error = error.clone();
            async move |conn: &mut TenantConn| {
                jobs::release(conn, &claim, delay, error.as_deref()).await?;
                failpoint::at!("release.before_commit");
                Ok(())
            }
        })
        .await?;
        failpoint::at!("release.after_commit");
        Ok(())
    }

    /// Whether what fails now may be tried again later. While the store is away, time decides and not the number of
    /// tries; while it takes what others send, the other way round.
    pub fn is_patient(&self) -> bool {
        match self.claim.away_for {
            Some(away_for) => away_for < self.worker.store_patience,
            None => self.claim.errors < MAX_JOB_ERRORS,
        }
    }

    async fn await_store(&self, detail: String) -> Result<(), JobError> {
        let (shortest_s, longest_s) = STORE_DELAY_S;
        let away_s = self.claim.away_for.unwrap_or_default().as_secs_f64();
        let delay_s = away_s.clamp(shortest_s, longest_s) * rand::rng().random_range(0.0..=1.0);
        tracing::warn!(session_id = %self.claim.session_id, job_id = %self.claim.job_id, away_s, delay_s, "the store is away: {detail}");
        let patience = self.worker.store_patience;
        let away = StoreAway {
            detail,
            delay: Duration::from_secs_f64(delay_s),
            patience,
            is_last: self.claim.away_for.is_some_and(|away_for| away_for >= patience),
        };
        let finish = self
            .transact(|claim, term| {
                let away = away.clone();
                async move |conn: &mut TenantConn| jobs::await_store(conn, &claim, term, &away).await
            })
            .await?;
        let has_failed = finish.is_some();
        self.push(finish).await;
        if has_failed {
            self.hint_stop().await;
        }
        Ok(())
    }

    /// Everything is delivered: the receipt is written later, and fails nothing.
    async fn await_receipt(&self, detail: String) -> Result<(), JobError> {
        let delay = self.retry_delay().unwrap_or_default();
        tracing::warn!(session_id = %self.claim.session_id, job_id = %self.claim.job_id, delay_s = delay.as_secs_f64(), "{detail}");
        self.transact(|claim, term| {
            let detail = detail.clone();
            async move |conn: &mut TenantConn| jobs::await_receipt(conn, &claim, term, delay, &detail).await
        })
        .await
    }

    /// A finish job is never given up: nothing else can end its session.
    fn retry_delay(&self) -> Option<Duration> {
        let failures = u32::try_from(self.claim.errors + 1).unwrap_or(u32::MAX);
        let again = self.is_patient() || self.claim.kind == JobKind::Finish;
        again.then(|| JOB_BACKOFF.delay(failures, &mut rand::rng()))
    }

    async fn fail_session(&self, code: SessionErrorCode, detail: String) -> Result<(), JobError> {
        tracing::warn!(session_id = %self.claim.session_id, code = %code, "the session cannot go on: {detail}");
        let finish = self
            .transact(|claim, _| {
                let detail = detail.clone();
                async move |conn: &mut TenantConn| jobs::fail_session(conn, &claim, code, &detail).await
            })
            .await?;
        failpoint::at!("fail.before_push");
        self.push(finish).await;
        self.hint_stop().await;
        Ok(())
    }

    /// The session's other jobs are to look at its stop flag.
    async fn hint_stop(&self) {
        if let Err(error) = self.worker.queue.publish_stop(self.claim.session_id).await {
            tracing::debug!("no stop hint: {error}");
        }
    }

    async fn push(&self, finish: Option<QueuedJob>) {
        if let Some(job) = finish {
            self.worker.push(&[job]).await;
        }
    }
}
