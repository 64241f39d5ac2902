//! What workers are doing right now: figures for people to watch. They expire by themselves, and nothing depends on
//! them.

use domain::SessionId;
use serde::{Deserialize, Serialize};

use crate::{Queue, QueueError};

/// How long figures are shown after they were told, in seconds.
const EXPIRY_S: u64 = 5;
/// How long a worker is looked for after it last told any, in seconds.
const WORKERS_EXPIRY_S: u64 = 60;

/// One worker's part in a session, right now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Bytes sent of files that have no outcome yet.
    pub bytes_in_flight: u64,
    /// Bytes sent a second, lately.
    pub rate_bytes_per_s: u64,
    /// The files that are travelling.
    pub active_files: Vec<ActiveFile>,
}

/// A file that is travelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveFile {
    /// Below the source, as it is shown to people.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// How much of it is sent.
    pub sent_bytes: u64,
}

impl Queue {
    /// Tells what `worker` does for a session; shown for 5 s unless told anew.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn set_live(&self, session: SessionId, worker: &str, live: &Live) -> Result<(), QueueError> {
        let json = serde_json::to_string(live).map_err(QueueError::Json)?;
        let workers = self.keys.live_workers(session);
        let mut pipeline = redis::pipe();
        pipeline.sadd(&workers, worker).ignore();
        pipeline
            .cmd("EXPIRE")
            .arg(&workers)
            .arg(WORKERS_EXPIRY_S)
            .ignore();
        pipeline
            .set_ex(self.keys.live(session, worker), json, EXPIRY_S)
            .ignore();
        self.run(async |connection| pipeline.query_async(connection).await)
            .await
    }

    /// Takes back what `worker` told: it has ended its part.
    ///
    /// # Errors
    /// Where Redis fails; the figures expire then.
    pub async fn clear_live(&self, session: SessionId, worker: &str) -> Result<(), QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.srem(self.keys.live_workers(session), worker).ignore();
        pipeline.del(self.keys.live(session, worker)).ignore();
        self.run(async |connection| pipeline.query_async(connection).await)
            .await
    }

    /// What workers do for a session, ordered by worker.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn live(&self, session: SessionId) -> Result<Vec<Live>, QueueError> {
        let texts: Vec<Option<String>> = self
            .run(async |connection| {
                let mut command = redis::cmd("SMEMBERS");
                let mut workers: Vec<String> = command
                    .arg(self.keys.live_workers(session))
                    .query_async(connection)
                    .await?;
                if workers.is_empty() {
                    return Ok(Vec::new());
                }
                workers.sort_unstable();
                let keys: Vec<String> = workers
                    .iter()
                    .map(|worker| self.keys.live(session, worker))
                    .collect();
                redis::cmd("MGET").arg(keys).query_async(connection).await
            })
            .await?;
        // What another version of a worker wrote and this one cannot read is not shown.
        Ok(texts
            .into_iter()
            .flatten()
            .filter_map(|text| serde_json::from_str(&text).ok())
            .collect())
    }
}
