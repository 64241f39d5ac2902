//! One session, from its request to its end, by a client who retries what may be retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};

use super::ROOT;
use super::editor::Editor;
use crate::commands::api::{Api, text};
use crate::commands::company::Target;

const POLL: Duration = Duration::from_millis(200);
/// How often one session is retried.
const MAX_RETRIES: u32 = 12;
/// Causes that the faults explain, of files and of sessions: these are retried; any other is a wrong status.
const EXPLAINED: &[&str] = &[
    "storage_unreachable",
    "storage_error",
    "throttled",
    "timeout",
    "checksum_mismatch",
    "worker_crashed",
    "access_denied",
    "no_such_bucket",
];

/// Those that are explained where somebody works on the source. A worker that was stopped may write an older version
/// late: the last look finds other bytes than were recorded.
const EXPLAINED_BY_EDITS: &[&str] = &["file_changed", "file_vanished", "checksum_mismatch"];

/// A scan that was killed five times has no cause of its own among those of sessions.
fn is_internal_by_crashes(cause: &str, session: &Value) -> bool {
    let detail = session["error_detail"].as_str();
    cause == "internal" && detail.is_some_and(|detail| detail.contains("its workers vanished repeatedly"))
}

/// What is asked of whom, and what happens to it meanwhile.
pub(super) struct Plan {
    pub(super) api: Arc<Api>,
    /// The source, below the root.
    pub(super) name: String,
    pub(super) source: Arc<Editor>,
    pub(super) bucket: String,
    pub(super) target: Target,
    pub(super) settings: Value,
    /// Since the round began.
    pub(super) begin_after: Duration,
    /// Since it was made.
    pub(super) cancel_after: Option<Duration>,
    /// Since it was made, and for how long.
    pub(super) pause: Option<(Duration, Duration)>,
    pub(super) limit: Duration,
}

/// How a session came to its end.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) retries: u32,
    pub(super) cancelled_at: Option<Instant>,
    pub(super) paused_at: Option<Instant>,
    /// What was wrong to a client, in words.
    pub(super) trouble: Option<String>,
    pub(super) began: Option<Instant>,
    pub(super) ended: Option<Instant>,
}

impl Plan {
    /// Makes the session and stays with it to its end.
    pub(super) async fn carry_out(&self) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.follow(&mut outcome).await {
            outcome.trouble = Some(format!("{error:#}"));
        }
        outcome.ended = Some(Instant::now());
        outcome
    }

    async fn follow(&self, outcome: &mut Outcome) -> anyhow::Result<()> {
        tokio::time::sleep(self.begin_after).await;
        let began = Instant::now();
        outcome.began = Some(began);
        let request = json!({
            "cycle_id": self.target.cycle_id,
            "source": { "root": ROOT, "path": self.name },
            "settings": self.settings,
        });
        let key = format!("torture-{}", self.name);
        let created = self
            .api
            .insist(Method::POST, "/api/sessions", Some(request), Some(&key))
            .await?;
        outcome.id = text(&created.1, "id").with_context(|| format!("not made: {}", created.0))?;
        loop {
            let session = self.api.get(&format!("/api/sessions/{}", outcome.id)).await?;
            outcome.status = text(&session, "status")?;
            if outcome.status == "cancelled" && self.cancel_after.is_some_and(|after| began.elapsed() > after)
            {
                outcome.cancelled_at.get_or_insert_with(Instant::now);
            }
            let is_over = match outcome.status.as_str() {
                "completed" | "cancelled" => true,
                "failed" | "completed_with_errors" => self.retry(&session, outcome).await?,
                _ => false,
            };
            if is_over {
                return Ok(());
            }
            self.interfere(began.elapsed(), outcome).await?;
            if began.elapsed() > self.limit {
                bail!("does not end: {session}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Pauses, resumes and cancels when it is time to.
    async fn interfere(&self, age: Duration, outcome: &mut Outcome) -> anyhow::Result<()> {
        // The answer to a pause or a cancellation may have been lost with its gateway.
        if outcome.status == "paused" {
            outcome.paused_at.get_or_insert_with(Instant::now);
        }
        if let Some((after, _)) = self.pause
            && outcome.paused_at.is_none()
            && age > after
            && self.control(outcome, "pause").await?
        {
            outcome.paused_at = Some(Instant::now());
        }
        if let Some((_, lasting)) = self.pause
            && outcome.status == "paused"
            && outcome.paused_at.is_some_and(|at| at.elapsed() > lasting)
        {
            self.control(outcome, "resume").await?;
        }
        if let Some(after) = self.cancel_after
            && outcome.cancelled_at.is_none()
            && age > after
            && self.control(outcome, "cancel").await?
        {
            outcome.cancelled_at = Some(Instant::now());
        }
        Ok(())
    }

    /// True when it was accepted; it may have ended meanwhile, or an earlier answer was lost.
    async fn control(&self, outcome: &Outcome, what: &str) -> anyhow::Result<bool> {
        let path = format!("/api/sessions/{}/{what}", outcome.id);
        match self.api.insist(Method::POST, &path, None, None).await? {
            (202, _) => Ok(true),
            (409, _) => Ok(false),
            (status, problem) => bail!("{what}: {status} {problem}"),
        }
    }

    /// Retries what may be retried. True when there is no more to be had: all that failed was removed from the source.
    async fn retry(&self, session: &Value, outcome: &mut Outcome) -> anyhow::Result<bool> {
        let path = format!("/api/sessions/{}/failures", outcome.id);
        let failures = self.api.get(&path).await?;
        let causes: Vec<&str> = failures["items"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(std::iter::once(session))
            .filter_map(|failure| failure["error_code"].as_str())
            .collect();
        let edits = self.source.edits();
        if outcome.status == "completed_with_errors"
            && !edits.removed.is_empty()
            && causes.iter().all(|cause| *cause == "file_vanished")
        {
            return Ok(true);
        }
        let unexplained = causes.iter().find(|cause| {
            let is_explained = EXPLAINED.contains(cause)
                || !edits.is_empty() && EXPLAINED_BY_EDITS.contains(cause)
                || is_internal_by_crashes(cause, session);
            !is_explained
        });
        if let Some(cause) = unexplained {
            bail!("ended as {} for {cause}: {session} {failures}", outcome.status);
        }
        if outcome.retries == MAX_RETRIES {
            bail!("failed after {MAX_RETRIES} retries: {session} {failures}");
        }
        if self.control(outcome, "retry").await? {
            outcome.retries += 1;
        }
        Ok(false)
    }
}
