//! Which workers are alive, and what they serve. Each tells every [`TELL_EVERY`]; one that falls silent is forgotten
//! within [`FORGOTTEN_AFTER_S`], as everybody is for a moment when Redis was emptied. Only explanations depend on it.

use std::iter::Sum;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::Script;
use serde::{Deserialize, Serialize};

use crate::{Queue, QueueError};

/// How often a worker tells of itself.
pub const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long a worker counts as alive after it last told, in seconds.
pub const FORGOTTEN_AFTER_S: u64 = 10;
/// How many workers are listed at most, those that told last.
const MAX_LISTED: usize = 1_000;

static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/tell_worker.lua")));

/// What a worker tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its id, as in `jobs.worker_id`.
    pub id: String,
    /// The locations whose jobs it takes.
    pub locations: Vec<String>,
    /// How many files it sends at once.
    pub slots: usize,
    /// The jobs it runs now.
    pub running: RunningJobs,
    /// What it gets done.
    #[serde(default)]
    pub pace: Pace,
    /// Its program's version.
    pub version: String,
    /// Since when it runs.
    pub started_at: DateTime<Utc>,
}

/// Jobs by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJobs {
    /// Walks.
    pub scan: usize,
    /// Batches of files that are sent.
    pub upload: usize,
    /// Sessions that are brought to their end.
    pub finish: usize,
}

/// What a worker got done in the last minute; workers of earlier versions tell nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Jobs at its locations that ended, one way or another.
    pub jobs_per_min: u64,
    /// Files that arrived.
    pub files_per_min: u64,
    /// Their bytes.
    pub bytes_per_min: u64,
}

impl Sum for Pace {
    fn sum<I: Iterator<Item = Self>>(paces: I) -> Self {
        paces.fold(Self::default(), |sum, pace| Self {
            jobs_per_min: sum.jobs_per_min.saturating_add(pace.jobs_per_min),
            files_per_min: sum.files_per_min.saturating_add(pace.files_per_min),
            bytes_per_min: sum.bytes_per_min.saturating_add(pace.bytes_per_min),
        })
    }
}

impl Queue {
    /// Whether the caller is the one of all workers that sweeps now: nobody else is, for `interval` from now on.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn take_sweep(&self, interval: Duration) -> Result<bool, QueueError> {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut set = redis::cmd("SET");
        set.arg(self.keys.sweep()).arg("").arg("NX").arg("PX").arg(millis);
        let taken: Option<String> = self
            .run(async |connection| set.query_async(connection).await)
            .await?;
        Ok(taken.is_some())
    }

    /// Tells that a worker is alive; to be repeated every [`TELL_EVERY`].
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn tell_worker(&self, worker: &WorkerInfo) -> Result<(), QueueError> {
        let json = serde_json::to_string(worker).map_err(QueueError::Json)?;
        let mut invocation = TELL.prepare_invoke();
        invocation
            .key(self.keys.worker(&worker.id))
            .key(self.keys.workers())
            .arg(&worker.id)
            .arg(json)
            .arg(FORGOTTEN_AFTER_S);
        self.run(async |connection| invocation.invoke_async(connection).await)
            .await
    }

    /// Takes a worker back: it takes no more jobs.
    ///
    /// # Errors
    /// Where Redis fails; it is forgotten after a while then.
    pub async fn forget_worker(&self, id: &str) -> Result<(), QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.zrem(self.keys.workers(), id).ignore();
        pipeline.del(self.keys.worker(id)).ignore();
        self.run(async |connection| pipeline.query_async(connection).await)
            .await
    }

    /// The workers that are alive, ordered by id.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, QueueError> {
        let texts: Vec<Option<String>> = self
            .run(async |connection| {
                let mut command = redis::cmd("ZRANGE");
                command
                    .arg(self.keys.workers())
                    .arg(0)
                    .arg(MAX_LISTED - 1)
                    .arg("REV");
                let ids: Vec<String> = command.query_async(connection).await?;
                if ids.is_empty() {
                    return Ok(Vec::new());
                }
                let keys: Vec<String> = ids.iter().map(|id| self.keys.worker(id)).collect();
                redis::cmd("MGET").arg(keys).query_async(connection).await
            })
            .await?;
        // What another version of a worker wrote and this one cannot read does not count.
        let mut workers: Vec<WorkerInfo> = texts
            .into_iter()
            .flatten()
            .filter_map(|text| serde_json::from_str(&text).ok())
            .collect();
        workers.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(workers)
    }
}
