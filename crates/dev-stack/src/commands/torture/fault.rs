//! What is done to a stack while it works, and how it is undone.
//!
//! Nothing here waits long: what has to come back is put on a list with its time, so that faults overlap.

mod services;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dev_stack::process::Server;
use dev_stack::s3::Trouble;
use dev_stack::{Losing, S3Server, Stack, shifted_clock};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::arming::{Arming, end_in_order};
use super::editor::Editor;
use super::kind::{Edit, Kind};

/// The distance to the S3 server while somebody works on a source.
const FAR: Duration = Duration::from_millis(300);

const HOUR_S: i64 = 3_600;

/// A fault that was injected.
#[derive(Clone, Debug)]
pub(super) struct Injected {
    pub(super) kind: Kind,
    pub(super) at: Instant,
    /// By Postgres' clock, where it could be asked, and the upload jobs that were hit.
    pub(super) hit: Option<(f64, Vec<i64>)>,
}

pub(super) enum Undo {
    Continue(u32),
    Redis,
    RedisFull,
    Postgres,
    PostgresHangs,
    Connections,
    Commits,
    S3,
    S3Calm,
    Gateway(usize),
    Far,
}

/// Injects faults into one stack.
pub(super) struct Injector<'a> {
    pub(super) stack: &'a mut Stack,
    /// Gateways beside the stack's own.
    pub(super) gateways: Vec<Server>,
    pub(super) arming: Arming,
    /// One by one, however they were.
    pub(super) workers_killed: u64,
    /// The library that shifts a worker's clock.
    clock: PathBuf,
    dice: StdRng,
    pub(super) undo: Vec<(Instant, Undo)>,
    ending: Vec<JoinHandle<(ExitStatus, Option<Kind>)>>,
    /// PUT to S3 servers that have been stopped since.
    received_bytes: u64,
    latency: Duration,
    /// What is being uploaded.
    sources: Vec<Arc<Editor>>,
    editing: Vec<JoinHandle<io::Result<()>>>,
}

impl<'a> Injector<'a> {
    pub(super) fn new(
        stack: &'a mut Stack,
        gateways: Vec<Server>,
        arming: Arming,
        clock: PathBuf,
        dice: StdRng,
    ) -> Self {
        Self {
            stack,
            gateways,
            arming,
            workers_killed: 0,
            clock,
            dice,
            undo: Vec::new(),
            ending: Vec::new(),
            received_bytes: 0,
            latency: Duration::ZERO,
            sources: Vec::new(),
            editing: Vec::new(),
        }
    }

    /// The sources that somebody works on from now on.
    pub(super) fn set_sources(&mut self, sources: Vec<Arc<Editor>>) {
        self.sources = sources;
    }

    async fn edit_source(&mut self, edit: Edit) -> anyhow::Result<()> {
        // Best of all one that is being sent at this moment.
        let sql =
            "SELECT s.source_path, f.path FROM file_uploads f JOIN sync_sessions s ON s.id = f.session_id
                   WHERE f.status = 'uploading' AND f.path LIKE 'large-%' ORDER BY random() LIMIT 1";
        let answer = self.stack.run_sql(sql).await.unwrap_or_default();
        let (name, file) = answer.split_once('|').unzip();
        let busy = self
            .sources
            .iter()
            .find(|source| Some(source.name()) == name.map(OsStr::new));
        let index = self.dice.random_range(0..self.sources.len());
        let source = busy
            .or_else(|| self.sources.get(index))
            .context("no source")?
            .clone();
        let file = busy.and(file).map(str::to_owned);
        // Far from the server, so that a file is long on its way.
        self.set_latency(FAR);
        self.later(1_000..3_000, Undo::Far);
        let dice = StdRng::seed_from_u64(self.dice.random());
        self.editing.push(tokio::spawn(source.work(edit, file, dice)));
        Ok(())
    }

    /// Bytes of all PUT requests so far.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes + self.stack.s3().map_or(0, S3Server::received_bytes)
    }

    /// A new distance to the S3 server.
    pub(super) fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
        if let Some(s3) = self.stack.s3() {
            s3.set_latency(latency);
        }
    }

    /// Injects one fault; `None` where what it would hit is down already.
    pub(super) async fn inject(&mut self) -> anyhow::Result<Option<Injected>> {
        let kind = Kind::draw(&mut self.dice);
        let victim = self.dice.random_range(0..self.stack.workers().len().max(1));
        if !self.is_possible(kind, victim) {
            return Ok(None);
        }
        let worker = matches!(
            kind,
            Kind::WorkerKilled | Kind::WorkerStopped | Kind::WorkerTerminated | Kind::ClockShifted
        )
        .then_some(victim);
        let hit = match kind {
            Kind::SourceEdited(_) => None,
            _ => self.hit(worker).await,
        };
        let injected = Injected {
            kind,
            at: Instant::now(),
            hit,
        };
        match kind {
            Kind::WorkerKilled | Kind::WorkerStopped | Kind::WorkerTerminated | Kind::ClockShifted => {
                self.worker(kind, victim).await?;
            }
            Kind::WorkersKilled => {
                for _ in 0..self.stack.workers().len() {
                    self.kill_worker(0).await?;
                }
            }
            Kind::GatewayKilled => self.kill_gateway().await?,
            Kind::RedisFlushed | Kind::RedisAway | Kind::RedisAwayLong | Kind::RedisFull => {
                self.redis(kind).await?;
            }
            Kind::PostgresFast
            | Kind::PostgresImmediate
            | Kind::PostgresHangs
            | Kind::ConnectionsExhausted
            | Kind::CommitsLost => self.postgres(kind).await?,
            Kind::S3Away => {
                self.received_bytes = self.received_bytes();
                self.stack.stop_s3().await;
                self.later(500..3_000, Undo::S3);
            }
            Kind::S3Refuses
            | Kind::S3AnswersLost
            | Kind::S3Fails
            | Kind::S3Resets
            | Kind::S3Hangs
            | Kind::S3Stalls
            | Kind::S3Corrupts
            | Kind::S3Disguises
            | Kind::S3Expires
            | Kind::S3Bucketless
            | Kind::S3Narrow => self.trouble_s3(kind),
            Kind::SourceEdited(edit) => self.edit_source(edit).await?,
            Kind::SessionCancelled | Kind::SessionPaused | Kind::KilledAt(_) | Kind::StoppedAt(_) => {}
        }
        Ok(Some(injected))
    }

    fn is_possible(&mut self, kind: Kind, victim: usize) -> bool {
        let is_pending = |undo: fn(&Undo) -> bool| self.undo.iter().any(|(_, pending)| undo(pending));
        if kind == Kind::S3Away || kind.trouble().is_some() {
            return !is_pending(|undo| matches!(undo, Undo::S3 | Undo::S3Calm));
        }
        match kind {
            Kind::RedisAway | Kind::RedisAwayLong | Kind::RedisFlushed | Kind::RedisFull => {
                !is_pending(|undo| matches!(undo, Undo::Redis | Undo::RedisFull))
            }
            Kind::PostgresFast | Kind::PostgresImmediate | Kind::ConnectionsExhausted => {
                !is_pending(|undo| matches!(undo, Undo::Postgres | Undo::Connections))
            }
            Kind::PostgresHangs => !is_pending(|undo| matches!(undo, Undo::PostgresHangs)),
            Kind::CommitsLost => !is_pending(|undo| matches!(undo, Undo::Commits)),
            Kind::GatewayKilled => !is_pending(|undo| matches!(undo, Undo::Gateway(_))),
            // A stopped one hears nothing until it continues.
            Kind::WorkerStopped | Kind::WorkerTerminated => {
                let pid = self.stack.workers().get(victim).map(Server::pid);
                !self
                    .undo
                    .iter()
                    .any(|(_, undo)| matches!(undo, Undo::Continue(stopped) if Some(*stopped) == pid))
            }
            Kind::SourceEdited(_) => !self.sources.is_empty(),
            _ => true,
        }
    }

    async fn worker(&mut self, kind: Kind, victim: usize) -> anyhow::Result<()> {
        match kind {
            Kind::WorkerStopped => {
                let worker = self.stack.workers().get_mut(victim).context("no worker")?;
                worker.signal(Signal::STOP)?;
                let pid = worker.pid();
                self.later(1_000..8_000, Undo::Continue(pid));
            }
            Kind::WorkerTerminated => {
                let worker = self.stack.workers().remove(victim);
                self.ending.push(tokio::spawn(end_in_order(worker)));
                self.start_worker()?;
            }
            Kind::ClockShifted => {
                let ahead_s = if self.dice.random_bool(0.5) {
                    HOUR_S
                } else {
                    -HOUR_S
                };
                self.stack.kill_worker(victim).await?;
                self.workers_killed += 1;
                let mut variables = shifted_clock::variables(&self.clock, ahead_s).to_vec();
                variables.push(self.arming.worker());
                self.stack.start_worker_with(&variables)?;
            }
            _ => self.kill_worker(victim).await?,
        }
        Ok(())
    }

    async fn kill_worker(&mut self, victim: usize) -> anyhow::Result<()> {
        self.stack.kill_worker(victim).await?;
        self.workers_killed += 1;
        self.start_worker()
    }

    /// Starts a worker that dies at some points.
    pub(super) fn start_worker(&mut self) -> anyhow::Result<()> {
        let armed = self.arming.worker();
        self.stack.start_worker_with(&[armed])
    }

    async fn kill_gateway(&mut self) -> anyhow::Result<()> {
        let victim = self.dice.random_range(0..=self.gateways.len());
        self.gateway(victim)?.kill().await?;
        self.later(0..2_000, Undo::Gateway(victim));
        Ok(())
    }

    /// The stack's own is the first.
    pub(super) fn gateway(&mut self, index: usize) -> anyhow::Result<&mut Server> {
        match index.checked_sub(1) {
            None => Ok(self.stack.gateway()),
            Some(index) => self.gateways.get_mut(index).context("no such gateway"),
        }
    }

    fn trouble_s3(&mut self, kind: Kind) {
        if let (Some(s3), Some(trouble)) = (self.stack.s3(), kind.trouble()) {
            s3.set_trouble(trouble);
        }
        self.later(500..4_000, Undo::S3Calm);
    }

    pub(super) fn later(&mut self, range_ms: std::ops::Range<u64>, undo: Undo) {
        let after = Duration::from_millis(self.dice.random_range(range_ms));
        self.undo.push((Instant::now() + after, undo));
    }

    /// Undoes what is due; with `all`, everything there is.
    pub(super) async fn undo(&mut self, all: bool) -> anyhow::Result<()> {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.undo)
            .into_iter()
            .partition(|(at, _)| all || *at <= now);
        self.undo = later;
        let due: Vec<(Instant, Undo)> = due;
        if all {
            for editing in self.editing.drain(..) {
                editing.await??;
            }
        }
        for (_, undo) in due {
            match undo {
                Undo::Continue(pid) => {
                    let worker = self.stack.workers().iter_mut().find(|worker| worker.pid() == pid);
                    // It may have been killed meanwhile.
                    if let Some(worker) = worker {
                        worker.signal(Signal::CONT)?;
                    }
                }
                Undo::Redis => self.stack.start_redis().await?,
                Undo::RedisFull => self.stack.redis().run("CONFIG SET maxmemory 0").await.map(drop)?,
                Undo::Postgres => self.stack.postgres().start_again().await?,
                Undo::PostgresHangs => self.proxy()?.go_on(),
                Undo::Connections => self.stack.run_sql(services::ADMIT).await.map(drop)?,
                Undo::Commits => self.proxy()?.set_losing(Losing::Nothing),
                Undo::S3 => {
                    self.stack.start_s3().await?;
                    self.set_latency(self.latency);
                }
                Undo::S3Calm => {
                    if let Some(s3) = self.stack.s3() {
                        s3.set_trouble(Trouble::default());
                    }
                }
                Undo::Far => self.set_latency(Duration::ZERO),
                // It waits by itself for what it needs.
                Undo::Gateway(index) => {
                    let (name, schedule) = self.arming.gateway();
                    let gateway = self.gateway(index)?;
                    *gateway = gateway.command().clone().env(name, schedule).spawn()?;
                }
            }
        }
        Ok(())
    }

    /// Waits for the workers that were asked to end: each must have ended in order, or died at a point.
    pub(super) async fn ended(&mut self, faults: &mut Vec<Injected>) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for ending in self.ending.drain(..) {
            let (status, blow) = ending.await?;
            if let Some(kind @ Kind::KilledAt(_)) = blow {
                let at = Instant::now();
                faults.push(Injected { kind, at, hit: None });
                self.workers_killed += 1;
            } else if status.code() != Some(0) {
                wrong.push(format!("a worker that was asked to end did so with {status}"));
            }
        }
        Ok(wrong)
    }

    /// The upload jobs that are running: of one worker, or of all.
    pub(super) async fn hit(&mut self, worker: Option<usize>) -> Option<(f64, Vec<i64>)> {
        let of_worker = match worker {
            Some(index) => {
                let pid = self.stack.workers().get(index)?.pid();
                format!("AND worker_id LIKE '{pid}-%'")
            }
            None => String::new(),
        };
        let sql = format!(
            "SELECT extract(epoch FROM clock_timestamp()), string_agg(id::text, ',')
             FROM jobs WHERE state = 'running' AND kind = 'upload' {of_worker}"
        );
        let answer = self.stack.run_sql(&sql).await.ok()?;
        let (at, jobs) = answer.split_once('|')?;
        let jobs = jobs.split(',').filter_map(|id| id.parse().ok()).collect();
        Some((at.parse().ok()?, jobs))
    }
}
