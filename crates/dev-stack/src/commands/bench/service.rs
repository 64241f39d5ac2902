//! The whole product as a contestant: a session made by the API until it is completed, with every file recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use dev_stack::stack::ADMIN_USERNAME;
use dev_stack::{Stack, StackOptions};
use serde_json::{Value, json};

use super::processes;
use super::run::{Cpu, Run};
use super::sets::DataSet;
use super::sink_process::{BUCKET, Sink};
use crate::commands::api::{Api, text};
use crate::commands::company::{Company, Store, Target};

const ROOT: &str = "sets";
/// How often the session is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What part of the shortest run so far nobody looks: each look costs the gateway and Postgres.
const UNSEEN: f64 = 0.8;
/// How long the product has to come to rest: after its start, and before each run.
const REST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(300);

pub(super) struct Service {
    stack: Stack,
    company: Company,
    /// Where the last upload went.
    last_target: Option<Target>,
    /// What a worker and the gateway have in memory while nothing is to be done.
    pub(super) idle: Idle,
    pub(super) postgres_version: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) worker_bytes: u64,
    pub(super) gateway_bytes: u64,
}

impl Service {
    pub(super) async fn start(
        folder: &Path,
        sets: &Path,
        sink: &Sink,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let mut stack = Stack::start(StackOptions {
            workers,
            source_roots: Some(format!("{ROOT}={}", sets.display())),
            shutdown_grace_s: 5,
            ..StackOptions::in_folder(folder)
        })
        .await?;
        tokio::time::sleep(REST).await;
        let worker = stack
            .worker_pids()
            .first()
            .copied()
            .context("there is no worker")?;
        let idle = Idle {
            worker_bytes: processes::resident_bytes(worker)?,
            gateway_bytes: processes::resident_bytes(stack.gateway().pid())?,
        };
        let gateways: Arc<[String]> = Arc::new([stack.api_url()]);
        let admin = Api::new(gateways.clone(), ADMIN_USERNAME, stack.admin_password());
        let store = Store {
            bucket: BUCKET.to_owned(),
            endpoint_url: sink.endpoint_url().to_owned(),
            access_key_id: "bench".to_owned(),
            secret_access_key: "bench-secret".to_owned(),
        };
        let company = Company::enter_with(&admin, gateways, 1, &store).await?;
        let postgres_version = stack.run_sql("SHOW server_version").await?;
        Ok(Self {
            stack,
            company,
            last_target: None,
            idle,
            postgres_version,
        })
    }

    /// Puts `count` new workers in the places of those that run: what an earlier set left in their memory would count for
    /// the next.
    pub(super) async fn renew_workers(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in self.stack.worker_pids() {
            self.stack.stop_worker(0).await?;
        }
        for _ in 0..count {
            self.stack.start_worker()?;
        }
        Ok(())
    }

    /// Uploads a set once. Gives its figures and what the keys begin with.
    ///
    /// # Errors
    /// When the session does not come to its end with every file recorded as uploaded.
    pub(super) async fn upload(
        &mut self,
        set: &DataSet,
        sink: &Sink,
        shortest_s: f64,
    ) -> anyhow::Result<(Run, String)> {
        let target = self.company.target().await?;
        let request =
            json!({ "cycle_id": target.cycle_id, "source": { "root": ROOT, "path": set.folder() } });
        let run = self.session(request, "uploaded", set, sink, shortest_s).await?;
        let prefix = target.prefix.clone();
        self.last_target = Some(target);
        Ok((run, prefix))
    }

    /// Looks for what is new in the set that was uploaded last: nothing.
    ///
    /// # Errors
    /// When the session does not come to its end with every file recorded as skipped.
    pub(super) async fn compare(
        &mut self,
        set: &DataSet,
        sink: &Sink,
        shortest_s: f64,
    ) -> anyhow::Result<Run> {
        let target = self.last_target.as_ref().context("nothing was uploaded")?;
        let request = json!({
            "cycle_id": target.cycle_id,
            "source": { "root": ROOT, "path": set.folder() },
            "settings": { "on_existing": "skip_unchanged" },
        });
        self.session(request, "skipped", set, sink, shortest_s).await
    }

    /// Makes a session, and waits until every file is as `outcome` says.
    async fn session(
        &mut self,
        request: Value,
        outcome: &str,
        set: &DataSet,
        sink: &Sink,
        shortest_s: f64,
    ) -> anyhow::Result<Run> {
        let wal_before = self.wal_position().await?;
        // Postgres has ended what the question was asked by, before its time is taken.
        tokio::time::sleep(PAUSE).await;
        for pid in self.stack.worker_pids() {
            processes::reset_peak(pid)?;
        }
        let before = self.cpu(sink)?;
        let begun = Instant::now();
        let session = self.company.api.post("/api/sessions", request).await?;
        let id = text(&session, "id")?;
        let unseen = Duration::from_secs_f64(shortest_s * UNSEEN);
        tokio::time::sleep(unseen.saturating_sub(begun.elapsed())).await;
        self.completed(&id, outcome, set).await?;
        let wall_s = begun.elapsed().as_secs_f64();
        let cpu = self.cpu(sink)?.since(&before);
        let peaks = self.stack.worker_pids().into_iter().map(processes::peak_bytes);
        let peak_bytes = peaks.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let wal_bytes = self
            .stack
            .run_sql(&format!("SELECT pg_current_wal_lsn() - '{wal_before}'"))
            .await?;
        Ok(Run {
            wall_s,
            cpu,
            peak_bytes: peak_bytes.unwrap_or(0),
            wal_bytes: Some(wal_bytes.parse()?),
            first_file_ms: self.first_file_ms(&id).await?,
        })
    }

    /// Waits for the end of a session, and looks at its counters.
    async fn completed(&self, id: &str, outcome: &str, set: &DataSet) -> anyhow::Result<()> {
        let path = format!("/api/sessions/{id}");
        loop {
            let session = self.company.api.get(&path).await?;
            match text(&session, "status")?.as_str() {
                "completed" => {
                    let counted = (
                        session["files"][outcome].as_u64(),
                        session["bytes"][outcome].as_u64(),
                    );
                    if counted != (Some(set.files as u64), Some(set.size_bytes())) {
                        bail!("the session is completed with other files than {set}: {session}");
                    }
                    return Ok(());
                }
                "pending" | "in_progress" => tokio::time::sleep(POLL).await,
                _ => bail!("the session did not complete: {session}"),
            }
        }
    }

    fn cpu(&mut self, sink: &Sink) -> anyhow::Result<Cpu> {
        let workers = self.stack.worker_pids().into_iter().map(processes::cpu_s);
        Ok(Cpu {
            client_s: workers.sum::<anyhow::Result<f64>>()?,
            postgres_s: Some(processes::family_cpu_s(self.stack.postgres().server().pid())?),
            redis_s: Some(processes::cpu_s(self.stack.redis().server().pid())?),
            gateway_s: Some(processes::cpu_s(self.stack.gateway().pid())?),
            sink_s: sink.cpu_s()?,
        })
    }

    async fn wal_position(&self) -> anyhow::Result<String> {
        self.stack.run_sql("SELECT pg_current_wal_lsn()").await
    }

    /// From the first claim of the session's scan until work on its first file began, by the database's notes; none where
    /// no file was begun.
    async fn first_file_ms(&self, id: &str) -> anyhow::Result<Option<f64>> {
        let query = format!(
            "SELECT 1000 * extract(epoch FROM (SELECT min(f.started_at) FROM file_uploads f WHERE f.session_id = s.id)
                 - s.started_at) FROM sync_sessions s WHERE s.id = '{id}'"
        );
        let told = self.stack.run_sql(&query).await?;
        Ok((!told.is_empty()).then(|| told.parse()).transpose()?)
    }

    pub(super) async fn stop(self) {
        self.stack.stop().await;
    }
}
