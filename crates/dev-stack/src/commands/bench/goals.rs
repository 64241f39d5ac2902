//! What is to be reached, and whether it was.

use serde_json::{Value, json};

use super::report::{Report, SetResult};
use super::run::Run;
use super::sets::SetName;
use super::tools::Tool;

const MIB: u32 = 1 << 20;

/// A goal, with what was measured for it.
pub(super) struct Goal {
    what: &'static str,
    bound: Bound,
    unit: &'static str,
    /// None where this benchmark was not asked for what it takes.
    measured: Option<f64>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What this benchmark does not measure.
pub(super) const NOT_MEASURED: [&str; 2] = [
    "GET /api/sessions/{id} under load",
    "the time from a fresh clone to the end of `make demo`",
];

pub(super) fn goals(report: &Report) -> Vec<Goal> {
    let named = |name| report.sets.iter().filter(move |result| result.set.name == name);
    let set = |name| named(name).max_by_key(|result| (result.set.files, std::cmp::Reverse(result.workers)));
    let (a, d) = (set(SetName::A), set(SetName::D));
    let mut goals = speed_goals(a, set(SetName::B), set(SetName::C));
    goals.extend(volume_goals(a, d));
    goals.extend(recording(
        "A: Postgres' CPU for a file",
        "A: write-ahead log for a file",
        a,
    ));
    goals.extend(recording(
        "D: Postgres' CPU for a file",
        "D: write-ahead log for a file",
        d,
    ));
    let mib = |bytes: u64| Some(bytes as f64 / f64::from(MIB));
    goals.push(at_most(
        "E: the worker's peak memory, with 256 MiB to read into",
        320.0,
        "MiB",
        service(set(SetName::E), |run| run.peak_bytes as f64 / f64::from(MIB)),
    ));
    goals.push(at_most(
        "an idle worker's memory",
        15.0,
        "MiB",
        mib(report.idle.worker_bytes),
    ));
    goals.push(at_most(
        "an idle gateway's memory",
        25.0,
        "MiB",
        mib(report.idle.gateway_bytes),
    ));
    goals
}

fn speed_goals(a: Option<&SetResult>, b: Option<&SetResult>, c: Option<&SetResult>) -> Vec<Goal> {
    let cpu = |run: &Run| run.cpu.client_s;
    let to_floor = |result: Option<&SetResult>| ratio(result?, (Tool::Service, wall), (Tool::Floor, wall));
    vec![
        at_least(
            "A: s5cmd takes so many times as long as the service",
            4.0,
            a.and_then(|a| ratio(a, (Tool::S5cmd, wall), (Tool::Service, wall))),
        ),
        at_most(
            "A: the engine's CPU against the floor's",
            1.8,
            "x",
            a.and_then(|a| ratio(a, (Tool::Engine, cpu), (Tool::Floor, cpu))),
        ),
        at_most("B: the service's time against the floor's", 2.0, "x", to_floor(b)),
        at_most("C: the service's time against the floor's", 1.3, "x", to_floor(c)),
    ]
}

fn volume_goals(a: Option<&SetResult>, d: Option<&SetResult>) -> Vec<Goal> {
    let rate = |result: Option<&SetResult>| Some(1.0 / per_file(result, wall)?);
    vec![
        at_least(
            "D: files a second, against those of A",
            0.9,
            rate(d).zip(rate(a)).map(|(d, a)| d / a),
        ),
        at_most(
            "D: the worker's peak memory",
            150.0,
            "MiB",
            service(d, |run| run.peak_bytes as f64 / f64::from(MIB)),
        ),
        at_most(
            "D: from the scan's claim until work on the first file begins",
            200.0,
            "ms",
            service(d, |run| run.first_file_ms.unwrap_or(f64::NAN)),
        ),
        Goal {
            what: "D again, nothing to send: files compared a second",
            bound: Bound::AtLeast(100_000.0),
            unit: "",
            measured: d.and_then(SetResult::compared_per_s),
        },
    ]
}

/// What recording a file costs.
fn recording(cpu: &'static str, wal: &'static str, result: Option<&SetResult>) -> [Goal; 2] {
    let cpu_us = |run: &Run| run.cpu.postgres_s.unwrap_or(f64::NAN) * 1e6;
    let wal_bytes = |run: &Run| run.wal_bytes.map_or(f64::NAN, |bytes| bytes as f64);
    [
        at_most(cpu, 20.0, "µs", per_file(result, cpu_us)),
        at_most(wal, 700.0, "bytes", per_file(result, wal_bytes)),
    ]
}

fn at_most(what: &'static str, limit: f64, unit: &'static str, measured: Option<f64>) -> Goal {
    Goal {
        what,
        bound: Bound::AtMost(limit),
        unit,
        measured,
    }
}

/// So many times as much as something else.
fn at_least(what: &'static str, limit: f64, measured: Option<f64>) -> Goal {
    Goal {
        what,
        bound: Bound::AtLeast(limit),
        unit: "x",
        measured,
    }
}

fn wall(run: &Run) -> f64 {
    run.wall_s
}

/// The median of a figure of the service.
fn service(result: Option<&SetResult>, figure: fn(&Run) -> f64) -> Option<f64> {
    result?.median(Tool::Service, figure)
}

fn per_file(result: Option<&SetResult>, figure: fn(&Run) -> f64) -> Option<f64> {
    Some(service(result, figure)? / result?.set.files as f64)
}

/// The median of one tool's figure over that of another's.
fn ratio(
    result: &SetResult,
    (above, above_figure): (Tool, impl Fn(&Run) -> f64),
    (below, below_figure): (Tool, impl Fn(&Run) -> f64),
) -> Option<f64> {
    Some(result.median(above, above_figure)? / result.median(below, below_figure)?)
}

impl Goal {
    /// A row of the table. Without `is_judged` the figures are such that no verdict may rest on them.
    pub(super) fn row(&self, is_judged: bool) -> String {
        let (word, limit) = match self.bound {
            Bound::AtLeast(limit) => ("at least", limit),
            Bound::AtMost(limit) => ("at most", limit),
        };
        let unit = self.unit;
        let measured = self
            .measured
            .map_or("-".to_owned(), |measured| format!("{measured:.2} {unit}"));
        let verdict = match self.missed_percent() {
            None => "not measured in this run".to_owned(),
            Some(_) if !is_judged => "not judged".to_owned(),
            Some(missed) if missed <= 0.0 => "reached".to_owned(),
            Some(missed) => format!("**missed** by {missed:.0} %"),
        };
        format!(
            "| {} | {word} {limit} {unit} | {measured} | {verdict} |\n",
            self.what
        )
    }

    /// By how much of the limit it is beyond it; negative on the good side.
    fn missed_percent(&self) -> Option<f64> {
        let measured = self.measured?;
        Some(match self.bound {
            Bound::AtLeast(limit) => 100.0 * (1.0 - measured / limit),
            Bound::AtMost(limit) => 100.0 * (measured / limit - 1.0),
        })
    }

    pub(super) fn json(&self, is_judged: bool) -> Value {
        let (kind, limit) = match self.bound {
            Bound::AtLeast(limit) => ("at_least", limit),
            Bound::AtMost(limit) => ("at_most", limit),
        };
        let reached = self
            .missed_percent()
            .filter(|_| is_judged)
            .map(|missed| missed <= 0.0);
        json!({
            "what": self.what,
            kind: limit,
            "unit": self.unit,
            "measured": self.measured,
            "reached": reached,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_at_its_limit_and_missed_beyond() {
        let row = |bound, measured| {
            let goal = Goal {
                what: "it",
                bound,
                unit: "x",
                measured,
            };
            goal.row(true)
        };
        assert_eq!(
            row(Bound::AtMost(2.0), Some(2.0)),
            "| it | at most 2 x | 2.00 x | reached |\n"
        );
        assert!(row(Bound::AtMost(2.0), Some(2.5)).contains("**missed** by 25 %"));
        assert!(row(Bound::AtLeast(4.0), Some(3.0)).contains("**missed** by 25 %"));
        assert!(row(Bound::AtLeast(4.0), Some(5.0)).contains("reached"));
        assert!(row(Bound::AtLeast(4.0), None).contains("| - | not measured in this run |"));
    }
}
