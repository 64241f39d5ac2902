//! One round: sessions of all companies, faults while they run, then the judgement.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dev_stack::S3Server;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::editor::Editor;
use super::fault::{Injected, Injector};
use super::kind::Kind;
use super::oracle::{self, Expectation, Violation};
use super::report::Report;
use super::session::{Outcome, Plan};
use super::source::{self, Shape};
use crate::commands::company::Company;

/// How long a session may take from its request to its end.
const SESSION_LIMIT: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(20);
const MIB: u64 = 1 << 20;

/// What a round needs.
pub(super) struct Round<'a> {
    pub(super) number: u64,
    pub(super) root: &'a Path,
    pub(super) companies: &'a [Company],
    pub(super) python: &'a Path,
    /// How long faults are injected, where the sessions last so long.
    pub(super) window: Duration,
    /// No faults; what was delivered is spoiled afterwards, and the oracle must see it.
    pub(super) is_sabotage: bool,
}

impl Round<'_> {
    /// Carries it out and adds its figures to `report`.
    pub(super) async fn run(
        &self,
        injector: &mut Injector<'_>,
        dice: &mut StdRng,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let plans = self.plans(dice).await?;
        injector.set_sources(plans.iter().map(|plan| plan.source.clone()).collect());
        let received = injector.received_bytes();
        if !self.is_sabotage {
            injector.arming.switch(true)?;
        }
        let start = Instant::now();
        let following = tokio::spawn(async move {
            let outcomes = join_all(plans.iter().map(Plan::carry_out)).await;
            plans.into_iter().zip(outcomes).collect::<Vec<_>>()
        });
        // Some rounds are wild, some leave time to get far: other states are met in them.
        let longest_gap_ms = dice.random_range(300..2_500);
        let mut faults = Vec::new();
        let mut next = start + Duration::from_millis(dice.random_range(300..2_000));
        while !self.is_sabotage && !following.is_finished() && start.elapsed() < self.window {
            injector.undo(false).await?;
            faults.extend(injector.at_points().await?);
            if Instant::now() >= next {
                faults.extend(injector.inject().await?);
                if dice.random_bool(0.3) {
                    injector.set_latency(Duration::from_millis(dice.random_range(5..120)));
                }
                next = Instant::now() + Duration::from_millis(dice.random_range(100..longest_gap_ms));
            }
            tokio::time::sleep(TICK).await;
        }
        if !self.is_sabotage {
            injector.arming.switch(false)?;
        }
        faults.extend(injector.at_points().await?);
        injector.undo(true).await?;
        injector.set_latency(Duration::ZERO);
        let ended = following.await?;
        // One that was at a point at the very end.
        faults.extend(injector.at_points().await?);
        injector.undo(true).await?;
        let mut wrong = injector.ended(&mut faults).await?;
        wrong.extend(quiet(injector).await);
        let casualty = injector.stack.casualty();
        wrong.extend(casualty);
        faults.extend(ended.iter().flat_map(|(_, outcome)| by_clients(outcome)));
        self.chronicle(start, &faults, &ended)?;
        report.received_bytes += injector.received_bytes() - received;
        report.workers_killed = injector.workers_killed;
        self.judge(injector, &ended, &faults, wrong, report).await
    }

    /// Sources, targets and settings of the round's sessions.
    async fn plans(&self, dice: &mut StdRng) -> anyhow::Result<Vec<Plan>> {
        let mut plans = Vec::new();
        for (index, company) in self.companies.iter().enumerate() {
            for number in 0..dice.random_range(1..=2) {
                let name = format!("round{}-company{index}-{number}", self.number);
                let dir = self.root.join(&name);
                let shape = if dice.random_bool(0.3) {
                    Shape {
                        files: dice.random_range(20..200),
                        large_files: dice.random_range(5..=10),
                    }
                } else {
                    Shape {
                        files: dice.random_range(300..2_000),
                        large_files: dice.random_range(1..=3),
                    }
                };
                let (folder, mut own) = (dir.clone(), StdRng::seed_from_u64(dice.random()));
                tokio::task::spawn_blocking(move || source::generate(&folder, shape, &mut own))
                    .await?
                    .with_context(|| format!("cannot fill {}", dir.display()))?;
                plans.push(Plan {
                    api: company.api.clone(),
                    name,
                    source: Arc::new(Editor::new(dir, shape)),
                    bucket: company.bucket.clone(),
                    target: company.target().await?,
                    settings: settings(dice),
                    begin_after: Duration::from_millis(dice.random_range(0..4_000)),
                    cancel_after: (dice.random_bool(0.2) && !self.is_sabotage)
                        .then(|| Duration::from_millis(dice.random_range(500..12_000))),
                    pause: dice.random_bool(0.25).then(|| {
                        (
                            Duration::from_millis(dice.random_range(500..8_000)),
                            Duration::from_millis(dice.random_range(1_000..5_000)),
                        )
                    }),
                    limit: SESSION_LIMIT,
                });
            }
        }
        Ok(plans)
    }

    /// Appends what happened when to the file `chronicle`, for whoever looks into a finding.
    fn chronicle(
        &self,
        start: Instant,
        faults: &[Injected],
        ended: &[(Plan, Outcome)],
    ) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        for fault in faults {
            let hit = fault
                .hit
                .as_ref()
                .map_or_else(String::new, |(at, jobs)| format!(" at {at:.3}, jobs {jobs:?}"));
            lines.push((fault.at, format!("{}{hit}", fault.kind.name())));
        }
        for (plan, outcome) in ended {
            let (id, name) = (&outcome.id, &plan.name);
            lines.extend(outcome.began.map(|at| (at, format!("{name} is asked for"))));
            let end = format!("{name} {id} is {}, {} retries", outcome.status, outcome.retries);
            lines.extend(outcome.ended.map(|at| (at, end)));
        }
        lines.sort();
        let path = self.root.with_file_name("chronicle");
        let mut file = std::fs::File::options().create(true).append(true).open(path)?;
        for (at, line) in lines {
            let after = at.saturating_duration_since(start).as_secs_f64();
            writeln!(file, "round {} +{after:.2} s: {line}", self.number)?;
        }
        Ok(())
    }

    async fn judge(
        &self,
        injector: &Injector<'_>,
        ended: &[(Plan, Outcome)],
        faults: &[Injected],
        wrong: Vec<String>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let expectations: Vec<Expectation> = ended
            .iter()
            .filter(|(_, outcome)| !outcome.id.is_empty())
            .map(expectation)
            .collect();
        let is_calm = wrong.is_empty() && ended.iter().all(|(_, outcome)| outcome.trouble.is_none());
        if self.is_sabotage {
            oracle::sabotage(self.python, injector.stack, &expectations).await?;
        }
        let verdict = oracle::judge(self.python, injector.stack, &expectations, is_calm).await?;
        let mut violations = verdict.violations;
        violations.extend(
            wrong
                .into_iter()
                .map(|detail| violation("", "wrong_status", detail)),
        );
        for (_, outcome) in ended {
            report.sessions += 1;
            report.retries += u64::from(outcome.retries);
            if let Some(trouble) = &outcome.trouble {
                let kind = if trouble.contains("does not end") {
                    "stuck"
                } else {
                    "wrong_status"
                };
                violations.push(violation(&outcome.id, kind, trouble.clone()));
            }
        }
        report.files += verdict.files;
        report.objects += verdict.objects;
        report.object_bytes += verdict.object_bytes;
        for fault in faults {
            let figures = report.faults.entry(fault.kind).or_default();
            figures.injected += 1;
            figures.recovery_s.extend(recovery(injector, fault, ended).await?);
        }
        for violation in violations {
            for kind in suspects(&violation, faults, ended) {
                let wrong = &mut report.faults.entry(kind).or_default().wrong;
                *wrong.entry(violation.kind.clone()).or_default() += 1;
            }
            report.violations.push((self.number, violation));
        }
        if report.is_good() {
            for (plan, _) in ended {
                tokio::fs::remove_dir_all(plan.source.dir()).await?;
            }
        }
        Ok(())
    }
}

fn settings(dice: &mut StdRng) -> Value {
    let checksum = ["crc64nvme", "crc32c", "sha256"].get(dice.random_range(0..3));
    let concurrency = [1, 2, 3, 12].get(dice.random_range(0..4));
    json!({
        "concurrency": concurrency,
        "part_size_bytes": dice.random_range(5..=8) * MIB,
        "checksum": checksum,
    })
}

fn expectation((plan, outcome): &(Plan, Outcome)) -> Expectation {
    let mut expected = vec!["completed"];
    if outcome.cancelled_at.is_some() {
        expected.push("cancelled");
    }
    let edits = plan.source.edits();
    if !edits.removed.is_empty() {
        expected.push("completed_with_errors");
    }
    Expectation {
        id: outcome.id.clone(),
        dir: plan.source.dir().to_owned(),
        edits,
        bucket: plan.bucket.clone(),
        prefix: plan.target.prefix.clone(),
        expected,
    }
}

fn violation(session: &str, kind: &str, detail: String) -> Violation {
    Violation {
        session: session.to_owned(),
        kind: kind.to_owned(),
        detail,
    }
}

/// What the client itself did to its session.
fn by_clients(outcome: &Outcome) -> Vec<Injected> {
    let pairs = [
        (Kind::SessionCancelled, outcome.cancelled_at),
        (Kind::SessionPaused, outcome.paused_at),
    ];
    pairs
        .into_iter()
        .filter_map(|(kind, at)| {
            Some(Injected {
                kind,
                at: at?,
                hit: None,
            })
        })
        .collect()
}

/// The kinds of faults that were injected while the session ran.
fn suspects(violation: &Violation, faults: &[Injected], ended: &[(Plan, Outcome)]) -> Vec<Kind> {
    let session = ended
        .iter()
        .map(|(_, outcome)| outcome)
        .find(|outcome| outcome.id == violation.session);
    let is_within = |fault: &&Injected| {
        session.is_none_or(|session| {
            session.began.is_some_and(|began| fault.at >= began)
                && session.ended.is_none_or(|ended| fault.at <= ended)
        })
    };
    let mut kinds: Vec<Kind> = faults.iter().filter(is_within).map(|fault| fault.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Waits until nobody asks the S3 server for anything any more.
async fn quiet(injector: &Injector<'_>) -> Option<String> {
    let start = Instant::now();
    let mut last = (u64::MAX, start);
    while start.elapsed() < Duration::from_secs(20) {
        let requests = injector.stack.s3().map_or(0, S3Server::requests);
        if requests != last.0 {
            last = (requests, Instant::now());
        } else if last.1.elapsed() > Duration::from_millis(700) {
            return None;
        }
        tokio::time::sleep(TICK).await;
    }
    Some("requests to the S3 server go on after the end of every session".to_owned())
}

/// Seconds from the fault until each job that it hit had recorded the next file or its end. Sessions that were
/// paused are left out.
async fn recovery(
    injector: &Injector<'_>,
    fault: &Injected,
    ended: &[(Plan, Outcome)],
) -> anyhow::Result<Option<f64>> {
    let Some((at, jobs)) = fault.hit.as_ref().filter(|(_, jobs)| !jobs.is_empty()) else {
        return Ok(None);
    };
    let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
    let paused: Vec<String> = ended
        .iter()
        .filter(|(_, outcome)| outcome.paused_at.is_some())
        .map(|(_, outcome)| format!("'{}'", outcome.id))
        .collect();
    let sql = format!(
        "SELECT max(extract(epoch FROM next) - {at}) FROM (
           SELECT least(CASE WHEN j.finished_at > to_timestamp({at}) THEN j.finished_at END,
                        (SELECT min(f.finished_at) FROM file_uploads f
                         WHERE f.session_id = j.session_id AND f.number BETWEEN j.first_number AND j.last_number
                           AND f.finished_at > to_timestamp({at}))) AS next
           FROM jobs j WHERE j.id IN ({}) AND j.session_id <> ALL (ARRAY[{}]::uuid[])) AS hit",
        jobs.join(","),
        paused.join(",")
    );
    Ok(injector.stack.run_sql(&sql).await?.parse().ok())
}
