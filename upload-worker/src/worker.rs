//! The worker: what its jobs share, and the loop that takes them.
//!
//! Ids come from Redis and are claimed in Postgres. A job that cannot go on because Postgres is away waits for
//! it; one whose lease was lost to another worker ends at once, in silence.

use crate::lease::Lease;
use crate::live::LiveBoard;
use crate::pace::Done;
use crate::places::{Offer, Place, Places};
use crate::target::Targets;
use crate::{cleaner, finish_job, retention, scan_job, sweeper, upload_job};
use anyhow::Context;
use database::jobs::{self, Claiming, JobError};
use database::{Database, SystemConn};
use domain::backoff::Backoff;
use domain::{CompanyId, JobId, JobKind, QueuedJob, SessionErrorCode};
use queue::Queue;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{StorageError, StorageErrorKind};
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use transfer::Engine;
use uuid::Uuid;

/// When a scan that found no place here is offered again.
const SCAN_DELAY: Duration = Duration::from_secs(1);
/// Connections to Postgres: jobs use one for a moment at each flush.
const MAX_CONNECTIONS: usize = 8;
/// How long a job that is to run alone waits for the others to end, and when it is offered again if they do not.
const ALONE_PATIENCE: Duration = Duration::from_secs(60);
const ALONE_DELAY: Duration = Duration::from_secs(5);
/// The wait before Postgres or Redis is asked again.
const SERVICE_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(2),
};

/// How long to wait before Postgres or Redis is asked again.
pub fn service_delay(failures: u32) -> Duration {
    SERVICE_BACKOFF.delay(failures, &mut rand::rng())
}

/// What all jobs of this process share.
pub struct Worker {
    /// Names this process in `jobs.worker_id`.
    pub id: String,
    /// Postgres.
    pub database: Database,
    /// Redis.
    pub queue: Queue,
    /// The engine with its limits.
    pub engine: Engine,
    /// Opens source roots and buckets.
    pub targets: Targets,
    /// What people watch.
    pub live: Arc<LiveBoard>,
    /// How long a claim holds without renewal.
    pub lease: Duration,
    /// How long a project's bucket is not looked through for what was left open.
    pub leftovers_every: Duration,
    /// For how many whole months the files of ended sessions stay recorded; `None`: for ever.
    pub file_retention_months: Option<u16>,
    /// Ends when the worker is told to stop: no new job, no new file.
    pub stopping: CancellationToken,
    /// Ends when the grace after that is over: jobs are given back as they are.
    pub giving_up: CancellationToken,
    /// Files in flight at most, over all jobs.
    pub concurrency: usize,
    /// How long a session waits for a store that is away before it fails.
    pub store_patience: Duration,
    /// Where it takes jobs: its source roots.
    pub locations: Vec<String>,
    /// What it has done.
    pub done: Done,
    /// The jobs it runs, and what it has room for.
    pub places: Arc<Places>,
    /// Held by every job for reading, and for writing by one that runs alone.
    company: RwLock<()>,
}

/// Why a job did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// Another worker has it.
    #[error("the job is no longer this worker's")]
    Fenced,
    /// The worker stops, or the session does: given back, or closed.
    #[error("stopped")]
    Stopped,
    /// This worker has no place for it now: given back, to be offered again after this time.
    #[error("no place")]
    NoPlace(Duration),
    /// The store takes nothing: given back, to be begun again when it may be there.
    #[error("the store is away: {0}")]
    StoreAway(String),
    /// All is delivered, and the store does not take the receipt now: given back, to be written later.
    #[error("the receipt waits: {0}")]
    ReceiptWaits(String),
    /// The session cannot go on.
    #[error("the session cannot go on: {code}: {detail}")]
    Session {
        /// The cause.
        code: SessionErrorCode,
        /// In words.
        detail: String,
        /// Whether the same may succeed later.
        may_pass: bool,
    },
    /// A fault of ours.
    #[error(transparent)]
    Database(database::DatabaseError),
}

impl From<StorageError> for JobFailure {
    /// Of a request that no single file is to blame for.
    fn from(error: StorageError) -> Self {
        let detail = error.to_string();
        match transfer::fatal_code(&error) {
            Some(SessionErrorCode::StorageUnreachable) => Self::StoreAway(detail),
            Some(code) => Self::Session {
                code,
                detail,
                may_pass: false,
            },
            None if error.is_retryable() => Self::StoreAway(detail),
            None if error.kind() == StorageErrorKind::AccessDenied => Self::Session {
                code: SessionErrorCode::AccessDenied,
                detail,
                may_pass: false,
            },
            None => Self::Session {
                code: SessionErrorCode::StorageMisconfigured,
                detail,
                may_pass: false,
            },
        }
    }
}

impl From<JobError> for JobFailure {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Fenced => Self::Fenced,
            JobError::Database(error) => Self::Database(error),
        }
    }
}

impl Worker {
    /// A worker that has connected to nothing yet.
    ///
    /// # Errors
    /// When a URL or the sealing key is unusable.
    pub async fn new(settings: settings::Worker) -> anyhow::Result<Self> {
        let concurrency = settings.concurrency as usize;
        Ok(Self {
            id: format!("{}-{}", std::process::id(), Uuid::new_v4().simple()),
            database: Database::new(settings.database_url.expose_secret(), MAX_CONNECTIONS)
                .context("DATABASE_URL")?,
            queue: Queue::connect(settings.redis_url.expose_secret())
                .await
                .context("REDIS_URL")?,
            engine: Engine::new(concurrency, settings.memory_bytes),
            locations: settings.source_roots.locations(),
            targets: Targets::new(&settings)?,
            live: Arc::default(),
            lease: settings.lease,
            leftovers_every: settings.leftovers_every,
            file_retention_months: settings.file_retention_months,
            stopping: CancellationToken::new(),
            giving_up: CancellationToken::new(),
            concurrency,
            store_patience: settings.store_patience,
            done: Done::default(),
            places: Arc::new(Places::new(concurrency)),
            company: RwLock::new(()),
        })
    }

    /// Takes and runs jobs until `stopping`, then waits for those that run.
    pub async fn run(self: Arc<Self>) {
        let worker = self;
        tracing::info!(worker_id = worker.id, locations = ?worker.locations, concurrency = worker.concurrency, "taking jobs");
        let services = CancellationToken::new();
        let reporter = tokio::spawn(crate::live::report(worker.clone(), services.clone()));
        let registry = tokio::spawn(crate::registry::report(worker.clone()));
        let sweeper = tokio::spawn(sweeper::run(worker.clone(), services.clone()));
        let cleaner = tokio::spawn(cleaner::run(worker.clone(), worker.stopping.clone()));
        let keeper = tokio::spawn(retention::run(worker.clone(), worker.stopping.clone()));
        let mut jobs = JoinSet::new();
        worker.take_jobs(&mut jobs).await;
        while jobs.join_next().await.is_some() {}
        services.cancel();
        let _ = tokio::join!(reporter, registry, sweeper, cleaner, keeper);
        tracing::info!("stopped");
    }

    async fn take_jobs(self: &Arc<Self>, jobs: &mut JoinSet<()>) {
        let mut failures = 0;
        while !self.stopping.is_cancelled() {
            while jobs.try_join_next().is_some() {}
            let offer = self.places.offer();
            match self.take_one(&offer, jobs).await {
                Ok(true) => failures = 0,
                Ok(false) if offer == Offer::All => {
                    failures = 0;
                    self.until_work(jobs).await;
                }
                Ok(false) => self.until_room(jobs).await,
                Err(error) => {
                    failures += 1;
                    if failures == 1 || failures % 30 == 0 {
                        tracing::warn!("cannot take jobs for now: {error:#}");
                    }
                    self.pause(service_delay(failures)).await;
                }
            }
        }
    }

    /// Takes one id and claims it. `false`: there is none.
    async fn take_one(self: &Arc<Self>, offer: &Offer, jobs: &mut JoinSet<()>) -> anyhow::Result<bool> {
        let (locations, except) = match offer {
            Offer::All => (self.locations.as_slice(), &[][..]),
            Offer::AllBut(companies) => (self.locations.as_slice(), companies.as_slice()),
            // Sessions are brought to their end all the same: `finish` jobs are at no root.
            Offer::None => (&[][..], &[][..]),
        };
        let Some(job_id) = self.queue.take_except(locations, except).await? else {
            return Ok(false);
        };
        failpoint::at!("take.before_claim");
        let (worker_id, lease) = (self.id.clone(), self.lease);
        let begun = Instant::now();
        // An id whose claim fails here is off its list; the sweeper brings it back.
        let claimed = self
            .database
            .system(async move |conn: &mut SystemConn| jobs::claim(conn, job_id, &worker_id, lease).await)
            .await;
        match claimed {
            Ok(Claiming::Claimed(claim)) => {
                tracing::debug!(job_id = %claim.job_id, session_id = %claim.session_id, kind = %claim.kind, epoch = claim.epoch, "claimed");
                let place = Place::new(&self.places, &claim);
                let lease = Arc::new(Lease::new(self.clone(), claim, begun));
                jobs.spawn(async move { lease.worker.clone().run_job(lease, place).await });
            }
            Ok(Claiming::Full(job)) => self.queue.put_back_parked(&job).await?,
            Ok(Claiming::Gone) => {}
            Err(error) => {
                if error.is_unavailable() {
                    let worker = self.clone();
                    jobs.spawn(async move { worker.disown(job_id).await });
                }
                return Err(error.into());
            }
        }
        Ok(true)
    }

    /// The answer to a claim was lost; it may have been committed. Gives the job back in that case: left alone, it
    /// would count as a crash.
    async fn disown(&self, job_id: JobId) {
        let mut failures = 0;
        while !self.giving_up.is_cancelled() {
            let worker_id = self.id.clone();
            let disown = async move |conn: &mut SystemConn| jobs::disown(conn, job_id, &worker_id).await;
            match self.database.system(disown).await {
                Ok(true) => return tracing::info!(%job_id, "gave back a job whose claim got no answer"),
                Err(error) if error.is_unavailable() => {
                    failures += 1;
                    tokio::time::sleep(service_delay(failures)).await;
                }
                Ok(false) | Err(_) => return,
            }
        }
    }

    async fn until_room(&self, jobs: &mut JoinSet<()>) {
        tokio::select! {
            _ = jobs.join_next() => {}
            () = self.places.room() => {}
            () = self.pause(Duration::from_millis(20)) => {}
        }
    }

    async fn until_work(&self, jobs: &mut JoinSet<()>) {
        tokio::select! {
            woken = self.queue.wait(&self.locations, Duration::from_secs(5)) => {
                if woken.is_err() {
                    self.pause(Duration::from_millis(500)).await;
                }
            }
            () = self.stopping.cancelled() => {}
            Some(_) = jobs.join_next() => {}
        }
    }

    async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    async fn run_job(self: Arc<Self>, lease: Arc<Lease>, place: Place) {
        failpoint::at!("claim.before_work");
        let outcome = self.work_in_company(&lease, place).await;
        let claim = &lease.claim;
        let settled = match outcome {
            Ok(()) => Ok(()),
            Err(failure) => lease.give_up(failure).await,
        };
        if let Err(error) = settled {
            tracing::warn!(job_id = %claim.job_id, session_id = %claim.session_id, kind = %claim.kind, "{error}");
        }
        if claim.kind != JobKind::Finish {
            self.done.add_job();
        }
        if claim.is_limited {
            self.make_room(claim.company_id).await;
        }
    }

    /// One of a company's jobs has ended: another may be taken. What cannot be told now, the sweeper tells.
    async fn make_room(&self, company_id: CompanyId) {
        let lines: Vec<(String, CompanyId)> = self
            .locations
            .iter()
            .map(|location| (location.clone(), company_id))
            .collect();
        if let Err(error) = self.queue.ensure_ring(&lines).await {
            tracing::debug!("the company is not put on its rings: {error}");
        }
    }

    /// Runs a job beside the others, or alone where that is to show what makes its workers vanish.
    async fn work_in_company(&self, lease: &Arc<Lease>, place: Place) -> Result<(), JobFailure> {
        if lease.claim.is_isolated() {
            let alone = async { Ok(tokio::time::timeout(ALONE_PATIENCE, self.company.write()).await) };
            let Ok(_alone) = lease.keep(alone).await? else {
                return Err(JobFailure::NoPlace(ALONE_DELAY));
            };
            tracing::info!(job_id = %lease.claim.job_id, crashes = lease.claim.crashes, "its workers vanished: it runs alone");
            self.work(lease, place).await
        } else {
            let _company = lease.keep(async { Ok(self.company.read().await) }).await?;
            self.work(lease, place).await
        }
    }

    async fn work(&self, lease: &Arc<Lease>, place: Place) -> Result<(), JobFailure> {
        match lease.claim.kind {
            JobKind::Scan if !self.places.may_scan(lease.claim.company_id) => {
                Err(JobFailure::NoPlace(SCAN_DELAY))
            }
            JobKind::Scan => scan_job::run(lease).await,
            JobKind::Upload => upload_job::run(lease, place).await,
            JobKind::Finish => finish_job::run(lease).await,
        }
    }

    /// Pushes jobs that were committed. It may fail: the sweeper pushes them then.
    pub async fn push(&self, jobs: &[QueuedJob]) {
        if let Err(error) = self.queue.push(jobs).await {
            tracing::warn!(
                jobs = jobs.len(),
                "cannot push to Redis, the sweeper will: {error}"
            );
        }
    }
}
