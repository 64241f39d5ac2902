//! The services of a run, and the eyes on them.

use anyhow::{Context, ensure};
use database::jobs::{Claim, JobError};
use database::projects::NewProject;
use database::{Database, TenantConn, migrate};
use dev_stack::test_cluster::TestCluster;
use domain::status::UnknownValue;
use domain::{
    ANY_LOCATION, CompanyId, CycleId, FileStatus, JobId, JobState, ProjectId, QueuedJob, SessionId,
    SessionStatus,
};
use queue::Queue;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_postgres::NoTls;

/// A lease that never ends by itself: trouble ends leases, so that a seed says when.
pub(super) const LEASE: Duration = Duration::from_secs(3600);
/// The source root of all sessions.
pub(super) const LOCATION: &str = "samples";
const PREFIX: &str = "t:";

/// A Redis of this test, and the Postgres of the test process.
pub(super) struct Services {
    redis: dev_stack::Redis,
    _folder: tempfile::TempDir,
    worlds: AtomicU64,
}

impl Services {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            redis: dev_stack::Redis::start(folder.path()).await.unwrap(),
            _folder: folder,
            worlds: AtomicU64::new(0),
        }
    }

    /// A world with two companies, one of which may run two upload jobs at a time. `is_sequential`: one step ends
    /// before the next begins, so that what a step changed can be told.
    pub(super) async fn world(&self, is_sequential: bool) -> World {
        let cluster = TestCluster::get_or_start(async |owner, app| {
            migrate::migrate(owner, app).await?;
            Ok(())
        })
        .await
        .unwrap();
        let urls = cluster.fresh_database().await.unwrap();
        let (sql, connection) = tokio_postgres::connect(&urls.superuser_url, NoTls).await.unwrap();
        tokio::spawn(connection);
        sql.batch_execute(include_str!("audit.sql")).await.unwrap();
        // Redis has 16 databases; the one before the last is not used any more.
        let number = self.worlds.fetch_add(1, Ordering::Relaxed) % 16;
        let redis_url = self.redis.url().strip_suffix("/0").unwrap().to_owned() + &format!("/{number}");
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(60)))
            .set_response_timeout(None);
        let redis = redis::Client::open(redis_url.as_str())
            .unwrap()
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap();
        let mut world = World {
            db: Database::new(&urls.app_url, 12).unwrap(),
            queue: Queue::with_prefix(&redis_url, PREFIX).await.unwrap(),
            sql,
            redis,
            is_sequential,
            companies: Vec::new(),
            sessions: Mutex::default(),
        };
        world.forget().await.unwrap();
        world.add_company("FREE", None).await;
        world.add_company("LIMITED", Some(2)).await;
        world
    }
}

/// One database, one Redis, and what the test knows that they do not.
pub(super) struct World {
    pub(super) db: Database,
    pub(super) queue: Queue,
    pub(super) sql: tokio_postgres::Client,
    redis: redis::aio::MultiplexedConnection,
    is_sequential: bool,
    pub(super) companies: Vec<(CompanyId, CycleId)>,
    /// How many files the source of each session has.
    pub(super) sessions: Mutex<Vec<(CompanyId, SessionId, i64)>>,
}

impl World {
    async fn add_company(&mut self, code: &str, limit: Option<i32>) {
        let (company, project, cycle) = (CompanyId::new(), ProjectId::new(), CycleId::new());
        let limit = limit.map_or("NULL".to_owned(), |limit| limit.to_string());
        self.sql
            .batch_execute(&format!(
                "INSERT INTO companies (id, company_name, company_code, max_concurrent_jobs)
                 VALUES ('{company}', '{code}', '{code}', {limit})"
            ))
            .await
            .unwrap();
        let new = NewProject {
            name: "Deliveries".into(),
            description: String::new(),
            bucket: "bucket".into(),
            region: "us-east-1".into(),
            endpoint_url: None,
            prefix: "p/".into(),
            aws_profile: None,
            credentials_sealed: None,
            storage_class: None,
            is_active: true,
        };
        let create = async move |conn: &mut TenantConn| database::projects::create(conn, project, new).await;
        self.db.tenant(company, create).await.unwrap();
        self.sql
            .batch_execute(&format!(
                "INSERT INTO cycles (id, company_id, project_id, cycle_number, cycle_name, s3_prefix)
                 VALUES ('{cycle}', '{company}', '{project}', 1, 'C1', 'C1/')"
            ))
            .await
            .unwrap();
        self.companies.push((company, cycle));
    }

    /// How many files the source of a session has.
    pub(super) fn source_files(&self, session: SessionId) -> i64 {
        let sessions = self.sessions.lock().unwrap();
        sessions
            .iter()
            .find(|(_, id, _)| *id == session)
            .map_or(0, |(.., files)| *files)
    }

    /// Redis loses everything.
    pub(super) async fn forget(&self) -> anyhow::Result<()> {
        Ok(redis::cmd("FLUSHDB").query_async(&mut self.redis.clone()).await?)
    }

    /// Redis loses one list, or one ring, or the wake tokens.
    pub(super) async fn lose_key(&self, which: usize) -> anyhow::Result<()> {
        let mut keys = self.keys("*").await?;
        keys.sort_unstable();
        if !keys.is_empty() {
            let key = &keys[which % keys.len()];
            redis::cmd("DEL")
                .arg(key)
                .query_async::<()>(&mut self.redis.clone())
                .await?;
        }
        Ok(())
    }

    async fn keys(&self, pattern: &str) -> anyhow::Result<Vec<String>> {
        let pattern = format!("{PREFIX}{pattern}");
        Ok(redis::cmd("KEYS")
            .arg(pattern)
            .query_async(&mut self.redis.clone())
            .await?)
    }

    /// A job as it is pushed.
    pub(super) async fn queued(&self, id: JobId) -> anyhow::Result<Option<QueuedJob>> {
        let statement = "SELECT company_id::text, location FROM jobs WHERE id = $1";
        let row = self.sql.query_opt(statement, &[&id.0]).await?;
        row.map(|row| {
            let location: String = row.get(1);
            Ok(QueuedJob {
                id,
                company_id: CompanyId(row.get::<_, String>(0).parse()?),
                at_head: location == ANY_LOCATION,
                location,
            })
        })
        .transpose()
    }

    /// One of the jobs that `condition` (SQL) chooses, by `which`.
    pub(super) async fn any_job(&self, condition: &str, which: usize) -> anyhow::Result<Option<JobId>> {
        let statement = format!("SELECT id FROM jobs WHERE {condition} ORDER BY id");
        let rows = self.sql.query(&statement, &[]).await?;
        Ok((!rows.is_empty()).then(|| JobId(rows[which % rows.len()].get(0))))
    }

    /// Runs a write of a worker. `None`: it was refused. Where nobody else moves, it must be taken if and only if the
    /// job is the worker's, and change nothing where it is refused (I2).
    pub(super) async fn fenced<T>(
        &self,
        claim: &Claim,
        write: impl Future<Output = Result<T, JobError>>,
    ) -> anyhow::Result<Option<T>> {
        let before = if self.is_sequential {
            Some((self.holds(claim).await?, self.digest().await?))
        } else {
            None
        };
        let (job, epoch) = (claim.job_id, claim.epoch);
        match (write.await, before) {
            (Ok(_), Some((false, _))) => {
                anyhow::bail!("I2: job {job} was written under epoch {epoch}, which is over")
            }
            (Ok(value), _) => Ok(Some(value)),
            (Err(JobError::Fenced), Some((true, _))) => {
                anyhow::bail!("job {job} is its worker's under epoch {epoch}, and the write was refused")
            }
            (Err(JobError::Fenced), Some((false, digest))) => {
                ensure!(
                    digest == self.digest().await?,
                    "I2: a refused write of job {job} changed something"
                );
                Ok(None)
            }
            (Err(JobError::Fenced), None) => Ok(None),
            (Err(JobError::Database(error)), _) => Err(error).context("the database refused a write"),
        }
    }

    /// After an end or a release that was taken: it was noted once, under just this epoch.
    pub(super) async fn moved_once(&self, claim: &Claim) -> anyhow::Result<()> {
        let statement = "SELECT count(*) FROM audit WHERE kind = 'job' AND subject = $1 AND epoch = $2 AND old = 'running'";
        let subject = claim.job_id.to_string();
        let count: i64 = self
            .sql
            .query_one(statement, &[&subject, &claim.epoch])
            .await?
            .get(0);
        ensure!(
            count == 1,
            "I2: job {subject} left epoch {} {count} times",
            claim.epoch
        );
        Ok(())
    }

    async fn holds(&self, claim: &Claim) -> anyhow::Result<bool> {
        let statement = "SELECT FROM jobs WHERE id = $1 AND epoch = $2 AND state = 'running'";
        Ok(self
            .sql
            .query_opt(statement, &[&claim.job_id.0, &claim.epoch])
            .await?
            .is_some())
    }

    /// Of everything the protocol writes.
    async fn digest(&self) -> anyhow::Result<String> {
        let statement = "SELECT md5(coalesce((SELECT string_agg(j::text, ';' ORDER BY id) FROM jobs j), '')
                   || coalesce((SELECT string_agg(f::text, ';' ORDER BY session_id, number) FROM file_uploads f), '')
                   || coalesce((SELECT string_agg(s::text, ';' ORDER BY id) FROM sync_sessions s), ''))";
        Ok(self.sql.query_one(statement, &[]).await?.get(0))
    }

    /// Looks at every invariant.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let rows = self.sql.query(include_str!("violations.sql"), &[]).await?;
        let violations: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(violations.is_empty(), "{}", violations.join("\n"));
        // Each id once on its list, each company once on its ring (I4, I9).
        for key in [self.keys("ready:*").await?, self.keys("ring:*").await?].concat() {
            let mut command = redis::cmd("LRANGE");
            let mut items: Vec<String> = command
                .arg(&key)
                .arg(0)
                .arg(-1)
                .query_async(&mut self.redis.clone())
                .await?;
            let length = items.len();
            items.sort_unstable();
            items.dedup();
            ensure!(items.len() == length, "{key} has an entry twice");
        }
        Ok(())
    }

    /// Every change of a state that was noted is one that the tables in `domain` allow (I3), and every job was claimed
    /// once under each epoch (I4).
    pub(super) async fn check_transitions(&self) -> anyhow::Result<()> {
        let unknown = |error: UnknownValue| anyhow::anyhow!(error);
        let statement = "SELECT DISTINCT kind, old, new FROM audit WHERE old IS NOT NULL AND old <> new";
        for row in self.sql.query(statement, &[]).await? {
            let (kind, old, new): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let may = match kind.as_str() {
                "job" => old
                    .parse::<JobState>()
                    .map_err(unknown)?
                    .may_become(new.parse().map_err(unknown)?),
                "session" => old
                    .parse::<SessionStatus>()
                    .map_err(unknown)?
                    .may_become(new.parse().map_err(unknown)?),
                _ => old
                    .parse::<FileStatus>()
                    .map_err(unknown)?
                    .may_become(new.parse().map_err(unknown)?),
            };
            ensure!(may, "I3: a {kind} went from {old} to {new}");
        }
        let twice = "SELECT subject FROM audit WHERE kind = 'job' AND new = 'running' GROUP BY subject, epoch HAVING count(*) > 1
             UNION ALL SELECT subject FROM audit WHERE kind = 'session' AND new IN ('completed', 'completed_with_errors', 'failed', 'cancelled')
             GROUP BY subject, epoch HAVING count(*) > 1";
        let rows = self.sql.query(twice, &[]).await?;
        ensure!(
            rows.is_empty(),
            "claimed twice under one epoch, or ended twice in one run: {}",
            rows[0].get::<_, String>(0)
        );
        Ok(())
    }

    /// The numbers of a session's files that arrived.
    pub(super) async fn uploaded_files(&self, id: SessionId) -> anyhow::Result<Vec<i64>> {
        let statement = "SELECT number FROM file_uploads WHERE session_id::text = $1 AND status = 'uploaded'";
        let rows = self.sql.query(statement, &[&id.to_string()]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The status of each session.
    pub(super) async fn statuses(&self) -> anyhow::Result<HashMap<SessionId, SessionStatus>> {
        let rows = self
            .sql
            .query("SELECT id::text, status FROM sync_sessions", &[])
            .await?;
        rows.iter()
            .map(|row| {
                let id = SessionId(row.get::<_, String>(0).parse()?);
                Ok((id, row.get::<_, String>(1).parse()?))
            })
            .collect()
    }
}
