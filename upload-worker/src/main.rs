//! `upload-worker`: takes jobs, scans directories, uploads files, and records what became of each.
//!
//! Any number of them run side by side, on any number of machines. A worker that is killed costs nothing but
//! time: its jobs go to others when its leases run out.

mod allowance;
mod cleaner;
mod existing;
mod finish_job;
mod lease;
mod live;
mod pace;
mod places;
#[cfg(test)]
#[path = "../tests/protocol/mod.rs"]
mod protocol;
mod receipt;
mod receipt_object;
mod recorder;
mod records;
mod registry;
mod retention;
mod scan_job;
mod sweeper;
mod target;
mod upload_job;
mod worker;

use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use worker::Worker;

/// How long jobs may take to be given back when the grace period is over.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Says so when this is a program for tests.
const VERSION: &str = if cfg!(feature = "failpoints") {
    concat!(env!("CARGO_PKG_VERSION"), " with fail-points")
} else {
    env!("CARGO_PKG_VERSION")
};

#[derive(Parser)]
#[command(name = "upload-worker", version = VERSION, about = "Takes upload jobs, scans directories and uploads their files to S3.", after_help = settings::Worker::help())]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    let settings = match settings::Worker::from_env() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("upload-worker: {error}");
            return ExitCode::from(2);
        }
    };
    settings::tracing_setup::init(&settings.logging);
    #[cfg(feature = "failpoints")]
    if let Err(error) = failpoint::arm(&settings::failpoints()) {
        eprintln!("upload-worker: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("upload-worker: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(settings));
    // A thread that waits for a share that hangs is not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upload-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: settings::Worker) -> anyhow::Result<()> {
    let grace = settings.shutdown_grace;
    let worker = Arc::new(Worker::new(settings).await?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut running = tokio::spawn(worker.clone().run());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut running => return Ok(ended?),
    }
    tracing::info!(
        grace_s = grace.as_secs(),
        "stopping: no new job; files in flight end"
    );
    worker.stopping.cancel();
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: giving back what is left"),
        _ = terminate.recv() => tracing::warn!("told to stop twice: giving back what is left"),
        _ = interrupt.recv() => tracing::warn!("told to stop twice: giving back what is left"),
    }
    worker.giving_up.cancel();
    if tokio::time::timeout(GIVE_BACK, running).await.is_err() {
        tracing::warn!(
            "not everything could be given back: it goes to other workers when its leases run out"
        );
    }
    Ok(())
}
