//! The figures of a run, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::kind::Kind;
use super::oracle::Violation;
use crate::commands::percentile::percentile;

const MIB: f64 = 1024.0 * 1024.0;
const WRONGS: [&str; 6] = [
    "lost",
    "duplicated",
    "stuck",
    "wrong_status",
    "counter",
    "multipart_left",
];

/// What is known of one kind of fault.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) injected: u64,
    /// Violations in sessions that ran while it was injected, by kind of violation.
    pub(super) wrong: BTreeMap<String, u64>,
    /// Seconds from the fault until every job that it hit had recorded something again.
    pub(super) recovery_s: Vec<f64>,
}

/// The figures of all rounds.
#[derive(Default)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) rounds: u64,
    pub(super) took: Duration,
    pub(super) sessions: u64,
    pub(super) retries: u64,
    pub(super) files: u64,
    pub(super) objects: u64,
    pub(super) object_bytes: u64,
    pub(super) received_bytes: u64,
    /// By whoever, at random instants and at fail-points.
    pub(super) workers_killed: u64,
    pub(super) faults: BTreeMap<Kind, Figures>,
    pub(super) violations: Vec<(u64, Violation)>,
}

impl Report {
    pub(super) fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    fn sent_again_bytes(&self) -> u64 {
        self.received_bytes.saturating_sub(self.object_bytes)
    }

    pub(super) fn json(&self) -> Value {
        let faults: Vec<Value> = self
            .faults
            .iter()
            .map(|(kind, figures)| {
                json!({
                    "fault": kind.name(),
                    "injected": figures.injected,
                    "violations": figures.wrong,
                    "recovery_p50_s": percentile(&figures.recovery_s, 50),
                    "recovery_p99_s": percentile(&figures.recovery_s, 99),
                })
            })
            .collect();
        let violations: Vec<Value> = self
            .violations
            .iter()
            .map(|(round, violation)| json!({ "round": round, "violation": violation }))
            .collect();
        json!({
            "seed": self.seed,
            "rounds": self.rounds,
            "minutes": self.took.as_secs_f64() / 60.0,
            "sessions": self.sessions,
            "retries": self.retries,
            "files": self.files,
            "objects": self.objects,
            "object_bytes": self.object_bytes,
            "received_bytes": self.received_bytes,
            "workers_killed": self.workers_killed,
            "sent_again_bytes": self.sent_again_bytes(),
            "faults": faults,
            "violations": violations,
        })
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<35}{:>6}{:>6}{:>6}{:>7}{:>8}{:>9}{:>11}{:>10}{:>10}\n",
            "fault", "times", "lost", "twice", "stuck", "status", "counters", "multiparts", "p50", "p99"
        );
        for (kind, figures) in &self.faults {
            let mut line = format!("{:<35}{:>6}", kind.name(), figures.injected);
            for (wrong, width) in WRONGS.iter().zip([6, 6, 7, 8, 9, 11]) {
                let count = figures.wrong.get(*wrong).copied().unwrap_or_default();
                // Writing to a text does not fail.
                let _ = write!(line, "{count:>width$}");
            }
            for percent in [50, 99] {
                let value = percentile(&figures.recovery_s, percent);
                let value = value.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"));
                let _ = write!(line, "{value:>10}");
            }
            text += &line;
            text.push('\n');
        }
        let injected: u64 = self.faults.values().map(|figures| figures.injected).sum();
        let _ = write!(
            text,
            "\n{injected} faults, {} sessions ({} retries), {} files recorded, {} objects of {:.1} MiB; \
             {:.1} MiB sent again\n{} workers killed, {:.0} a minute\nseed {}, {} rounds, {:.1} minutes; {} violations\n",
            self.sessions,
            self.retries,
            self.files,
            self.objects,
            self.object_bytes as f64 / MIB,
            self.sent_again_bytes() as f64 / MIB,
            self.workers_killed,
            self.workers_killed as f64 / (self.took.as_secs_f64() / 60.0).max(1e-9),
            self.seed,
            self.rounds,
            self.took.as_secs_f64() / 60.0,
            self.violations.len(),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_in_the_table_and_spoils_the_run() {
        let mut report = Report::default();
        assert!(report.is_good());
        let figures = report.faults.entry(Kind::WorkerKilled).or_default();
        figures.injected = 12;
        figures.wrong.insert("stuck".to_owned(), 3);
        let violation = Violation {
            session: "s".to_owned(),
            kind: "stuck".to_owned(),
            detail: "is in_progress".to_owned(),
        };
        report.violations.push((1, violation));
        assert!(!report.is_good());
        let table = report.table();
        let line = table.lines().nth(1).unwrap();
        assert!(
            line.starts_with("worker killed (SIGKILL)                12     0     0      3"),
            "{line}"
        );
        assert_eq!(report.json()["faults"][0]["violations"]["stuck"], 3);
    }
}
