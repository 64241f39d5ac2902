//! The figures, as a table in Markdown and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::delivery::Delivery;
use crate::commands::percentile::percentile;

/// What is measured of a delivery: its name in the table and in JSON, and where it stands.
type Measure = (&'static str, &'static str, fn(&Delivery) -> f64);

const TIMES: [Measure; 3] = [
    ("first job claimed, ms", "claimed_ms", |delivery| {
        delivery.claimed_ms
    }),
    ("first file begun, ms", "first_file_ms", |delivery| {
        delivery.first_file_ms
    }),
    ("completed, ms", "completed_ms", |delivery| delivery.completed_ms),
];
const COUNTS: [Measure; 3] = [
    (
        "large company's jobs begun before the claim",
        "jobs_before_claim",
        |delivery| delivery.begun_before as f64,
    ),
    (
        "large company's jobs claimed until completed",
        "jobs_claimed",
        |delivery| delivery.meanwhile.claims as f64,
    ),
    (
        "large company's files sent until completed",
        "files_sent",
        |delivery| delivery.meanwhile.files as f64,
    ),
];

/// The figures of a run.
pub(super) struct Report {
    pub(super) files: usize,
    pub(super) workers: usize,
    pub(super) latency_ms: u64,
    pub(super) walk_s: f64,
    /// The large company's jobs in line before the first delivery beside it, and after the last.
    pub(super) waiting_jobs: (i64, i64),
    /// What the large company sent meanwhile.
    pub(super) files_per_s: f64,
    pub(super) idle: Vec<Delivery>,
    pub(super) beside: Vec<Delivery>,
}

impl Report {
    /// Whether at most one of the large company's jobs went before a claim on each worker.
    pub(super) fn is_bounded(&self) -> bool {
        let workers = i64::try_from(self.workers).unwrap_or(i64::MAX);
        self.beside
            .iter()
            .all(|delivery| delivery.begun_before <= workers)
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| from the request to | idle: median | worst | beside: median | worst |\n| --- | --: | --: | --: | --: |\n",
        );
        for (name, _, measure) in TIMES.iter().chain(&COUNTS) {
            let cell = |deliveries: &[Delivery], percent| {
                let values: Vec<f64> = deliveries.iter().map(measure).collect();
                percentile(&values, percent).map_or("-".to_owned(), |value| format!("{value:.0}"))
            };
            let cells = [
                (&self.idle, 50),
                (&self.idle, 100),
                (&self.beside, 50),
                (&self.beside, 100),
            ]
            .map(|(deliveries, percent)| cell(deliveries, percent));
            // Writing to a text does not fail.
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
        let (before, after) = self.waiting_jobs;
        let _ = write!(
            text,
            "\n{} deliveries of 10 files, {} files of the large company, walked in {:.0} s; {before} of its jobs in line \
             at first and {after} in the end, {:.0} files/s meanwhile; {} workers, the store answers after {} ms\n",
            self.beside.len(),
            self.files,
            self.walk_s,
            self.files_per_s,
            self.workers,
            self.latency_ms,
        );
        text
    }

    pub(super) fn json(&self) -> Value {
        let figures = |deliveries: &[Delivery], measures: &[Measure]| -> Value {
            measures
                .iter()
                .map(|(_, name, measure)| {
                    let values: Vec<f64> = deliveries.iter().map(measure).collect();
                    let figure = json!({
                        "median": percentile(&values, 50), "worst": percentile(&values, 100), "all": values,
                    });
                    ((*name).to_owned(), figure)
                })
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        json!({
            "files": self.files,
            "workers": self.workers,
            "latency_ms": self.latency_ms,
            "walk_s": self.walk_s,
            "waiting_jobs_before": self.waiting_jobs.0,
            "waiting_jobs_after": self.waiting_jobs.1,
            "files_per_s": self.files_per_s,
            "idle": figures(&self.idle, &TIMES),
            "beside": figures(&self.beside, &[TIMES, COUNTS].concat()),
        })
    }
}
