//! `bandwidth_limit_bytes_per_s`: what one job may send now, of what all workers of the session may send together.

use domain::SessionId;
use domain::backoff::Backoff;
use queue::{Bandwidth, Queue};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Bandwidth is reserved for at least this long at once, so that small files do not each cost a request to Redis.
const BLOCKS_PER_S: u64 = 10;
/// Several that were told to come later do not all come at once.
const JITTER: Backoff = Backoff {
    base: Duration::from_millis(20),
    cap: Duration::from_millis(100),
};

/// The bandwidth of one job.
pub struct Allowance {
    queue: Queue,
    session: SessionId,
    bytes_per_s: u64,
    /// Reserved and not used. Whoever waits for more holds it: those behind wait for their turn.
    left_bytes: Mutex<u64>,
    was_refused: AtomicBool,
}

impl Allowance {
    /// Of a session that may send so many bytes a second over all workers.
    pub fn new(queue: Queue, session: SessionId, bytes_per_s: u64) -> Self {
        Self {
            queue,
            session,
            bytes_per_s: bytes_per_s.max(1),
            left_bytes: Mutex::new(0),
            was_refused: AtomicBool::new(false),
        }
    }

    /// Waits until so many bytes may be sent. Where Redis is away, as if this job was the only one.
    pub async fn take(&self, bytes: u64) {
        let mut left_bytes = self.left_bytes.lock().await;
        if *left_bytes < bytes {
            let block = (bytes - *left_bytes).max(self.bytes_per_s / BLOCKS_PER_S);
            tokio::time::sleep(self.reserve(block).await).await;
            *left_bytes += block;
        }
        *left_bytes -= bytes;
    }

    /// How long until the bytes that are reserved may be sent.
    async fn reserve(&self, bytes: u64) -> Duration {
        loop {
            match self
                .queue
                .take_bandwidth(self.session, bytes, self.bytes_per_s)
                .await
            {
                Ok(Bandwidth::Reserved(wait)) => {
                    self.was_refused.store(false, Ordering::Relaxed);
                    return wait;
                }
                Ok(Bandwidth::Later(wait)) => {
                    let jitter = JITTER.delay(1, &mut rand::rng());
                    tokio::time::sleep(wait + jitter).await;
                }
                Err(error) => {
                    if !self.was_refused.swap(true, Ordering::Relaxed) {
                        tracing::warn!(session_id = %self.session, "this job alone keeps to the limit of bandwidth: {error}");
                    }
                    let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_s);
                    return Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
                }
            }
        }
    }
}
