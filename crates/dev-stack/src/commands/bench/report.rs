//! The figures, as Markdown and as JSON.

use serde_json::{Value, json};

use super::goals::{NOT_MEASURED, goals};
use super::machine::{Machine, is_release};
use super::run::Run;
use super::service::Idle;
use super::sets::{DataSet, grouped};
use super::statistics::Spread;
use super::tools::Tool;

/// Everything that was measured.
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) is_small: bool,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
    pub(super) idle: Idle,
    pub(super) sets: Vec<SetResult>,
    /// Every set that was asked for was measured.
    pub(super) is_whole: bool,
}

/// What was measured with one data set.
pub(super) struct SetResult {
    pub(super) set: DataSet,
    /// How many the service had.
    pub(super) workers: usize,
    /// Of the service, looking for what is new in a set of which the bucket has everything.
    pub(super) again: Vec<Run>,
    pub(super) tools: Vec<ToolResult>,
}

/// What was measured of one tool with one data set.
pub(super) struct ToolResult {
    pub(super) tool: Tool,
    pub(super) runs: Vec<Run>,
}

impl SetResult {
    fn name(&self) -> String {
        match self.workers {
            1 => self.set.to_string(),
            workers => format!("{}, {workers} workers", self.set),
        }
    }

    /// Files compared with the bucket in a second, where nothing was to be sent.
    pub(super) fn compared_per_s(&self) -> Option<f64> {
        let wall = Spread::of(self.again.iter().map(|run| run.wall_s))?;
        Some(self.set.files as f64 / wall.median)
    }

    /// The median of a figure over the runs of a tool.
    pub(super) fn median(&self, tool: Tool, figure: impl Fn(&Run) -> f64) -> Option<f64> {
        let result = self.tools.iter().find(|result| result.tool == tool)?;
        Some(result.spread(figure)?.median)
    }
}

impl ToolResult {
    fn spread(&self, figure: impl Fn(&Run) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().map(figure))
    }

    /// Of a figure that only some tools have.
    fn spread_of(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure))
    }
}

impl Report {
    /// Whether goals can be judged by it.
    fn is_judged(&self) -> bool {
        is_release() && !self.is_small
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = self.machine.markdown();
        text += &format!(
            "\nMedians of {} round(s), in brackets the least and the most. MB/s are millions of bytes.\n",
            self.rounds
        );
        if !self.is_judged() {
            text += "\n**Small data sets, or a debug build: these figures show that the benchmark works, and nothing else.**\n";
        }
        for note in &self.notes {
            text += &format!("\n- {}", note.replace('\n', " "));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for result in &self.sets {
            text += &format!("\n### {}\n\n{}", result.name(), tools_table(result));
            text += &recording_lines(result);
            text += &again_line(result);
        }
        text += &scale_table(&self.sets);
        text += "\n### Goals\n\n| what | goal | measured | |\n| --- | --- | --: | --- |\n";
        for goal in goals(self) {
            text += &goal.row(self.is_judged());
        }
        text + &format!("\nNot measured here: {}.\n", NOT_MEASURED.join("; "))
    }

    pub(super) fn json(&self) -> Value {
        let sets: Vec<Value> = self.sets.iter().map(SetResult::json).collect();
        let goals: Vec<Value> = goals(self)
            .iter()
            .map(|goal| goal.json(self.is_judged()))
            .collect();
        json!({
            "machine": self.machine.json(),
            "rounds": self.rounds,
            "is_small": self.is_small,
            "is_whole": self.is_whole,
            "notes": self.notes,
            "idle_bytes": { "worker": self.idle.worker_bytes, "gateway": self.idle.gateway_bytes },
            "sets": sets,
            "goals": goals,
        })
    }
}

/// The service with so many files and so many workers.
fn scale_table(sets: &[SetResult]) -> String {
    if sets.len() < 2 {
        return String::new();
    }
    let mut text = String::from(
        "\n### The service by files and workers\n\n| set | workers | wall s | files/s | MB/s | CPU µs a file: workers | \
         Postgres | sink | peak MiB of a worker |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for result in sets {
        let median = |figure: fn(&Run) -> f64| result.median(Tool::Service, figure);
        let Some(wall_s) = median(|run| run.wall_s) else {
            continue;
        };
        let files = result.set.files as f64;
        let us = |figure: fn(&Run) -> f64| median(figure).map_or(f64::NAN, |cpu_s| cpu_s * 1e6 / files);
        text += &format!(
            "| {} | {} | {wall_s:.2} | {} | {} | {:.1} | {:.1} | {:.1} | {:.0} |\n",
            result.set,
            result.workers,
            grouped((files / wall_s).round() as u64),
            grouped((result.set.size_bytes() as f64 / wall_s / 1e6).round() as u64),
            us(|run| run.cpu.client_s),
            us(|run| run.cpu.postgres_s.unwrap_or(f64::NAN)),
            us(|run| run.cpu.sink_s),
            median(|run| run.peak_bytes as f64).unwrap_or(f64::NAN) / f64::from(1 << 20),
        );
    }
    text
}

/// How fast the service finds that there is nothing to send.
fn again_line(result: &SetResult) -> String {
    let files = result.set.files as f64;
    let (Some(wall), Some(rate), Some(postgres), Some(peak)) = (
        Spread::of(result.again.iter().map(|run| run.wall_s)),
        result.compared_per_s(),
        Spread::of(result.again.iter().filter_map(|run| run.cpu.postgres_s)),
        Spread::of(result.again.iter().map(|run| run.peak_bytes as f64)),
    ) else {
        return String::new();
    };
    format!(
        "\nAgain, with `skip_unchanged` and everything there: {} s, {} files/s compared; Postgres' CPU {:.1} µs a file; \
         peak {:.0} MiB.\n",
        wall.text(3),
        grouped(rate.round() as u64),
        postgres.median * 1e6 / files,
        peak.median / f64::from(1 << 20),
    )
}

fn tools_table(result: &SetResult) -> String {
    let mut text = String::from(
        "| tool | wall s | x of floor | files/s | MB/s | CPU s: client | Postgres | Redis | gateway | sink | \
         without sink | peak MiB |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    let floor_s = result.median(Tool::Floor, |run| run.wall_s);
    for tool in &result.tools {
        let Some(wall) = tool.spread(|run| run.wall_s) else {
            continue;
        };
        let cell = |figure: fn(&Run) -> Option<f64>| {
            tool.spread_of(figure)
                .map_or("-".to_owned(), |spread| format!("{:.2}", spread.median))
        };
        let to_floor = floor_s.map_or("-".to_owned(), |floor_s| format!("{:.2}", wall.median / floor_s));
        let cells = [
            tool.tool.name().to_owned(),
            wall.text(3),
            to_floor,
            grouped((result.set.files as f64 / wall.median).round() as u64),
            grouped((result.set.size_bytes() as f64 / wall.median / 1e6).round() as u64),
            cell(|run| Some(run.cpu.client_s)),
            cell(|run| run.cpu.postgres_s),
            cell(|run| run.cpu.redis_s),
            cell(|run| run.cpu.gateway_s),
            cell(|run| Some(run.cpu.sink_s)),
            cell(|run| Some(run.cpu.without_sink_s())),
            cell(|run| Some(run.peak_bytes as f64 / f64::from(1 << 20))),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// What it costs the service to record a file.
fn recording_lines(result: &SetResult) -> String {
    let Some(service) = result.tools.iter().find(|tool| tool.tool == Tool::Service) else {
        return String::new();
    };
    let files = result.set.files as f64;
    let text = |figure: &dyn Fn(&Run) -> Option<f64>, digits| {
        service
            .spread_of(figure)
            .map_or("-".to_owned(), |spread| spread.text(digits))
    };
    format!(
        "\nOf the service: write-ahead log {} bytes a file; Postgres' CPU {} µs a file; work on the first file begins {} \
         ms after the scan was claimed.\n",
        text(&|run| Some(run.wal_bytes? as f64 / files), 0),
        text(&|run| Some(run.cpu.postgres_s? * 1e6 / files), 1),
        text(&|run| run.first_file_ms, 0),
    )
}

impl SetResult {
    fn json(&self) -> Value {
        let floor_s = self.median(Tool::Floor, |run| run.wall_s);
        let tools: Vec<Value> = self
            .tools
            .iter()
            .map(|tool| {
                let spread = |figure: fn(&Run) -> f64| tool.spread(figure).map(|spread| spread.json());
                let wall_s = tool.spread(|run| run.wall_s).map(|wall| wall.median);
                json!({
                    "tool": tool.tool.name(),
                    "wall_s": spread(|run| run.wall_s),
                    "to_floor": wall_s.zip(floor_s).map(|(wall_s, floor_s)| wall_s / floor_s),
                    "files_per_s": wall_s.map(|wall_s| self.set.files as f64 / wall_s),
                    "bytes_per_s": wall_s.map(|wall_s| self.set.size_bytes() as f64 / wall_s),
                    "client_cpu_s": spread(|run| run.cpu.client_s),
                    "peak_bytes": spread(|run| run.peak_bytes as f64),
                    "runs": tool.runs.iter().map(Run::json).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "name": self.set.folder(),
            "files": self.set.files,
            "file_bytes": self.set.file_bytes,
            "workers": self.workers,
            "again": self.again.iter().map(Run::json).collect::<Vec<_>>(),
            "tools": tools,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::Cpu;
    use super::super::sets::SetName;
    use super::*;

    #[test]
    fn markdown_and_json_tell_the_same() {
        let tool = |tool, walls: &[f64]| ToolResult {
            tool,
            runs: walls
                .iter()
                .map(|wall_s| Run {
                    wall_s: *wall_s,
                    wal_bytes: (tool == Tool::Service).then_some(60_000),
                    ..Run::default()
                })
                .collect(),
        };
        let result = SetResult {
            set: DataSet::new(SetName::A, 0, true),
            workers: 2,
            again: vec![Run {
                wall_s: 0.01,
                cpu: Cpu {
                    postgres_s: Some(0.003),
                    ..Cpu::default()
                },
                ..Run::default()
            }],
            tools: vec![
                tool(Tool::Floor, &[0.5, 0.25, 1.0]),
                tool(Tool::Service, &[1.0, 1.5, 3.0]),
                tool(Tool::S5cmd, &[6.0]),
            ],
        };
        let table = tools_table(&result);
        assert!(
            table.contains("| service | 1.500 (1.000–3.000) | 3.00 | 200 | 1 |"),
            "{table}"
        );
        assert!(recording_lines(&result).contains("log 200 (200–200) bytes a file"));
        let again = again_line(&result);
        assert!(
            again.contains("0.010 (0.010–0.010) s, 30,000 files/s compared; Postgres' CPU 10.0 µs"),
            "{again}"
        );
        assert_eq!(
            scale_table(std::slice::from_ref(&result)),
            "",
            "nothing to compare"
        );
        let json = result.json();
        assert_eq!(json["workers"], 2);
        assert_eq!(json["tools"][1]["to_floor"], 3.0);
        assert_eq!(json["tools"][2]["runs"][0]["wall_s"], 6.0);
        let report = Report {
            machine: Machine::look(&[], "15"),
            rounds: 3,
            is_small: true,
            notes: vec!["aws is left out: it is slow".to_owned()],
            idle: Idle {
                worker_bytes: 10 << 20,
                gateway_bytes: 20 << 20,
            },
            sets: vec![result],
            is_whole: true,
        };
        let text = report.markdown();
        assert!(text.contains("| at least 4 x | 4.00 x | not judged |"), "{text}");
        assert!(text.contains("aws is left out"));
        assert_eq!(report.json()["goals"][0]["measured"], 4.0);
    }
}
