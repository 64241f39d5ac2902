//! The whole product on private servers: Postgres, Redis, S3, a gateway, workers.
//!
//! The gateway and the workers are the binaries that were built along with this one. They see the environment
//! given here and none of the product's variables of whoever started us.

mod kept;
mod launcher;
mod options;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context as _, bail};

use crate::cache;
use crate::postgres::{Postgres, PostgresOptions, PostgresProxy};
use crate::process::Server;
use crate::redis::Redis;
use crate::s3::{S3Options, S3Server};
use crate::sample;

use kept::Kept;
pub use kept::write_private;
pub use options::StackOptions;

use launcher::{Launcher, gateway_url, ports_to_try, wait_ready};

/// The database of the product in the stack's Postgres.
const DATABASE: &str = "uploader";
/// The bucket that every stack has.
pub const BUCKET: &str = "demo";
/// The first user.
pub const ADMIN_USERNAME: &str = "admin";

/// A running stack. All of it ends with this process; [`Stack::stop`] ends it in order.
#[derive(Debug)]
pub struct Stack {
    dir: PathBuf,
    options: StackOptions,
    kept: Kept,
    source_roots: String,
    launcher: Launcher,
    postgres: Postgres,
    postgres_proxy: Option<PostgresProxy>,
    redis: Redis,
    s3: Option<S3Server>,
    s3_options: S3Options,
    gateway: Server,
    workers: Vec<Server>,
    workers_started: usize,
}

impl Stack {
    /// Starts everything and waits until the gateway says that it is ready.
    ///
    /// # Errors
    /// When a part does not come up; the message has the end of its log.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let log_dir = options.dir.join("logs");
        std::fs::create_dir_all(&log_dir).with_context(|| format!("cannot make {}", log_dir.display()))?;
        let dir = options.dir.canonicalize()?;
        let bin_dir = match &options.bin_dir {
            Some(bin_dir) => bin_dir.clone(),
            None => cache::bin_folder()?,
        };
        let mut launcher = Launcher {
            bin_dir,
            log_dir: dir.join("logs"),
            environment: Vec::new(),
            extra_environment: options.extra_env.clone(),
        };
        launcher.check()?;
        let mut kept = Kept::load_or_make(&dir)?;
        let source_roots = match &options.source_roots {
            Some(source_roots) => source_roots.clone(),
            None => small_sample(&dir)?,
        };
        let (postgres, redis, s3) = tokio::try_join!(
            start_postgres(PostgresOptions {
                dir: dir.join("postgres"),
                ephemeral: options.ephemeral,
                disk: options.postgres_disk.clone(),
            }),
            async { Redis::start(&dir.join("redis")).await },
            start_s3(&dir, &kept),
        )?;
        kept.s3_port = s3.port();
        let postgres_proxy = if options.postgres_proxy {
            Some(postgres.proxy().await?)
        } else {
            None
        };
        let direct = postgres.app_url(DATABASE);
        let database_url = match &postgres_proxy {
            Some(proxy) => proxy.through(&direct),
            None => direct,
        };
        launcher.environment = product_environment(&kept, &source_roots, database_url, &redis, &s3);
        let gateway_own = [
            ("MIGRATION_DATABASE_URL", postgres.owner_url(DATABASE)),
            (
                "JWT_PRIVATE_KEY_FILE",
                dir.join("jwt.pem").to_string_lossy().into_owned(),
            ),
            ("INITIAL_ADMIN_PASSWORD", kept.admin_password.clone()),
        ];
        let ports = ports_to_try(options.port, kept.gateway_port)?;
        let (gateway, port) = launcher.start_gateway(&ports, &gateway_own).await?;
        kept.gateway_port = port;
        kept.save(&dir)?;
        let mut stack = Self {
            dir,
            kept,
            source_roots,
            launcher,
            postgres,
            postgres_proxy,
            redis,
            s3_options: s3.options(),
            s3: Some(s3),
            gateway,
            workers: Vec::new(),
            workers_started: 0,
            options,
        };
        for _ in 0..stack.options.workers {
            stack.start_worker()?;
        }
        Ok(stack)
    }

    /// `http://127.0.0.1:{port}` of the gateway.
    pub fn api_url(&self) -> String {
        gateway_url(self.kept.gateway_port)
    }

    /// The first admin's password.
    pub fn admin_password(&self) -> &str {
        &self.kept.admin_password
    }

    /// The stack's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the binaries are.
    pub fn bin_dir(&self) -> &Path {
        &self.launcher.bin_dir
    }

    /// What clients of the stack need to know, by the names of `.dev/env`.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("API_URL", self.api_url()),
            ("DATABASE_URL", self.postgres.app_url(DATABASE)),
            ("MIGRATION_DATABASE_URL", self.postgres.owner_url(DATABASE)),
            ("REDIS_URL", self.redis.url()),
            ("S3_ENDPOINT_URL", self.s3_endpoint_url()),
            ("S3_ACCESS_KEY_ID", self.kept.s3_access_key_id.clone()),
            ("S3_SECRET_ACCESS_KEY", self.kept.s3_secret_access_key.clone()),
            ("ADMIN_USERNAME", ADMIN_USERNAME.to_owned()),
            ("ADMIN_PASSWORD", self.kept.admin_password.clone()),
            ("SOURCE_ROOTS", self.source_roots.clone()),
        ]
    }

    /// Postgres, to ask it or to stop and start it.
    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// What is between the product and Postgres, where it was asked for.
    pub fn postgres_proxy(&self) -> Option<&PostgresProxy> {
        self.postgres_proxy.as_ref()
    }

    /// The product's database for the superuser, who sees past row-level security.
    pub fn superuser_url(&self) -> String {
        self.postgres.superuser_url(DATABASE)
    }

    /// Runs SQL in the product's database as the superuser; see [`Postgres::run_sql`].
    ///
    /// # Errors
    /// With what Postgres says.
    pub async fn run_sql(&self, sql: &str) -> anyhow::Result<String> {
        self.postgres.run_sql(DATABASE, sql).await
    }

    /// The URL of the S3 server, whether it is up or not.
    pub fn s3_endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_options.port)
    }

    /// The S3 server, while it is up.
    pub fn s3(&self) -> Option<&S3Server> {
        self.s3.as_ref()
    }

    /// Stops the S3 server; the buckets stay.
    pub async fn stop_s3(&mut self) {
        if let Some(s3) = self.s3.take() {
            s3.stop().await;
        }
    }

    /// Starts the S3 server again at its address.
    ///
    /// # Errors
    /// When its port has been taken.
    pub async fn start_s3(&mut self) -> anyhow::Result<()> {
        self.s3 = Some(S3Server::start(self.s3_options.clone()).await?);
        Ok(())
    }

    /// Redis, to stop and start it.
    pub fn redis(&mut self) -> &mut Redis {
        &mut self.redis
    }

    /// Stops Redis; its contents are lost.
    pub async fn stop_redis(&mut self) {
        self.redis.stop().await;
    }

    /// Starts Redis again, empty, at its address.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_redis(&mut self) -> anyhow::Result<()> {
        self.redis.start_again().await
    }

    /// The gateway's process.
    pub fn gateway(&mut self) -> &mut Server {
        &mut self.gateway
    }

    /// Starts the gateway again, after it was stopped or killed, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_gateway(&mut self) -> anyhow::Result<()> {
        self.gateway = self.gateway.command().spawn()?;
        wait_ready(&mut self.gateway, self.kept.gateway_port).await
    }

    /// The process ids of the workers that are up, in the order they were started.
    pub fn worker_pids(&mut self) -> Vec<u32> {
        self.workers
            .iter_mut()
            .filter_map(|worker| worker.ended().is_none().then(|| worker.pid()))
            .collect()
    }

    /// The workers' processes, also those that ended by themselves.
    pub fn workers(&mut self) -> &mut Vec<Server> {
        &mut self.workers
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start_worker(&mut self) -> anyhow::Result<()> {
        self.start_worker_with(&[])
    }

    /// Starts one more worker, with variables of its own.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start_worker_with(&mut self, variables: &[(&'static str, String)]) -> anyhow::Result<()> {
        self.workers_started += 1;
        let lease = self
            .options
            .lease_s
            .map(|lease_s| ("LEASE_S", lease_s.to_string()));
        let own: Vec<(&str, String)> = lease.into_iter().chain(variables.iter().cloned()).collect();
        let worker = self
            .launcher
            .start_worker(self.workers_started, self.options.shutdown_grace_s, &own)?;
        self.workers.push(worker);
        Ok(())
    }

    /// Kills a worker with SIGKILL, by its place among [`Stack::workers`], and forgets it.
    ///
    /// # Errors
    /// When there is no such worker, or the signal cannot be sent.
    pub async fn kill_worker(&mut self, index: usize) -> anyhow::Result<()> {
        if index >= self.workers.len() {
            bail!("there is no worker {index}");
        }
        self.workers.remove(index).kill().await.map(drop)
    }

    /// Asks a worker to end with SIGTERM, waits until it has, and forgets it.
    ///
    /// # Errors
    /// When there is no such worker.
    pub async fn stop_worker(&mut self, index: usize) -> anyhow::Result<ExitStatus> {
        if index >= self.workers.len() {
            bail!("there is no worker {index}");
        }
        Ok(self.workers.remove(index).stop().await)
    }

    /// What has ended though nobody asked it to: its name, how, and the end of its log.
    pub fn casualty(&mut self) -> Option<String> {
        let servers = [self.postgres.server(), self.redis.server(), &mut self.gateway];
        servers.into_iter().chain(&mut self.workers).find_map(|server| {
            let status = server.ended()?;
            Some(format!(
                "{} ended with {status}:\n{}",
                server.name(),
                server.log_tail()
            ))
        })
    }

    /// Stops everything, in the order that loses nothing.
    pub async fn stop(mut self) {
        futures::future::join_all(self.workers.iter_mut().map(Server::stop)).await;
        self.gateway.stop().await;
        self.stop_s3().await;
        self.redis.stop().await;
        self.postgres.stop().await;
    }
}

/// What gateway and workers share.
fn product_environment(
    kept: &Kept,
    source_roots: &str,
    database_url: String,
    redis: &Redis,
    s3: &S3Server,
) -> Vec<(String, String)> {
    let pairs = [
        ("DATABASE_URL", database_url),
        ("REDIS_URL", redis.url()),
        ("SECRETS_KEY", kept.secrets_key.clone()),
        ("SOURCE_ROOTS", source_roots.to_owned()),
        ("ALLOW_PRIVATE_ENDPOINTS", "1".to_owned()),
        // What projects get that name no endpoint and no credentials.
        ("S3_ENDPOINT_URL", s3.endpoint_url()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", kept.s3_access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", kept.s3_secret_access_key.clone()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

async fn start_postgres(options: PostgresOptions) -> anyhow::Result<Postgres> {
    let postgres = Postgres::start(&options).await?;
    let known = postgres
        .run_sql("postgres", "SELECT datname FROM pg_database")
        .await?;
    if !known.lines().any(|name| name == DATABASE) {
        postgres.create_database(DATABASE, None).await?;
    }
    Ok(postgres)
}

async fn start_s3(dir: &Path, kept: &Kept) -> anyhow::Result<S3Server> {
    let options = S3Options {
        dir: dir.join("s3"),
        access_key_id: kept.s3_access_key_id.clone(),
        secret_access_key: kept.s3_secret_access_key.clone(),
        port: kept.s3_port,
    };
    let server = match S3Server::start(options.clone()).await {
        // Somebody took last time's port meanwhile.
        Err(_) if kept.s3_port != 0 => S3Server::start(S3Options { port: 0, ..options }).await?,
        started => started?,
    };
    server.create_bucket(BUCKET)?;
    Ok(server)
}

/// `SOURCE_ROOTS` with a few files to try things with.
fn small_sample(dir: &Path) -> anyhow::Result<String> {
    let folder = dir.join("samples");
    if !folder.exists() {
        sample::generate_small(&folder)?;
    }
    Ok(format!("samples={}", folder.display()))
}
