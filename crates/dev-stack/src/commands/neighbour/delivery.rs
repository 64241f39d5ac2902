//! One delivery, measured by what Postgres and the worker noted of it: all on one machine, by one clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use dev_stack::Stack;
use serde_json::json;

use super::{POLL, ROOT, SMALL, WALK_LIMIT};
use crate::commands::api::text;
use crate::commands::company::Company;

/// A session that was asked for.
pub(super) struct Session {
    id: String,
    /// Just before the request, in seconds of Unix time.
    asked_at: f64,
}

/// How far a session is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Its jobs that were claimed, counting each claim.
    pub(super) claims: i64,
    /// Its files that have arrived.
    pub(super) files: i64,
}

/// What is known of one delivery of the small company; times in milliseconds since its request.
pub(super) struct Delivery {
    pub(super) claimed_ms: f64,
    pub(super) first_file_ms: f64,
    pub(super) completed_ms: f64,
    /// What was done for the large company until it was completed.
    pub(super) meanwhile: Progress,
    /// Upload jobs of the large company that were begun between the request and the first claim.
    pub(super) begun_before: i64,
    asked_at: f64,
}

impl Session {
    pub(super) async fn start(company: &Company, path: &str) -> anyhow::Result<Self> {
        let target = company.target().await?;
        let request = json!({ "cycle_id": target.cycle_id, "source": { "root": ROOT, "path": path } });
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let session = company.api.post("/api/sessions", request).await?;
        Ok(Self {
            id: text(&session, "id")?,
            asked_at,
        })
    }

    /// Waits until it is completed. Postgres is asked, so that the gateway has nothing else to do.
    pub(super) async fn end(&self, stack: &Stack) -> anyhow::Result<()> {
        loop {
            let status = self.column(stack, "status").await?;
            match status.as_str() {
                "completed" => return Ok(()),
                "pending" | "in_progress" => tokio::time::sleep(POLL).await,
                _ => bail!("a delivery is {status}"),
            }
        }
    }

    /// Waits until its whole source was walked.
    pub(super) async fn walked(&self, stack: &Stack) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.column(stack, "scan_complete").await? != "t" {
            if start.elapsed() > WALK_LIMIT {
                bail!("the walk does not end");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn waiting_jobs(&self, stack: &Stack) -> anyhow::Result<i64> {
        let query = "SELECT count(*) FROM jobs WHERE state = 'ready' AND session_id";
        number(&stack.run_sql(&format!("{query} = '{}'", self.id)).await?)
    }

    pub(super) async fn progress(&self, stack: &Stack) -> anyhow::Result<Progress> {
        let id = &self.id;
        let row = stack
            .run_sql(&format!(
                "SELECT (SELECT sum(epoch) FROM jobs WHERE session_id = '{id}'), files_uploaded
                 FROM sync_sessions WHERE id = '{id}'"
            ))
            .await?;
        let (claims, files) = row.split_once('|').context("no row")?;
        Ok(Progress {
            claims: number(claims)?,
            files: number(files)?,
        })
    }

    /// Counts for each delivery the upload jobs of this session that were begun before its first claim. A job begins
    /// with its first file.
    pub(super) async fn begun_before(
        &self,
        stack: &Stack,
        mut deliveries: Vec<Delivery>,
    ) -> anyhow::Result<Vec<Delivery>> {
        let begun = stack
            .run_sql(&format!(
                "SELECT extract(epoch FROM min(f.started_at)) FROM jobs j
                 JOIN file_uploads f ON f.session_id = j.session_id AND f.number BETWEEN j.first_number AND j.last_number
                 WHERE j.session_id = '{}' AND j.kind = 'upload' AND j.epoch > 0
                 GROUP BY j.id HAVING min(f.started_at) IS NOT NULL",
                self.id
            ))
            .await?;
        let begun: Vec<f64> = begun.lines().map(str::parse).collect::<Result<_, _>>()?;
        for delivery in &mut deliveries {
            let wait = delivery.asked_at..delivery.asked_at + delivery.claimed_ms / 1000.0;
            let count = begun.iter().filter(|at| wait.contains(*at)).count();
            delivery.begun_before = i64::try_from(count)?;
        }
        Ok(deliveries)
    }

    async fn column(&self, stack: &Stack, name: &str) -> anyhow::Result<String> {
        let query = format!("SELECT {name} FROM sync_sessions WHERE id = '{}'", self.id);
        stack.run_sql(&query).await
    }
}

impl Delivery {
    /// Delivers the small company's files, while the large one's session is under way if there is one.
    pub(super) async fn measure(
        stack: &Stack,
        company: &Company,
        large: Option<&Session>,
    ) -> anyhow::Result<Self> {
        let progress = async || match large {
            Some(session) => session.progress(stack).await,
            None => Ok(Progress { claims: 0, files: 0 }),
        };
        let before = progress().await?;
        let session = Session::start(company, SMALL).await?;
        session.end(stack).await?;
        let after = progress().await?;
        let row = stack
            .run_sql(&format!(
                "SELECT extract(epoch FROM started_at), extract(epoch FROM finished_at), extract(epoch FROM
                     (SELECT min(f.started_at) FROM file_uploads f WHERE f.session_id = s.id))
                 FROM sync_sessions s WHERE id = '{}'",
                session.id
            ))
            .await?;
        let times: Vec<f64> = row.split('|').map(str::parse).collect::<Result<_, _>>()?;
        let [claimed, completed, first_file] = times[..] else {
            bail!("no times: {row}");
        };
        let since = |at: f64| (at - session.asked_at) * 1000.0;
        Ok(Self {
            claimed_ms: since(claimed),
            first_file_ms: since(first_file),
            completed_ms: since(completed),
            meanwhile: Progress {
                claims: after.claims - before.claims,
                files: after.files - before.files,
            },
            begun_before: 0,
            asked_at: session.asked_at,
        })
    }
}

fn number(text: &str) -> anyhow::Result<i64> {
    text.parse().with_context(|| format!("{text:?} is no number"))
}
