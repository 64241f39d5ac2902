//! A gateway with a database of its own, people to ask it, and the workers' part played by hand.

use database::jobs::{self, Claim, Claiming, Ending, FileOutcome, FoundFile};
use database::{Database, SystemConn, TenantConn, migrate};
use dev_stack::Redis;
use dev_stack::process::{Server, ServerCommand};
use dev_stack::test_cluster::{TestCluster, TestDatabase};
use domain::object_key::PathText;
use domain::{CompanyId, FileErrorCode, FileStatus, QueuedJob, SessionId, SessionStatus};
use identity::TokenSigner;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub const ADMIN_PASSWORD: &str = "correct battery staple";
pub const PASSWORD: &str = "a password for tests";
pub const LEASE: Duration = Duration::from_secs(30);

pub async fn cluster() -> &'static TestCluster {
    TestCluster::get_or_start(async |owner, app| {
        migrate::migrate(owner, app).await?;
        Ok(())
    })
    .await
    .unwrap()
}

/// The Redis that most tests share: sessions have ids of their own.
pub async fn shared_redis() -> String {
    static REDIS: OnceCell<(Redis, TempDir)> = OnceCell::const_new();
    let start = async || {
        let dir = tempfile::tempdir().unwrap();
        (Redis::start(dir.path()).await.unwrap(), dir)
    };
    REDIS.get_or_init(start).await.0.url()
}

/// Making an RSA key takes a while: one does for all.
async fn signing_key() -> String {
    static KEY: OnceCell<String> = OnceCell::const_new();
    KEY.get_or_init(async || dev_stack::signing_key_pem().unwrap())
        .await
        .clone()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub struct World {
    pub url: String,
    pub gateway: Server,
    pub urls: TestDatabase,
    pub database: Database,
    pub root: PathBuf,
    pub signer: TokenSigner,
    http: reqwest::Client,
    dir: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(&shared_redis().await, &[]).await
    }

    pub async fn with(redis_url: &str, environment: &[(&str, &str)]) -> Self {
        let urls = cluster().await.fresh_database().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let key_file = dir.path().join("jwt.pem");
        let key = signing_key().await;
        std::fs::write(&key_file, &key).unwrap();
        let url = format!("http://127.0.0.1:{}", free_port());
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let roots = format!(
            "samples={},acme@ACME={},away=/nonexistent",
            path(&root),
            path(&root)
        );
        let mut command = ServerCommand::new(
            "gateway",
            env!("CARGO_BIN_EXE_api-gateway"),
            dir.path().join("gateway.log"),
        )
        .env("DATABASE_URL", &urls.app_url)
        .env("MIGRATION_DATABASE_URL", &urls.owner_url)
        .env("REDIS_URL", redis_url)
        .env("LISTEN_ADDR", url.trim_start_matches("http://"))
        .env("JWT_PRIVATE_KEY_FILE", path(&key_file))
        .env("SECRETS_KEY", dev_stack::secrets_key())
        .env("SOURCE_ROOTS", roots)
        .env("INITIAL_ADMIN_PASSWORD", ADMIN_PASSWORD)
        .env("RUST_LOG", "debug");
        for (name, value) in environment {
            command = command.env(*name, *value);
        }
        let mut gateway = command.spawn().unwrap();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let (asked, client) = (format!("{url}/health/live"), http.clone());
        gateway
            .wait_ready(Duration::from_secs(60), async || {
                client.get(&asked).send().await.is_ok()
            })
            .await
            .unwrap();
        Self {
            signer: TokenSigner::from_pem(&SecretString::from(key), &url).unwrap(),
            database: Database::new(&urls.app_url, 4).unwrap(),
            url,
            gateway,
            urls,
            root,
            http,
            dir,
        }
    }

    /// What the gateway wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("gateway.log")).unwrap()
    }

    /// Runs a statement past row-level security.
    pub async fn sql(&self, statement: &str) -> String {
        let printed = cluster()
            .await
            .postgres()
            .run_sql(&self.urls.name, statement)
            .await
            .unwrap();
        printed.trim().to_owned()
    }

    pub fn anonymous(&self) -> Client<'_> {
        Client {
            world: self,
            tokens: Value::Null,
        }
    }

    pub async fn sign_in(&self, username: &str, password: &str) -> Client<'_> {
        let body = json!({"username": username, "password": password});
        let answer = self.anonymous().post("/api/auth/login", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Client {
            world: self,
            tokens: answer.json(),
        }
    }

    pub async fn admin(&self) -> Client<'_> {
        self.sign_in("admin", ADMIN_PASSWORD).await
    }

    /// Somebody new in the admin's company.
    pub async fn person(&self, admin: &Client<'_>, username: &str, role: &str) -> Client<'_> {
        self.enter(admin, username, role, None).await
    }

    /// The owner of a new company with that code.
    pub async fn other_company(&self, admin: &Client<'_>, code: &str) -> Client<'_> {
        let company = json!({"company_name": code, "company_code": code});
        let company = admin.post("/api/companies", company).await.created();
        self.enter(
            admin,
            &format!("owner-{}", code.to_lowercase()),
            "owner",
            company["id"].as_str(),
        )
        .await
    }

    async fn enter(
        &self,
        admin: &Client<'_>,
        username: &str,
        role: &str,
        company_id: Option<&str>,
    ) -> Client<'_> {
        let email = format!("{username}@example.com");
        let person = json!({
            "username": username, "email": email, "role": role, "password": PASSWORD, "company_id": company_id,
        });
        admin.post("/api/users", person).await.created();
        self.sign_in(username, PASSWORD).await
    }
}

/// Somebody who asks the gateway.
pub struct Client<'w> {
    pub world: &'w World,
    /// The answer to the sign-in.
    pub tokens: Value,
}

impl<'w> Client<'w> {
    pub fn with_token(world: &'w World, token: &str) -> Self {
        Self {
            world,
            tokens: json!({"access_token": token}),
        }
    }

    pub fn token(&self) -> Option<&str> {
        self.tokens["access_token"].as_str()
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .world
            .http
            .request(method, format!("{}{path}", self.world.url));
        match self.token() {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn send(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request(Method::POST, path).json(&body)).await
    }

    /// A `POST` without a body.
    pub async fn act(&self, path: &str) -> Answer {
        Self::send(self.request(Method::POST, path)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request(Method::DELETE, path)).await
    }

    pub async fn project(&self, name: &str) -> Value {
        self.post("/api/projects", json!({"name": name, "bucket": "deliveries"}))
            .await
            .created()
    }

    pub async fn cycle(&self, project: &Value) -> Value {
        self.act(&format!("/api/projects/{}/cycles", text(project, "id")))
            .await
            .created()
    }

    /// A project, a cycle of it, and a session of that.
    pub async fn session(&self, project_name: &str) -> Value {
        let cycle = self.cycle(&self.project(project_name).await).await;
        self.post("/api/sessions", session_in(&cycle)).await.created()
    }

    pub fn company_id(&self) -> CompanyId {
        self.tokens["user"]["company"]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }
}

/// The request for a session of `cycle`.
pub fn session_in(cycle: &Value) -> Value {
    json!({"cycle_id": cycle["id"], "source": {"root": "samples", "path": "batch"}})
}

pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {value}"))
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    pub fn created(self) -> Value {
        assert_eq!(self.status, 201, "{}", self.text);
        self.json()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails unless it is a problem of this status and code in the documented shape; gives its body.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.header("content-type")),
            (status, "application/problem+json"),
            "{}",
            self.text
        );
        let body = self.json();
        assert_eq!(
            (&body["code"], &body["status"]),
            (&json!(code), &json!(status)),
            "{body}"
        );
        assert_eq!(body["request_id"], json!(self.header("x-request-id")));
        assert!(
            ["type", "title", "detail"]
                .iter()
                .all(|field| body[field].is_string()),
            "{body}"
        );
        body
    }

    /// The pointers of the fields that are not valid.
    #[track_caller]
    pub fn bad_fields(&self) -> Vec<String> {
        let body = self.problem(422, "validation_failed");
        let errors = body["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|error| text(error, "pointer").to_owned())
            .collect()
    }
}

/// The worker's part.
pub struct Worker<'w> {
    pub database: &'w Database,
    pub company: CompanyId,
}

impl<'w> Worker<'w> {
    pub fn of(client: &Client<'w>) -> Self {
        Self {
            database: &client.world.database,
            company: client.company_id(),
        }
    }

    pub async fn claim(&self, session: SessionId, kind: &str, world: &World) -> Claim {
        let sql = format!(
            "SELECT id FROM jobs WHERE session_id = '{session}' AND kind = '{kind}' AND state = 'ready' ORDER BY id DESC LIMIT 1"
        );
        let id = domain::JobId(world.sql(&sql).await.parse().unwrap());
        self.claim_job(id).await
    }

    pub async fn claim_job(&self, id: domain::JobId) -> Claim {
        let claiming = self
            .database
            .system(async move |conn: &mut SystemConn| jobs::claim(conn, id, "test", LEASE).await)
            .await
            .unwrap();
        match claiming {
            Claiming::Claimed(claim) => claim,
            Claiming::Full(_) | Claiming::Gone => panic!("the job {id} is ready"),
        }
    }

    /// Scans: finds files with these sizes.
    pub async fn scan(&self, world: &World, session: SessionId, sizes: &[i64]) {
        let claim = self.claim(session, "scan", world).await;
        let files = files(sizes);
        self.database
            .tenant(self.company, async move |conn: &mut TenantConn| {
                jobs::emit_batch(conn, &claim, LEASE, "samples", &files).await?;
                jobs::end(conn, &claim, Ending::ScanComplete).await
            })
            .await
            .unwrap();
    }

    /// Claims the upload job.
    pub async fn upload(&self, world: &World, session: SessionId) -> Claim {
        self.claim(session, "upload", world).await
    }

    pub async fn record(&self, claim: &Claim, number: i64, size_bytes: i64, error: Option<FileErrorCode>) {
        let now = chrono::Utc::now();
        let outcome = FileOutcome {
            number,
            status: if error.is_some() {
                FileStatus::Failed
            } else {
                FileStatus::Uploaded
            },
            planned_size_bytes: size_bytes,
            size_bytes,
            modified_at: None,
            attempts: 1,
            etag: None,
            checksum: None,
            error: error.map(|code| (code, "as the test wants it".to_owned())),
            started_at: now,
            finished_at: now,
        };
        let claim = claim.clone();
        self.database
            .tenant(self.company, async move |conn: &mut TenantConn| {
                jobs::record_outcomes(conn, &claim, LEASE, &[outcome]).await
            })
            .await
            .unwrap();
    }

    /// Ends the upload job and finishes the session.
    pub async fn finish(&self, claim: Claim) -> SessionStatus {
        let claim = self.claim_finish(claim).await;
        self.finish_claimed(claim).await
    }

    /// Ends the upload job and claims the finish job that follows.
    pub async fn claim_finish(&self, claim: Claim) -> Claim {
        let job: Option<QueuedJob> = self
            .database
            .tenant(self.company, async move |conn: &mut TenantConn| {
                jobs::end(conn, &claim, Ending::Done).await
            })
            .await
            .unwrap();
        let id = job.expect("the last job adds a finish").id;
        self.claim_job(id).await
    }

    async fn finish_claimed(&self, claim: Claim) -> SessionStatus {
        self.database
            .tenant(self.company, async move |conn: &mut TenantConn| {
                jobs::finish_session(conn, &claim, LEASE).await
            })
            .await
            .unwrap()
    }
}

/// Pending files with these sizes.
pub fn files(sizes: &[i64]) -> Vec<FoundFile> {
    let file = |(number, size_bytes): (i64, &i64)| FoundFile {
        number,
        path: PathText::from_bytes(format!("dir/file {number}").as_bytes()),
        size_bytes: *size_bytes,
        modified_at: None,
        status: FileStatus::Pending,
        error: None,
        planned: None,
        object: jobs::ObjectMarks::default(),
    };
    (1..).zip(sizes).map(file).collect()
}

/// Asks until `answer` gives something; fails after a while.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}
