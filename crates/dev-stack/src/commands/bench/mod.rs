//! `dev-stack bench`: the service against the least that can be done, against its own engine, and against other tools;
//! in one run on one machine, with the same files and the same sink, in turns. See docs/BENCHMARKS.md.

mod contest;
pub(crate) mod floor;
mod goals;
mod machine;
mod measured;
mod processes;
mod report;
mod run;
mod service;
mod sets;
mod sink_process;
mod statistics;
mod tools;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use super::asked_to_stop;
use crate::BenchArguments;
use contest::Bench;
use machine::Machine;
use report::Report;
use service::Service;
pub(crate) use sets::SetName;
use sets::{DataSet, check_room};
use sink_process::Sink;
pub(crate) use tools::Tool;

/// Room for Postgres with its log, and for all other logs, beside the rows of files.
const RESERVE_BYTES: u64 = 2 << 30;
const SMALL_RESERVE_BYTES: u64 = 512 << 20;
/// What is recorded of a file takes no more than this. (The log is bounded, and part of the reserve.)
const RECORD_BYTES: u64 = 500;
/// How often the scratch folder is tried to be removed, after a stop: servers may still write there.
const REMOVALS: usize = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(300);

pub(crate) async fn run(arguments: BenchArguments) -> anyhow::Result<ExitCode> {
    let folder = scratch(arguments.dir.as_deref())?;
    let report = tokio::select! {
        report = measure(&arguments, folder.path()) => report,
        stopped = asked_to_stop() => { stopped?; Err(anyhow::anyhow!("stopped")) }
    };
    step("removing the files");
    remove(folder).await;
    let report = report?;
    let markdown = report.markdown();
    println!("{markdown}");
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &arguments.markdown {
        write(path, &markdown)?;
    }
    if let Some(path) = &arguments.json {
        write(path, &serde_json::to_string_pretty(&report.json())?)?;
    }
    if report.is_whole {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn scratch(dir: Option<&Path>) -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("data-uploader-bench-");
    let folder = match dir {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            builder.tempdir_in(dir.canonicalize()?)?
        }
        None => builder.tempdir()?,
    };
    // The account of Postgres must get through.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

async fn remove(folder: TempDir) {
    let path = folder.keep();
    for _ in 0..REMOVALS {
        if fs::remove_dir_all(&path).is_ok() || !path.exists() {
            return;
        }
        tokio::time::sleep(REMOVAL_PAUSE).await;
    }
    step(&format!("{} could not be removed", path.display()));
}

async fn measure(arguments: &BenchArguments, folder: &Path) -> anyhow::Result<Report> {
    let data_sets = data_sets(arguments);
    let workers = arguments.workers.clone();
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.small { 1 } else { 5 })
        .max(1);
    check_room(
        &data_sets,
        reserve_bytes(&data_sets, rounds * workers.len(), arguments.small),
        folder,
    )?;
    for name in ["sets", "home", "logs"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let mut notes = Vec::new();
    let asked = asked_tools(arguments.peers.as_deref());
    let programs = tools::find(&asked, !arguments.small, &mut notes).await;
    step("starting the sink, Postgres, Redis, the gateway and the workers");
    let sink = Sink::start(&folder.join("logs")).await?;
    let service = Service::start(
        &folder.join("stack"),
        &folder.join("sets"),
        &sink,
        workers.first().copied().unwrap_or(1),
    )
    .await?;
    let machine = Machine::look(&programs, &service.postgres_version);
    let idle = service.idle;
    let mut bench = Bench {
        folder: folder.to_owned(),
        is_aws_asked: arguments.peers.is_some(),
        rounds,
        workers,
        programs,
        sink,
        service,
        notes,
    };
    let (sets, failure) = bench.contests(&data_sets).await;
    let mut notes = bench.notes;
    if let Some(failure) = &failure {
        let note = format!("**the benchmark ended early**: {failure:#}");
        step(&note);
        notes.push(note);
    }
    bench.service.stop().await;
    bench.sink.stop().await;
    Ok(Report {
        machine,
        rounds,
        is_small: arguments.small,
        notes,
        idle,
        sets,
        is_whole: failure.is_none(),
    })
}

/// D comes with as many files as are asked for, once for each number.
fn data_sets(arguments: &BenchArguments) -> Vec<DataSet> {
    let sets = arguments.sets.iter().flat_map(|name| {
        let counts = match name {
            SetName::D => arguments.files_d.as_slice(),
            _ => &[0],
        };
        counts
            .iter()
            .map(|files| DataSet::new(*name, *files, arguments.small))
    });
    sets.collect()
}

fn reserve_bytes(sets: &[DataSet], rounds: usize, is_small: bool) -> u64 {
    let files: u64 = sets.iter().map(|set| set.files as u64).sum();
    let base_bytes = if is_small {
        SMALL_RESERVE_BYTES
    } else {
        RESERVE_BYTES
    };
    // A timed round records each file twice, and the one that is not timed does so, too.
    base_bytes + files * 2 * (rounds as u64 + 1) * RECORD_BYTES
}

/// The service is always among them.
fn asked_tools(peers: Option<&[Tool]>) -> Vec<Tool> {
    let is_asked = |tool: &Tool| *tool == Tool::Service || peers.is_none_or(|peers| peers.contains(tool));
    Tool::ALL.into_iter().filter(is_asked).collect()
}

fn step(text: &str) {
    eprintln!("==> {text}");
}
