//! A database with a company, a project and a cycle, and the short ways tests take through it.

use database::jobs::{self, Claim, Claiming, Ending, FileOutcome, FoundFile, JobError};
use database::projects::NewProject;
use database::sessions::{self, Moved, NewSession, Session, SessionError};
use database::sweep::{self, Overdue};
use database::{Database, DatabaseError, SystemConn, TenantConn, migrate};
use dev_stack::test_cluster::{TestCluster, TestDatabase};
use domain::object_key::PathText;
use domain::{
    CompanyId, CycleId, FileStatus, JobId, ProjectId, QueuedJob, SessionId, SessionSettings, UserId,
};
use std::time::Duration;

/// Runs one piece of work in a transaction of the fixture's company.
macro_rules! write {
    ($fixture:expr, |$conn:ident| $work:expr) => {
        $fixture
            .db
            .tenant($fixture.company, async move |$conn: &mut TenantConn| $work.await)
            .await
    };
}
pub(crate) use write;

pub const LEASE: Duration = Duration::from_secs(30);

pub struct Fixture {
    pub db: Database,
    pub urls: TestDatabase,
    pub company: CompanyId,
    pub project: ProjectId,
    pub cycle: CycleId,
    pub user: UserId,
}

pub async fn cluster() -> &'static TestCluster {
    TestCluster::get_or_start(async |owner, app| {
        migrate::migrate(owner, app).await?;
        Ok(())
    })
    .await
    .unwrap()
}

impl Fixture {
    pub async fn new() -> Self {
        let urls = cluster().await.fresh_database().await.unwrap();
        let db = Database::new(&urls.app_url, 8).unwrap();
        let mut fixture = Self {
            db,
            urls,
            company: CompanyId::new(),
            project: ProjectId::new(),
            cycle: CycleId::new(),
            user: UserId::new(),
        };
        (fixture.company, fixture.project, fixture.cycle) = fixture.add_company("ACME").await;
        fixture
    }

    /// Another company with a project and a cycle of its own.
    pub async fn add_company(&self, code: &str) -> (CompanyId, ProjectId, CycleId) {
        let (company, project) = (CompanyId::new(), ProjectId::new());
        self.sql(&format!(
            "INSERT INTO companies (id, company_name, company_code) VALUES ('{company}', '{code}', '{code}')"
        ))
        .await;
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
        self.db
            .tenant(company, async move |conn: &mut TenantConn| {
                database::projects::create(conn, project, new).await
            })
            .await
            .unwrap();
        (company, project, self.add_cycle(company, project, 1).await)
    }

    pub async fn add_cycle(&self, company: CompanyId, project: ProjectId, number: u32) -> CycleId {
        let cycle = CycleId::new();
        self.sql(&format!(
            "INSERT INTO cycles (id, company_id, project_id, cycle_number, cycle_name, s3_prefix)
             VALUES ('{cycle}', '{company}', '{project}', {number}, 'C{number}', 'C{number}/')"
        ))
        .await;
        cycle
    }

    /// Runs a statement as the superuser, who sees past everything; gives what psql prints of it.
    pub async fn sql(&self, statement: &str) -> String {
        cluster()
            .await
            .postgres()
            .run_sql(&self.urls.name, statement)
            .await
            .unwrap()
            .trim()
            .to_owned()
    }

    pub async fn try_create(&self, change: impl FnOnce(&mut NewSession)) -> Result<Moved, SessionError> {
        let mut new = NewSession {
            cycle_id: self.cycle,
            user_id: self.user,
            source_root: "samples".into(),
            source_path: String::new(),
            settings: SessionSettings::default(),
            repeats: None,
            idempotency: None,
            start: true,
        };
        change(&mut new);
        self.db
            .tenant(self.company, async move |conn: &mut TenantConn| {
                sessions::create(conn, new).await
            })
            .await
    }

    /// A session and its scan job.
    pub async fn session(&self) -> (SessionId, QueuedJob) {
        let moved = self.try_create(|_| {}).await.unwrap();
        (moved.session.id, moved.jobs[0].clone())
    }

    pub async fn get(&self, id: SessionId) -> Session {
        self.db
            .tenant(self.company, async move |conn: &mut TenantConn| {
                sessions::get(conn, id).await
            })
            .await
            .unwrap()
    }

    pub async fn claiming(&self, id: JobId, worker: &str) -> Claiming {
        let worker = worker.to_owned();
        self.system(async move |conn| jobs::claim(conn, id, &worker, LEASE).await)
            .await
    }

    pub async fn claim(&self, id: JobId, worker: &str) -> Option<Claim> {
        match self.claiming(id, worker).await {
            Claiming::Claimed(claim) => Some(claim),
            Claiming::Full(_) | Claiming::Gone => None,
        }
    }

    pub async fn emit(&self, claim: &Claim, files: Vec<FoundFile>) -> Result<Option<QueuedJob>, JobError> {
        let claim = claim.clone();
        self.db
            .tenant(claim.company_id, async move |conn: &mut TenantConn| {
                jobs::emit_batch(conn, &claim, LEASE, "samples", &files)
                    .await
                    .map(|(_, job)| job)
            })
            .await
    }

    pub async fn record(
        &self,
        claim: &Claim,
        outcomes: Vec<FileOutcome>,
    ) -> Result<domain::StopFlag, JobError> {
        let claim = claim.clone();
        self.db
            .tenant(claim.company_id, async move |conn: &mut TenantConn| {
                jobs::record_outcomes(conn, &claim, LEASE, &outcomes).await
            })
            .await
    }

    pub async fn end(&self, claim: &Claim, scan_completed: bool) -> Result<Option<QueuedJob>, JobError> {
        let claim = claim.clone();
        self.db
            .tenant(claim.company_id, async move |conn: &mut TenantConn| {
                let ending = if scan_completed {
                    Ending::ScanComplete
                } else {
                    Ending::Done
                };
                jobs::end(conn, &claim, ending).await
            })
            .await
    }

    pub async fn finish(&self, job: &QueuedJob) -> Result<domain::SessionStatus, JobError> {
        let claim = self
            .claim(job.id, "finisher")
            .await
            .expect("a finish job is claimed");
        self.db
            .tenant(claim.company_id, async move |conn: &mut TenantConn| {
                jobs::finish_session(conn, &claim, LEASE).await
            })
            .await
    }

    /// A session whose scan found `count` files of 10 bytes in one batch: the session and the claimed upload job.
    pub async fn uploading(&self, count: i64) -> (SessionId, Claim) {
        let (session, scan) = self.session().await;
        let scan = self.claim(scan.id, "scanner").await.unwrap();
        let upload = self.emit(&scan, found(1..=count)).await.unwrap().unwrap();
        assert_eq!(
            self.end(&scan, true).await.unwrap(),
            None,
            "an upload job is open"
        );
        (session, self.claim(upload.id, "w1").await.unwrap())
    }

    /// Ends the leases of all running jobs; gives the first that is overdue.
    pub async fn let_lease_run_out(&self) -> Overdue {
        self.sql("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
            .await;
        self.system(async |conn| sweep::overdue(conn).await)
            .await
            .remove(0)
    }

    pub async fn expire(&self, seen: &Overdue) -> Option<QueuedJob> {
        let seen = seen.clone();
        self.system(async move |conn| sweep::expire(conn, &seen).await)
            .await
    }

    pub async fn cancel(&self, id: SessionId) -> Result<Moved, SessionError> {
        self.db
            .tenant(self.company, async move |conn: &mut TenantConn| {
                sessions::cancel(conn, id).await
            })
            .await
    }

    pub async fn retry(
        &self,
        id: SessionId,
        cause: Option<domain::FileErrorCode>,
    ) -> Result<Moved, SessionError> {
        self.db
            .tenant(self.company, async move |conn: &mut TenantConn| {
                sessions::retry(conn, id, cause).await
            })
            .await
    }

    pub async fn system<R: Send>(
        &self,
        work: impl for<'c> AsyncFnOnce(&'c mut SystemConn) -> Result<R, DatabaseError>
        + for<'c> database::ScopeFn<&'c mut SystemConn, Result<R, DatabaseError>, Fut: Send>
        + Send,
    ) -> R {
        self.db.system(work).await.unwrap()
    }
}

/// Pending files with these numbers, of 10 bytes each.
pub fn found(numbers: impl IntoIterator<Item = i64>) -> Vec<FoundFile> {
    numbers
        .into_iter()
        .map(|number| FoundFile {
            number,
            path: PathText::from_bytes(format!("dir/file {number}").as_bytes()),
            size_bytes: 10,
            modified_at: None,
            status: FileStatus::Pending,
            error: None,
            planned: None,
            object: jobs::ObjectMarks::default(),
        })
        .collect()
}

/// The outcome of the file `number`.
pub fn outcome(number: i64, status: FileStatus) -> FileOutcome {
    let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    FileOutcome {
        number,
        status,
        planned_size_bytes: 10,
        size_bytes: 10,
        modified_at: None,
        attempts: 1,
        etag: Some("etag".into()),
        checksum: Some("crc64nvme:AAAAAAAAAAA=".into()),
        error: (status == FileStatus::Failed).then(|| {
            (
                domain::FileErrorCode::FileVanished,
                "gone\0 with a NUL".to_owned(),
            )
        }),
        started_at: now,
        finished_at: now,
    }
}
