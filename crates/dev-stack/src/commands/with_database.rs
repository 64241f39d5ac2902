//! `dev-stack with-database`: for tools that need a migrated database and nothing else.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use dev_stack::{Postgres, PostgresOptions};
use tokio::process::Command;

const DATABASE: &str = "uploader";

pub(crate) async fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command")?;
    let dir = tempfile::Builder::new()
        .prefix("data-uploader-postgres-")
        .tempdir()?
        .keep();
    let mut postgres = Postgres::start(&PostgresOptions {
        dir,
        ephemeral: true,
        disk: None,
    })
    .await?;
    let outcome = async {
        postgres.create_database(DATABASE, None).await?;
        let owner_url = postgres.owner_url(DATABASE);
        migrate(&owner_url, &postgres.app_url(DATABASE)).await?;
        Command::new(program)
            .args(arguments)
            .env("DATABASE_URL", owner_url)
            .status()
            .await
            .with_context(|| format!("cannot run {}", Path::new(program).display()))
    }
    .await;
    postgres.stop().await;
    let code = outcome?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

async fn migrate(owner_url: &str, app_url: &str) -> anyhow::Result<()> {
    let gateway = dev_stack::bin_folder()?.join("api-gateway");
    let status = Command::new(&gateway)
        .arg("migrate")
        .env("MIGRATION_DATABASE_URL", owner_url)
        .env("DATABASE_URL", app_url)
        // What a tool prints is its own; `make generate` keeps it.
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .with_context(|| format!("cannot run {}", gateway.display()))?;
    if !status.success() {
        bail!("api-gateway migrate ended with {status}");
    }
    Ok(())
}
