//! One Postgres for a test process, and a database of its own for each test: a copy of a migrated template.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OnceCell;

use crate::postgres::{Postgres, PostgresOptions};

static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();
const TEMPLATE: &str = "migrated";

/// The test process's Postgres. It ends, and its files go, when the process ends, however that happens.
#[derive(Debug)]
pub struct TestCluster {
    postgres: Postgres,
    databases: AtomicU64,
}

/// A test's own database, migrated and otherwise empty.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    /// For the owner of the schema.
    pub owner_url: String,
    /// For the running product.
    pub app_url: String,
    /// For the superuser, who sees past row-level security.
    pub superuser_url: String,
}

impl TestCluster {
    /// The cluster of this process. The first call starts it and runs `migrate(owner_url, app_url)` on the template;
    /// the others wait for it.
    ///
    /// # Errors
    /// When Postgres does not start, or `migrate` fails.
    pub async fn get_or_start(
        migrate: impl AsyncFnOnce(String, String) -> anyhow::Result<()>,
    ) -> anyhow::Result<&'static Self> {
        CLUSTER
            .get_or_try_init(async || {
                // Its supervisor removes it: a static is never dropped.
                let dir = tempfile::Builder::new()
                    .prefix("data-uploader-postgres-")
                    .tempdir()?
                    .keep();
                let postgres = Postgres::start(&PostgresOptions {
                    dir,
                    ephemeral: true,
                    disk: None,
                })
                .await?;
                postgres.create_database(TEMPLATE, None).await?;
                migrate(postgres.owner_url(TEMPLATE), postgres.app_url(TEMPLATE)).await?;
                close_template(&postgres).await?;
                Ok(Self {
                    postgres,
                    databases: AtomicU64::new(0),
                })
            })
            .await
    }

    /// Makes a database for one test.
    ///
    /// # Errors
    /// With what Postgres says.
    pub async fn fresh_database(&self) -> anyhow::Result<TestDatabase> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.postgres.create_database(&name, Some(TEMPLATE)).await?;
        Ok(TestDatabase {
            owner_url: self.postgres.owner_url(&name),
            app_url: self.postgres.app_url(&name),
            superuser_url: self.postgres.superuser_url(&name),
            name,
        })
    }

    /// The server itself.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }
}

/// A database is copied only while nobody is connected to it.
async fn close_template(postgres: &Postgres) -> anyhow::Result<()> {
    let close = format!("ALTER DATABASE {TEMPLATE} WITH ALLOW_CONNECTIONS false");
    postgres.run_sql("postgres", &close).await?;
    let end =
        format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{TEMPLATE}'");
    postgres.run_sql("postgres", &end).await.map(drop)
}
