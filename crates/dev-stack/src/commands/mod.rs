//! The subcommands.

mod api;
pub(crate) mod bench;
mod company;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod neighbour;
mod percentile;
pub(crate) mod torture;
mod verify;
pub(crate) mod with_database;

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Keeps a second stack out of `dir` as long as the file lives.
fn claim(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another stack runs in {}", dir.display()),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Ends when somebody asks us to: Ctrl-C or SIGTERM.
async fn asked_to_stop() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}
