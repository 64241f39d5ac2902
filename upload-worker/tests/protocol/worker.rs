//! A worker of the protocol: takes, claims, scans, uploads, finishes. It may vanish at any step, wake again and go on
//! as if nothing had happened, write twice, give back, or stop.

use super::world::{LEASE, LOCATION, World};
use anyhow::ensure;
use chrono::Utc;
use database::jobs::{
    self, Claim, Claiming, Ending, FileOutcome, FoundFile, JobError, PendingFile, StoreAway,
};
use database::{SystemConn, TenantConn};
use domain::object_key::PathText;
use domain::{FileErrorCode, FileStatus, JobId, JobKind, QueuedJob, SessionErrorCode, StopFlag};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashSet;
use std::time::Duration;

const MAX_HELD: usize = 3;
const MAX_LOST: usize = 6;
const MAX_BATCH: usize = 3;

pub(super) struct WorkerActor {
    name: &'static str,
    /// Ids that are off their lists and not claimed.
    taken: Vec<JobId>,
    /// Ids whose claim got no answer.
    unanswered: Vec<JobId>,
    held: Vec<Held>,
    /// What it held when it was killed or put to sleep, and what it has ended: it may wake and go on.
    lost: Vec<Held>,
}

/// A claimed job, and what it has done for it.
struct Held {
    claim: Claim,
    /// What the walk has still to tell; `None`: not begun.
    unsent: Option<Vec<FoundFile>>,
    last_batch: Vec<FoundFile>,
    last_flush: Vec<FileOutcome>,
}

/// Whether it still has the job.
#[derive(PartialEq)]
enum After {
    Held,
    Gone,
}

impl WorkerActor {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            taken: Vec::new(),
            unanswered: Vec::new(),
            held: Vec::new(),
            lost: Vec::new(),
        }
    }

    pub(super) async fn step(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        let roll = rng.random_range(0..100);
        let told = match roll {
            0..30 if !self.taken.is_empty() => self.claim_one(world, rng).await?,
            30..40 if !self.lost.is_empty() => {
                let held = self.lost.swap_remove(rng.random_range(0..self.lost.len()));
                format!("wakes: {}", self.go_on(held, world, rng).await?)
            }
            40..44 if !self.held.is_empty() => {
                let held = self.held.swap_remove(rng.random_range(0..self.held.len()));
                let told = format!("vanishes with job {}", held.claim.job_id);
                self.lose(held);
                told
            }
            44..50 if !self.unanswered.is_empty() => {
                let (id, name) = (self.unanswered.swap_remove(0), self.name);
                let disown = async move |conn: &mut SystemConn| jobs::disown(conn, id, name).await;
                format!("disowns job {id}: {}", world.db.system(disown).await?)
            }
            50.. if !self.held.is_empty() => {
                let held = self.held.swap_remove(rng.random_range(0..self.held.len()));
                self.go_on(held, world, rng).await?
            }
            _ if self.held.len() < MAX_HELD => match world.queue.take(&[LOCATION.to_owned()]).await? {
                Some(id) => {
                    self.taken.push(id);
                    format!("takes job {id}")
                }
                None => "finds nothing".to_owned(),
            },
            _ => "rests".to_owned(),
        };
        Ok(format!("{}: {told}", self.name))
    }

    /// Does the next step of a job, and keeps it where it belongs.
    async fn go_on(&mut self, mut held: Held, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        let (after, told) = held.act(world, rng).await?;
        let told = format!("job {} epoch {}: {told}", held.claim.job_id, held.claim.epoch);
        match after {
            After::Held => self.held.push(held),
            After::Gone => self.lose(held),
        }
        Ok(told)
    }

    fn lose(&mut self, held: Held) {
        if self.lost.len() == MAX_LOST {
            self.lost.remove(0);
        }
        self.lost.push(held);
    }

    async fn claim_one(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        let id = self.taken.swap_remove(rng.random_range(0..self.taken.len()));
        if rng.random_bool(0.05) {
            return Ok(format!("is killed between the take and the claim of job {id}"));
        }
        Ok(match claim(world, id, self.name).await? {
            Claiming::Claimed(_) if rng.random_bool(0.05) => {
                self.unanswered.push(id);
                format!("claims job {id}, and the answer is lost")
            }
            Claiming::Claimed(claim) => {
                let told = format!("claims job {id}, a {}, epoch {}", claim.kind, claim.epoch);
                self.held.push(Held::new(claim));
                told
            }
            Claiming::Full(job) => {
                world.queue.put_back_parked(&job).await?;
                format!("puts job {id} back: its company is at its limit")
            }
            Claiming::Gone => format!("drops job {id}"),
        })
    }

    /// Takes a job, if there is one, and does all of it, without any trouble.
    pub(super) async fn take_and_run(&mut self, world: &World) -> anyhow::Result<bool> {
        let Some(id) = world.queue.take(&[LOCATION.to_owned()]).await? else {
            return Ok(false);
        };
        match claim(world, id, self.name).await? {
            Claiming::Claimed(claim) => run_to_the_end(world, claim).await?,
            Claiming::Full(job) => world.queue.put_back_parked(&job).await?,
            Claiming::Gone => {}
        }
        Ok(true)
    }
}

/// Does all of a job, without any trouble.
pub(super) async fn run_to_the_end(world: &World, claim: Claim) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(claim.job_id.0.unsigned_abs());
    let mut held = Held::new(claim);
    while held.progress(world, &mut rng).await?.0 == After::Held {}
    Ok(())
}

pub(super) async fn claim(world: &World, id: JobId, name: &'static str) -> anyhow::Result<Claiming> {
    let claim = async move |conn: &mut SystemConn| jobs::claim(conn, id, name, LEASE).await;
    Ok(world.db.system(claim).await?)
}

impl Held {
    fn new(claim: Claim) -> Self {
        Self {
            claim,
            unsent: None,
            last_batch: Vec::new(),
            last_flush: Vec::new(),
        }
    }

    /// Goes on, or does something else that a worker may do.
    async fn act(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        let claim = self.claim.clone();
        match rng.random_range(0..100) {
            0..6 => {
                let renew = async move |conn: &mut TenantConn| jobs::renew(conn, &claim, LEASE).await;
                let flag = world
                    .fenced(&self.claim, world.db.tenant(self.claim.company_id, renew))
                    .await?;
                Ok((after(flag.is_some()), format!("renews: {flag:?}")))
            }
            6..12 => self.release(world, rng).await,
            12..14 if claim.kind != JobKind::Finish => {
                let fail = async move |conn: &mut TenantConn| {
                    jobs::fail_session(conn, &claim, SessionErrorCode::NoSuchBucket, "no bucket").await
                };
                self.ended(
                    world,
                    rng,
                    "fails its session",
                    world.db.tenant(self.claim.company_id, fail),
                )
                .await
            }
            14..24 if !self.last_batch.is_empty() => {
                let again = self.emit(world, self.last_batch.clone()).await?;
                if let Some((StopFlag::Run, Some(job))) = again {
                    anyhow::bail!("I8: a repeated batch added job {}", job.id);
                }
                Ok((after(again.is_some()), "repeats its last batch".to_owned()))
            }
            14..24 if !self.last_flush.is_empty() => {
                let again = self.record(world, self.last_flush.clone()).await?;
                Ok((after(again.is_some()), "repeats its last flush".to_owned()))
            }
            24..30 if claim.kind == JobKind::Upload => self.await_store(world, rng).await,
            _ => self.progress(world, rng).await,
        }
    }

    /// Meets a store that is away: the session waits, or has waited long enough.
    async fn await_store(&self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        let (claim, hour) = (self.claim.clone(), Duration::from_secs(3600));
        let is_last = rng.random_bool(0.2);
        let away = StoreAway {
            detail: "no store".to_owned(),
            delay: if rng.random_bool(0.5) {
                hour
            } else {
                Duration::ZERO
            },
            patience: if is_last { Duration::ZERO } else { hour },
            is_last,
        };
        let wait = async move |conn: &mut TenantConn| jobs::await_store(conn, &claim, LEASE, &away).await;
        let wait = world.db.tenant(self.claim.company_id, wait);
        self.ended(world, rng, "waits for the store", wait).await
    }

    /// What a worker does that nothing happens to: stops where it is told to, else the next piece of work.
    async fn progress(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        let claim = self.claim.clone();
        let renew = async move |conn: &mut TenantConn| jobs::renew(conn, &claim, LEASE).await;
        let Some(flag) = world
            .fenced(&self.claim, world.db.tenant(self.claim.company_id, renew))
            .await?
        else {
            return Ok((After::Gone, "is refused".to_owned()));
        };
        match (self.claim.kind, flag) {
            (JobKind::Finish, _) => self.finish(world, rng).await,
            (_, StopFlag::Cancel | StopFlag::Fail) => self.end(world, rng, Ending::Cancelled).await,
            (_, StopFlag::Pause) => self.release(world, rng).await,
            (JobKind::Scan, StopFlag::Run) => self.scan(world, rng).await,
            (JobKind::Upload, StopFlag::Run) => self.upload(world, rng).await,
        }
    }

    async fn scan(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        if self.unsent.is_none() {
            self.unsent = Some(self.walk(world, rng).await?);
        }
        let unsent = self.unsent.as_mut().unwrap();
        if unsent.is_empty() {
            return self.end(world, rng, Ending::ScanComplete).await;
        }
        let rest = unsent.split_off(unsent.len().min(rng.random_range(1..=MAX_BATCH)));
        let batch = std::mem::replace(unsent, rest);
        let told = format!(
            "records files {}..={}",
            batch[0].number,
            batch[batch.len() - 1].number
        );
        let Some((flag, job)) = self.emit(world, batch.clone()).await? else {
            return Ok((After::Gone, format!("{told}: refused")));
        };
        if flag == StopFlag::Run {
            self.last_batch = batch;
        } else {
            // Nothing was recorded: the next holder walks again.
            self.unsent = None;
        }
        Ok((After::Held, format!("{told}{}", push(world, rng, job).await?)))
    }

    /// What the walk finds beyond what is recorded.
    async fn walk(&self, world: &World, rng: &mut StdRng) -> anyhow::Result<Vec<FoundFile>> {
        let id = self.claim.session_id;
        let recorded = async move |conn: &mut TenantConn| jobs::recorded_paths(conn, id, 0, 10_000).await;
        let recorded = world.db.tenant(self.claim.company_id, recorded).await?;
        let mut number = recorded.last().map_or(0, |(number, _)| *number);
        let recorded: HashSet<String> = recorded.into_iter().map(|(_, path)| path.text).collect();
        let mut found = Vec::new();
        for file in 1..=world.source_files(id) {
            let path = PathText::from_bytes(format!("folder/file {file}").as_bytes());
            if recorded.contains(&path.text) {
                continue;
            }
            number += 1;
            let (status, error) = match rng.random_range(0..12) {
                0 => (FileStatus::Skipped, Some(FileErrorCode::SymlinkRefused)),
                1 => (FileStatus::Failed, Some(FileErrorCode::NameCollision)),
                _ => (FileStatus::Pending, None),
            };
            found.push(FoundFile {
                number,
                path,
                size_bytes: 10 * file,
                modified_at: None,
                status,
                error: error.map(|code| (code, "as the walk saw it".to_owned())),
                planned: None,
                object: jobs::ObjectMarks::default(),
            });
        }
        Ok(found)
    }

    async fn emit(
        &self,
        world: &World,
        files: Vec<FoundFile>,
    ) -> anyhow::Result<Option<(StopFlag, Option<QueuedJob>)>> {
        let claim = self.claim.clone();
        let emit =
            async move |conn: &mut TenantConn| jobs::emit_batch(conn, &claim, LEASE, LOCATION, &files).await;
        world
            .fenced(&self.claim, world.db.tenant(self.claim.company_id, emit))
            .await
    }

    async fn upload(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        let (id, numbers) = (self.claim.session_id, self.claim.numbers.unwrap());
        let pending = async move |conn: &mut TenantConn| jobs::pending_files(conn, id, numbers).await;
        let mut files = world.db.tenant(self.claim.company_id, pending).await?;
        let Some(first) = files.first().map(|file| file.number) else {
            return self.end(world, rng, Ending::Done).await;
        };
        if self.claim.is_isolated() {
            files.truncate(1);
            let claim = self.claim.clone();
            let suspect = async move |conn: &mut TenantConn| jobs::suspect(conn, &claim, LEASE, first).await;
            if rng.random_bool(0.5) {
                let named = world
                    .fenced(&self.claim, world.db.tenant(self.claim.company_id, suspect))
                    .await?;
                return Ok((after(named.is_some()), format!("names file {first}")));
            }
        }
        if rng.random_bool(0.2) {
            let (claim, upload) = (self.claim.clone(), format!("upload-{}", self.claim.epoch));
            let open = async move |conn: &mut TenantConn| {
                jobs::multipart_opened(conn, &claim, LEASE, first, &upload, 8 << 20).await
            };
            let opened = world
                .fenced(&self.claim, world.db.tenant(self.claim.company_id, open))
                .await?;
            return Ok((
                after(opened.is_some()),
                format!("opens a multipart upload of file {first}"),
            ));
        }
        files.retain(|file| file.number == first || rng.random_bool(0.5));
        let outcomes: Vec<FileOutcome> = files.iter().map(|file| self.outcome(file, rng)).collect();
        let recorded = self.record(world, outcomes.clone()).await?;
        self.last_flush = outcomes;
        let told = format!("records {} outcomes from file {first}: {recorded:?}", files.len());
        Ok((after(recorded.is_some()), told))
    }

    /// The ETag tells the audit who wrote it.
    fn outcome(&self, file: &PendingFile, rng: &mut StdRng) -> FileOutcome {
        let status = match rng.random_range(0..10) {
            0 => FileStatus::Failed,
            1 => FileStatus::Skipped,
            _ => FileStatus::Uploaded,
        };
        FileOutcome {
            number: file.number,
            status,
            planned_size_bytes: file.size_bytes,
            size_bytes: file.size_bytes + rng.random_range(0..3),
            modified_at: None,
            attempts: file.attempts + 1,
            etag: Some(format!("{}/{}", self.claim.job_id, self.claim.epoch)),
            checksum: None,
            error: (status == FileStatus::Failed).then(|| (FileErrorCode::FileVanished, "gone".to_owned())),
            started_at: Utc::now(),
            finished_at: Utc::now(),
        }
    }

    async fn record(&self, world: &World, outcomes: Vec<FileOutcome>) -> anyhow::Result<Option<StopFlag>> {
        let claim = self.claim.clone();
        let record =
            async move |conn: &mut TenantConn| jobs::record_outcomes(conn, &claim, LEASE, &outcomes).await;
        world
            .fenced(&self.claim, world.db.tenant(self.claim.company_id, record))
            .await
    }

    async fn finish(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        let (claim, id) = (self.claim.clone(), self.claim.session_id);
        if rng.random_bool(0.3) {
            let open = async move |conn: &mut TenantConn| jobs::open_uploads(conn, id, 0, 100).await;
            let open = world.db.tenant(self.claim.company_id, open).await?;
            let numbers: Vec<i64> = open.into_iter().map(|(number, ..)| number).collect();
            let told = format!("aborts uploads of {} files", numbers.len());
            let abort =
                async move |conn: &mut TenantConn| jobs::uploads_aborted(conn, &claim, LEASE, &numbers).await;
            let aborted = world
                .fenced(&self.claim, world.db.tenant(self.claim.company_id, abort))
                .await?;
            return Ok((after(aborted.is_some()), told));
        }
        let finish = async move |conn: &mut TenantConn| {
            jobs::finish_session(conn, &claim, LEASE)
                .await
                .map(|_status| None)
        };
        self.ended(
            world,
            rng,
            "finishes its session",
            world.db.tenant(self.claim.company_id, finish),
        )
        .await
    }

    async fn end(&self, world: &World, rng: &mut StdRng, ending: Ending) -> anyhow::Result<(After, String)> {
        let claim = self.claim.clone();
        let end = async move |conn: &mut TenantConn| jobs::end(conn, &claim, ending).await;
        self.ended(world, rng, "ends", world.db.tenant(self.claim.company_id, end))
            .await
    }

    async fn release(&self, world: &World, rng: &mut StdRng) -> anyhow::Result<(After, String)> {
        let claim = self.claim.clone();
        let delay = Duration::from_secs(if rng.random_bool(0.3) { 3600 } else { 0 });
        let error = rng.random_bool(0.3).then_some("it may pass");
        let release =
            async move |conn: &mut TenantConn| jobs::release(conn, &claim, delay, error).await.map(|()| None);
        self.ended(
            world,
            rng,
            "gives back",
            world.db.tenant(self.claim.company_id, release),
        )
        .await
    }

    /// A write that ends the hold of the job, whatever the answer.
    async fn ended(
        &self,
        world: &World,
        rng: &mut StdRng,
        what: &str,
        write: impl Future<Output = Result<Option<QueuedJob>, JobError>>,
    ) -> anyhow::Result<(After, String)> {
        let Some(finish) = world.fenced(&self.claim, write).await? else {
            return Ok((After::Gone, format!("{what}: refused")));
        };
        world.moved_once(&self.claim).await?;
        ensure!(
            finish.is_none() || self.claim.kind != JobKind::Finish,
            "a finish job adds no other"
        );
        if self.claim.is_limited {
            world
                .queue
                .ensure_ring(&[(LOCATION.to_owned(), self.claim.company_id)])
                .await?;
        }
        Ok((After::Gone, format!("{what}{}", push(world, rng, finish).await?)))
    }
}

fn after(was_taken: bool) -> After {
    if was_taken { After::Held } else { After::Gone }
}

async fn push(world: &World, rng: &mut StdRng, job: Option<QueuedJob>) -> anyhow::Result<String> {
    let Some(job) = job else { return Ok(String::new()) };
    let id = job.id;
    if rng.random_bool(0.85) {
        world.queue.push(&[job]).await?;
        Ok(format!(", adds job {id}"))
    } else {
        Ok(format!(", adds job {id}, the push is lost"))
    }
}
