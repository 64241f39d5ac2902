//! `dev-stack neighbour`: one company has a million files queued, and another's ten are measured: how long they wait,
//! and how much of the large company is done before them, against an idle service.

mod delivery;
mod report;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use dev_stack::stack::ADMIN_USERNAME;
use dev_stack::{Stack, StackOptions};

use super::api::Api;
use super::asked_to_stop;
use super::company::Company;
use crate::NeighbourArguments;
use delivery::{Delivery, Session};
use report::Report;

/// The source root, and what lies below it.
const ROOT: &str = "files";
const LARGE: &str = "large";
const SMALL: &str = "small";
const SMALL_FILES: usize = 10;
const FILES_PER_FOLDER: usize = 1_000;
const FILE_BYTES: usize = 100;
/// How long the walk over the large company's files may take.
const WALK_LIMIT: Duration = Duration::from_secs(1_200);
const POLL: Duration = Duration::from_millis(250);
/// Between two deliveries: they meet the large company's jobs at other moments.
const REST: Duration = Duration::from_millis(700);

pub(crate) async fn run(arguments: NeighbourArguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new()
        .prefix("data-uploader-neighbour-")
        .tempdir()?;
    // The account of Postgres must get through.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
    let report = tokio::select! {
        report = measure(&arguments, folder.path()) => report,
        stopped = asked_to_stop() => { stopped?; Err(anyhow::anyhow!("stopped")) }
    }?;
    println!("\n{}", report.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json())?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    step("removing the files");
    folder.close()?;
    Ok(if report.is_bounded() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(arguments: &NeighbourArguments, folder: &Path) -> anyhow::Result<Report> {
    let root = folder.join(ROOT);
    step(&format!("making {} files", arguments.files));
    let (large, small, count) = (root.join(LARGE), root.join(SMALL), arguments.files);
    tokio::task::spawn_blocking(move || {
        make_files(&small, SMALL_FILES)?;
        make_files(&large, count)
    })
    .await??;
    step("starting Postgres, Redis, an S3 server, the gateway and the workers");
    let stack = Stack::start(StackOptions {
        workers: arguments.workers,
        source_roots: Some(format!("{ROOT}={}", root.display())),
        shutdown_grace_s: 5,
        ..StackOptions::in_folder(folder.join("stack"))
    })
    .await?;
    let outcome = compare(arguments, &stack).await;
    stack.stop().await;
    outcome
}

/// Files of 100 bytes in folders of a thousand. Those of a folder are one file with many names: a name costs much
/// less than a file, and whoever walks and reads them does not know.
fn make_files(folder: &Path, count: usize) -> std::io::Result<()> {
    for first in (0..count).step_by(FILES_PER_FOLDER) {
        let folder = folder.join(format!("{:05}", first / FILES_PER_FOLDER));
        std::fs::create_dir_all(&folder)?;
        let one = folder.join("0000.dat");
        std::fs::write(&one, [b'.'; FILE_BYTES])?;
        for number in 1..FILES_PER_FOLDER.min(count - first) {
            std::fs::hard_link(&one, folder.join(format!("{number:04}.dat")))?;
        }
    }
    Ok(())
}

async fn compare(arguments: &NeighbourArguments, stack: &Stack) -> anyhow::Result<Report> {
    let gateways: Arc<[String]> = Arc::new([stack.api_url()]);
    let admin = Api::new(gateways.clone(), ADMIN_USERNAME, stack.admin_password());
    let large = Company::enter(stack, &admin, gateways.clone(), 1).await?;
    let small = Company::enter(stack, &admin, gateways, 2).await?;
    let s3 = stack.s3().context("the S3 server is down")?;
    s3.set_latency(Duration::from_millis(arguments.latency_ms));

    step(&format!("{} deliveries on the idle service", arguments.rounds));
    // The first of all opens connections and fills caches.
    Session::start(&small, SMALL).await?.end(stack).await?;
    let mut idle = Vec::new();
    for _ in 0..arguments.rounds {
        idle.push(Delivery::measure(stack, &small, None).await?);
    }

    step("the large company begins");
    let begun = Instant::now();
    let session = Session::start(&large, LARGE).await?;
    session.walked(stack).await?;
    let walk_s = begun.elapsed().as_secs_f64();
    let waiting_jobs = session.waiting_jobs(stack).await?;
    step(&format!(
        "walked in {walk_s:.0} s, {waiting_jobs} jobs wait: {} deliveries beside it",
        arguments.rounds
    ));
    let mut beside = Vec::new();
    let begun = Instant::now();
    let before = session.progress(stack).await?;
    while beside.len() < arguments.rounds {
        if session.waiting_jobs(stack).await? == 0 {
            bail!(
                "the large company was done after {} deliveries: give it more files, or ask for fewer rounds",
                beside.len()
            );
        }
        beside.push(Delivery::measure(stack, &small, Some(&session)).await?);
        tokio::time::sleep(REST).await;
    }
    let sent = session.progress(stack).await?.files - before.files;
    Ok(Report {
        files: arguments.files,
        workers: arguments.workers,
        latency_ms: arguments.latency_ms,
        walk_s,
        waiting_jobs: (waiting_jobs, session.waiting_jobs(stack).await?),
        files_per_s: sent as f64 / begun.elapsed().as_secs_f64(),
        idle,
        beside: session.begun_before(stack, beside).await?,
    })
}

fn step(text: &str) {
    eprintln!("==> {text}");
}
