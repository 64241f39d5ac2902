//! Brings the schema up to date, as its owner, one program at a time.

use crate::DatabaseError;
use diesel::sql_query;
use diesel::sql_types::{Bool, Integer, Text};
use diesel_async::{
    AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// The advisory lock that gateways starting together queue at ("uploader" in ASCII).
const LOCK_KEY: i64 = 0x7570_6c6f_6164_6572;

/// What [`migrate`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// The migrations applied just now, by version.
    pub applied: Vec<String>,
}

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection as the named login.
    #[error("cannot connect to the database with {variable}: {cause}")]
    Connect {
        /// The variable that holds the URL.
        variable: &'static str,
        /// What the server or the network said.
        cause: String,
    },
    /// A migration failed; it was rolled back.
    #[error("a migration failed and was rolled back: {0}")]
    Migration(String),
    /// A statement around the migrations failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl MigrateError {
    /// Postgres may have gone away while its migrations were looked at: the harness tells no kinds of errors apart.
    fn of_harness(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        match error.downcast::<diesel::result::Error>() {
            Ok(error) => (*error).into(),
            Err(error) => Self::Migration(error.to_string()),
        }
    }
}

impl From<diesel::result::Error> for MigrateError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

#[derive(diesel::QueryableByName)]
struct Login {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(diesel::QueryableByName)]
struct Membership {
    #[diesel(sql_type = Bool)]
    is_member: bool,
    #[diesel(sql_type = Integer)]
    server_version: i32,
}

/// Applies what is missing with `owner_url`, and lets the login of `runtime_url` open scopes. Safe to call from many
/// programs at once, and again.
///
/// # Errors
/// See [`MigrateError`]; nothing half-applied stays.
pub async fn migrate(owner_url: String, runtime_url: String) -> Result<Report, MigrateError> {
    // Diesel's harness is synchronous and blocks its thread: it gets a runtime of its own, whatever the caller's.
    let blocking = tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| MigrateError::Migration(error.to_string()))?
            .block_on(run(&owner_url, &runtime_url))
    });
    blocking
        .await
        .map_err(|error| MigrateError::Migration(error.to_string()))?
}

async fn connect(variable: &'static str, url: &str) -> Result<AsyncPgConnection, MigrateError> {
    AsyncPgConnection::establish(url)
        .await
        .map_err(|error| MigrateError::Connect {
            variable,
            cause: error.to_string(),
        })
}

async fn run(owner_url: &str, runtime_url: &str) -> Result<Report, MigrateError> {
    let mut owner = connect("MIGRATION_DATABASE_URL", owner_url).await?;
    let mut runtime = connect("DATABASE_URL", runtime_url).await?;
    let login: Login = sql_query("SELECT current_user::text AS name")
        .get_result(&mut runtime)
        .await?;
    drop(runtime);

    // Held until this connection closes.
    owner
        .batch_execute(&format!("SELECT pg_advisory_lock({LOCK_KEY})"))
        .await?;
    let mut harness = AsyncMigrationHarness::new(owner);
    let applied = harness
        .run_pending_migrations(MIGRATIONS)
        .map(|versions| versions.iter().map(ToString::to_string).collect())
        .map_err(MigrateError::of_harness)?;
    let mut owner = harness.into_inner();

    let membership: Membership = sql_query(
        "SELECT pg_has_role($1::name, 'uploader_tenant', 'MEMBER') AND pg_has_role($1::name, 'uploader_system', 'MEMBER') AS is_member,
                current_setting('server_version_num')::integer AS server_version",
    )
    .bind::<Text, _>(&login.name)
    .get_result(&mut owner)
    .await?;
    if !membership.is_member {
        // Before 16 whether a member inherits is an attribute of the login (NOINHERIT).
        let options = if membership.server_version >= 160_000 {
            " WITH INHERIT FALSE, SET TRUE"
        } else {
            ""
        };
        let name = login.name.replace('"', "\"\"");
        owner
            .batch_execute(&format!(
                "GRANT uploader_tenant, uploader_system TO \"{name}\"{options}"
            ))
            .await?;
    }
    Ok(Report { applied })
}
