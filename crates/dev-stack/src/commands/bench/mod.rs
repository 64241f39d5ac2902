//! `dev-stack bench`: the service against the least that can be done, against its own engine, and against other tools;
//! in one run on one machine, with the same files and the same sink, in turns. See docs/BENCHMARKS.md.

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
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use super::asked_to_stop;
use crate::BenchArguments;
use machine::Machine;
use report::{Report, SetResult, ToolResult};
use run::{Cpu, Run};
use service::Service;
pub(crate) use sets::SetName;
use sets::{DataSet, check_room};
use sink_process::Sink;
pub(crate) use tools::Tool;
use tools::{Delivery, Program};

/// Room for Postgres with its log, and for all other logs, beside the rows of files.
const RESERVE_BYTES: u64 = 2 << 30;
const SMALL_RESERVE_BYTES: u64 = 512 << 20;
/// What is recorded of a file takes no more than this. (The log is bounded, and part of the reserve.)
const RECORD_BYTES: u64 = 500;
/// What one tool leaves to be done behind it should not fall to the next.
const PAUSE: Duration = Duration::from_millis(300);
/// How often the scratch folder is tried to be removed, after a stop: servers may still write there.
const REMOVALS: usize = 50;

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
    Ok(ExitCode::SUCCESS)
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
        tokio::time::sleep(PAUSE).await;
    }
    step(&format!("{} could not be removed", path.display()));
}

async fn measure(arguments: &BenchArguments, folder: &Path) -> anyhow::Result<Report> {
    let data_sets: Vec<DataSet> = arguments
        .sets
        .iter()
        .map(|name| DataSet::new(*name, arguments.files_d, arguments.small))
        .collect();
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.small { 1 } else { 5 })
        .max(1);
    check_room(
        &data_sets,
        reserve_bytes(&data_sets, rounds, arguments.small),
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
        arguments.workers,
    )
    .await?;
    let machine = Machine::look(&programs, &service.postgres_version);
    let idle = service.idle;
    let mut bench = Bench {
        folder: folder.to_owned(),
        is_aws_asked: arguments.peers.is_some(),
        rounds,
        programs,
        sink,
        service,
        notes,
    };
    let sets = bench.contests(&data_sets).await;
    let notes = bench.notes;
    bench.service.stop().await;
    bench.sink.stop().await;
    Ok(Report {
        machine,
        rounds,
        workers: arguments.workers,
        is_small: arguments.small,
        notes,
        idle,
        sets: sets?,
    })
}

fn reserve_bytes(sets: &[DataSet], rounds: usize, is_small: bool) -> u64 {
    let files: u64 = sets.iter().map(|set| set.files as u64).sum();
    let base_bytes = if is_small {
        SMALL_RESERVE_BYTES
    } else {
        RESERVE_BYTES
    };
    // The round that is not timed is recorded, too.
    base_bytes + files * (rounds as u64 + 1) * RECORD_BYTES
}

/// The service is always among them.
fn asked_tools(peers: Option<&[Tool]>) -> Vec<Tool> {
    let is_asked = |tool: &Tool| *tool == Tool::Service || peers.is_none_or(|peers| peers.contains(tool));
    Tool::ALL.into_iter().filter(is_asked).collect()
}

/// A contestant, and how it fares with one set.
struct Contestant {
    program: Program,
    result: ToolResult,
    /// The shortest time so far, not only of the timed rounds.
    shortest_s: f64,
}

struct Bench {
    folder: PathBuf,
    /// Tools that are slow take part everywhere.
    is_aws_asked: bool,
    rounds: usize,
    programs: Vec<Program>,
    sink: Sink,
    service: Service,
    notes: Vec<String>,
}

impl Bench {
    async fn contests(&mut self, sets: &[DataSet]) -> anyhow::Result<Vec<SetResult>> {
        let mut results = Vec::new();
        for set in sets {
            results.push(self.contest(*set).await.with_context(|| set.to_string())?);
        }
        Ok(results)
    }

    async fn contest(&mut self, set: DataSet) -> anyhow::Result<SetResult> {
        step(&format!("{set}: making the files"));
        let root = self.folder.join("sets");
        let expected = tokio::task::spawn_blocking(move || {
            set.generate(&root)?;
            set.read(&root)
        })
        .await??;
        self.service.renew_workers().await?;
        let mut contestants = self.contestants(&set);
        step(&format!("{set}: every tool once, and every object compared"));
        let mut able = Vec::new();
        for mut contestant in contestants.drain(..) {
            let verified = async {
                let prefix = self.run(&mut contestant, &set, true).await?;
                self.sink.check_objects(&prefix, &expected).await
            };
            let verified = verified.await;
            if self.is_able(&contestant, &set, verified)? {
                able.push(contestant);
            }
        }
        drop(expected);
        let mut contestants = able;
        for round in 0..self.rounds {
            step(&format!("{set}: round {} of {}", round + 1, self.rounds));
            let mut still_able = Vec::new();
            // Each goes first once.
            let count = contestants.len().max(1);
            contestants.rotate_left(usize::from(round > 0) % count);
            for mut contestant in contestants.drain(..) {
                let outcome = self.run(&mut contestant, &set, false).await.map(drop);
                if self.is_able(&contestant, &set, outcome)? {
                    still_able.push(contestant);
                }
            }
            contestants = still_able;
        }
        let folder = self.folder.join("sets").join(set.folder());
        tokio::task::spawn_blocking(|| fs::remove_dir_all(folder)).await??;
        let mut tools: Vec<ToolResult> = contestants
            .into_iter()
            .map(|contestant| contestant.result)
            .collect();
        tools.sort_by_key(|result| Tool::ALL.iter().position(|tool| *tool == result.tool));
        Ok(SetResult { set, tools })
    }

    fn contestants(&mut self, set: &DataSet) -> Vec<Contestant> {
        let mut contestants = Vec::new();
        for program in &self.programs {
            if program.tool.is_slow_for(set.name) && !self.is_aws_asked {
                self.notes.push(format!(
                    "{set}: {} is left out, because it is slow: ask for it with --peers",
                    program.tool
                ));
                continue;
            }
            contestants.push(Contestant {
                program: program.clone(),
                result: ToolResult {
                    tool: program.tool,
                    runs: Vec::new(),
                },
                shortest_s: f64::INFINITY,
            });
        }
        contestants
    }

    /// Whether a contestant goes on. What is wrong with ours ends the benchmark; a peer is left out of the set.
    fn is_able(
        &mut self,
        contestant: &Contestant,
        set: &DataSet,
        outcome: anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let tool = contestant.program.tool;
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if tool.is_peer() => {
                let note = format!("{set}: {tool} is left out: {error:#}");
                step(&note);
                self.notes.push(note);
                Ok(false)
            }
            Err(error) => Err(error.context(format!("{tool} failed"))),
        }
    }

    /// One run, and whether the sink has what it should have. Gives what the keys begin with. A run in which the sink
    /// verifies is not among the figures.
    async fn run(
        &mut self,
        contestant: &mut Contestant,
        set: &DataSet,
        verifies: bool,
    ) -> anyhow::Result<String> {
        self.sink.begin(verifies).await?;
        tokio::time::sleep(PAUSE).await;
        let tool = contestant.program.tool;
        let (run, prefix) = if tool == Tool::Service {
            let known = contestant.shortest_s.is_finite();
            let shortest_s = if known { contestant.shortest_s } else { 0.0 };
            self.service.upload(set, &self.sink, shortest_s).await?
        } else {
            self.run_program(&contestant.program, set).await?
        };
        self.sink.check_totals(set).await?;
        contestant.shortest_s = contestant.shortest_s.min(run.wall_s);
        let kind = if verifies { "not timed, " } else { "" };
        eprintln!(
            "    {tool}: {kind}{:.2} s, CPU {:.2} s",
            run.wall_s,
            run.cpu.without_sink_s()
        );
        if !verifies {
            contestant.result.runs.push(run);
        }
        Ok(prefix)
    }

    async fn run_program(&self, program: &Program, set: &DataSet) -> anyhow::Result<(Run, String)> {
        let prefix = format!("{}/", program.tool);
        let (folder, home) = (
            self.folder.join("sets").join(set.folder()),
            self.folder.join("home"),
        );
        let delivery = Delivery {
            folder: &folder,
            endpoint_url: self.sink.endpoint_url(),
            prefix: &prefix,
            home: &home,
        };
        let log = self.folder.join("logs").join(format!("{}.log", program.tool));
        let before_s = self.sink.cpu_s()?;
        let build = |command: &mut std::process::Command| program.build(command, &delivery);
        let usage = measured::run(program.path(), build, &log).await?;
        let run = Run {
            wall_s: usage.wall_s,
            cpu: Cpu {
                client_s: usage.cpu_s,
                sink_s: self.sink.cpu_s()? - before_s,
                ..Cpu::default()
            },
            peak_bytes: usage.peak_bytes,
            ..Run::default()
        };
        Ok((run, prefix))
    }
}

fn step(text: &str) {
    eprintln!("==> {text}");
}
