//! A private Postgres cluster with the two logins of the product: `uploader_owner` owns the databases and runs the
//! migrations, `uploader_app` is what the running product signs in as.
//!
//! It listens on 127.0.0.1 only. Started by root, it runs as the account `postgres`, for Postgres refuses root.

mod initialise;
mod installation;
mod proxy;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::process::{Server, free_port};

use initialise::{Passwords, initialise};
use installation::{Programs, account_for_server, folder_for, full_sign};
pub use proxy::{Losing, PostgresProxy};

const START_LIMIT: Duration = Duration::from_secs(60);

/// Where a cluster lives, and for how long.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The folder for its files, made if missing. A cluster that is there already is started as it is.
    pub dir: PathBuf,
    /// Whether it is thrown away: nothing is flushed to disk, and `dir` is removed when the server has stopped.
    pub ephemeral: bool,
    /// The launcher of [`crate::faulty_disk::launcher`], where its disk is to be full at times.
    pub disk: Option<PathBuf>,
}

/// A Postgres server that ends with this process.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    programs: Programs,
    port: u16,
    passwords: Passwords,
    server: Server,
}

impl Postgres {
    /// Starts a cluster, and makes it and its two logins first if need be.
    ///
    /// # Errors
    /// When Postgres is not installed or does not come up; the message has the end of its log.
    pub async fn start(options: &PostgresOptions) -> anyhow::Result<Self> {
        let programs = Programs::find().await?;
        let account = account_for_server()?;
        let dir = folder_for(&options.dir, account).await?;
        let passwords = match std::fs::read(dir.join("passwords.json")) {
            Ok(text) => serde_json::from_slice(&text).context("passwords.json is damaged")?,
            Err(_) => initialise(&dir, &programs, account, options.ephemeral).await?,
        };
        let mut failure = None;
        // Somebody else may take the port between our look and its start.
        for _ in 0..5 {
            let port = free_port()?;
            let server = programs
                .server_command(&dir, port, options)
                .run_as(account)
                .removing(options.ephemeral.then(|| dir.clone()))
                .spawn()?;
            let mut postgres = Self {
                dir: dir.clone(),
                programs: programs.clone(),
                port,
                passwords: passwords.clone(),
                server,
            };
            match postgres.wait_ready().await {
                Ok(()) => {
                    postgres.create_logins().await?;
                    return Ok(postgres);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("postgres did not start")))
    }

    /// The URL of a database for the owner of the schema.
    pub fn owner_url(&self, database: &str) -> String {
        self.url("uploader_owner", &self.passwords.owner, database)
    }

    /// The URL of a database for the running product.
    pub fn app_url(&self, database: &str) -> String {
        self.url("uploader_app", &self.passwords.app, database)
    }

    /// The URL of a database for the superuser, who sees past row-level security.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url("postgres", &self.passwords.superuser, database)
    }

    /// A proxy in front of this server, which can lose answers and hang.
    ///
    /// # Errors
    /// When there is no port for it.
    pub async fn proxy(&self) -> anyhow::Result<PostgresProxy> {
        PostgresProxy::start(self.port).await
    }

    /// The server's process.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Fills the disk, or makes room on it: for a server whose disk can be full.
    ///
    /// # Errors
    /// When the sign that says so cannot be set or removed.
    pub fn set_disk_full(&self, is_full: bool) -> std::io::Result<()> {
        let sign = full_sign(&self.dir);
        if is_full {
            std::fs::write(sign, "")
        } else {
            std::fs::remove_file(sign)
        }
    }

    /// Makes a database that `uploader_owner` owns, as a copy of `template` or empty.
    ///
    /// # Errors
    /// When there is one of that name, or somebody is connected to the template.
    pub async fn create_database(&self, name: &str, template: Option<&str>) -> anyhow::Result<()> {
        let template = template.unwrap_or("template1");
        let sql = format!("CREATE DATABASE \"{name}\" OWNER uploader_owner TEMPLATE \"{template}\"");
        self.run_sql("postgres", &sql).await.map(drop)
    }

    /// Runs SQL as the superuser and gives what `psql` prints: a line a row, `|` between columns.
    ///
    /// # Errors
    /// With what Postgres says.
    pub async fn run_sql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.superuser_url(database))
            .args(["-c", sql])
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run psql")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Stops it, breaking connections off.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Starts it again at the same address. Not for an ephemeral one: its files are gone.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = self.server.command().spawn()?;
        self.wait_ready().await
    }

    fn url(&self, login: &str, password: &str, database: &str) -> String {
        format!("postgres://{login}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let (program, port) = (self.programs.bin.join("pg_isready"), self.port.to_string());
        let is_ready = async || {
            let asked = Command::new(&program)
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .stdin(Stdio::null())
                .status();
            asked.await.is_ok_and(|status| status.success())
        };
        self.server.wait_ready(START_LIMIT, is_ready).await
    }

    async fn create_logins(&self) -> anyhow::Result<()> {
        let sql = format!(
            "DO $$ BEGIN
               IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'uploader_owner') THEN
                 CREATE ROLE uploader_owner LOGIN CREATEROLE PASSWORD '{}';
                 CREATE ROLE uploader_app LOGIN NOINHERIT PASSWORD '{}';
               END IF;
             END $$",
            self.passwords.owner, self.passwords.app
        );
        self.run_sql("postgres", &sql).await.map(drop)
    }
}
