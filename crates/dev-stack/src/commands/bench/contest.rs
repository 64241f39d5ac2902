//! One data set after the other, and the tools in turns.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::measured;
use super::report::{SetResult, ToolResult};
use super::run::{Cpu, Run};
use super::service::Service;
use super::sets::{DataSet, Expected};
use super::sink_process::Sink;
use super::step;
use super::tools::{Delivery, Program, Tool};

/// What one tool leaves to be done behind it should not fall to the next.
const PAUSE: Duration = Duration::from_millis(300);

/// A contestant, and how it fares with one set.
struct Contestant {
    program: Program,
    result: ToolResult,
    /// The shortest time so far, not only of the timed rounds.
    shortest_s: f64,
}

/// Everybody who takes part, and where it happens.
pub(super) struct Bench {
    pub(super) folder: PathBuf,
    /// Tools that are slow take part everywhere.
    pub(super) is_aws_asked: bool,
    pub(super) rounds: usize,
    /// How many workers the service has: the others take part beside the first number alone.
    pub(super) workers: Vec<usize>,
    pub(super) programs: Vec<Program>,
    pub(super) sink: Sink,
    pub(super) service: Service,
    pub(super) notes: Vec<String>,
}

impl Bench {
    /// The results, and what ended the contests before their end.
    pub(super) async fn contests(&mut self, sets: &[DataSet]) -> (Vec<SetResult>, Option<anyhow::Error>) {
        let mut results = Vec::new();
        for set in sets {
            // What was measured before may have taken hours: it is told all the same.
            if let Err(error) = self.contests_with(*set, &mut results).await {
                return (results, Some(error.context(set.to_string())));
            }
        }
        (results, None)
    }

    async fn contests_with(&mut self, set: DataSet, results: &mut Vec<SetResult>) -> anyhow::Result<()> {
        step(&format!("{set}: making the files"));
        let root = self.folder.join("sets");
        let expected = tokio::task::spawn_blocking(move || {
            set.generate(&root)?;
            set.read(&root)
        })
        .await??;
        for (index, workers) in self.workers.clone().into_iter().enumerate() {
            self.service.renew_workers(workers).await?;
            let mut result = self.contest(set, &expected, index > 0).await?;
            result.workers = workers;
            results.push(result);
        }
        let folder = self.folder.join("sets").join(set.folder());
        tokio::task::spawn_blocking(|| fs::remove_dir_all(folder)).await??;
        Ok(())
    }

    async fn contest(
        &mut self,
        set: DataSet,
        expected: &Expected,
        is_service_alone: bool,
    ) -> anyhow::Result<SetResult> {
        let mut contestants = self.contestants(&set, is_service_alone);
        let mut again = Vec::new();
        step(&format!("{set}: every tool once, and every object compared"));
        let mut able = Vec::new();
        for mut contestant in contestants.drain(..) {
            let verified = async {
                let prefix = self.run(&mut contestant, &set, true).await?;
                self.sink.check_objects(&prefix, expected).await
            };
            let verified = verified.await;
            if self.is_able(&contestant, &set, verified)? {
                able.push(contestant);
            }
        }
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
                    if contestant.program.tool == Tool::Service {
                        again.push(self.run_again(&set, &again).await?);
                    }
                    still_able.push(contestant);
                }
            }
            contestants = still_able;
        }
        let mut tools: Vec<ToolResult> = contestants
            .into_iter()
            .map(|contestant| contestant.result)
            .collect();
        tools.sort_by_key(|result| Tool::ALL.iter().position(|tool| *tool == result.tool));
        Ok(SetResult {
            set,
            workers: 1,
            again,
            tools,
        })
    }

    fn contestants(&mut self, set: &DataSet, is_service_alone: bool) -> Vec<Contestant> {
        let mut contestants = Vec::new();
        for program in &self.programs {
            if is_service_alone && program.tool != Tool::Service {
                continue;
            }
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

    /// The service once more, right after it has sent everything: now it is to send nothing.
    async fn run_again(&mut self, set: &DataSet, earlier: &[Run]) -> anyhow::Result<Run> {
        let shortest_s = earlier.iter().map(|run| run.wall_s).reduce(f64::min);
        let run = self
            .service
            .compare(set, &self.sink, shortest_s.unwrap_or(0.0))
            .await
            .context("the service failed when it should have found nothing to send")?;
        self.sink.check_totals(set).await?;
        eprintln!(
            "    service, again: {:.2} s, CPU {:.2} s",
            run.wall_s,
            run.cpu.without_sink_s()
        );
        Ok(run)
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
        let build = |command: &mut Command| program.build(command, &delivery);
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
