//! Work travels here: the Redis lists of waiting jobs, live figures of running ones, and hints that something changed.
//!
//! Redis says *there may be work*; Postgres says *whose it is*. Everything in Redis may vanish, repeat or arrive late:
//! a taken id is claimed in Postgres before anything is done, and what is lost is pushed again from there.
//!
//! No operation blocks for longer than [`OPERATION_TIMEOUT`] ([`Queue::wait`] aside), and each connects anew where the
//! connection is gone. So nothing needs to be restarted when Redis was.

mod bandwidth;
mod hints;
mod keys;
mod lists;
mod live;
mod workers;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use redis::{AsyncConnectionConfig, Client, RedisError};

use hints::Hints;
use keys::Keys;

pub use bandwidth::{Bandwidth, FURTHEST_AHEAD};
pub use domain::{ANY_LOCATION, QueuedJob};
pub use lists::Line;
pub use live::{ActiveFile, Live};
pub use workers::{FORGOTTEN_AFTER_S, Pace, RunningJobs, TELL_EVERY, WorkerInfo};

/// How long an operation may take, with everything.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that [`Queue::wait`] waits.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_CONNECTIONS: usize = 16;
const PROBE_EXPIRY_S: u64 = 60;
const KEY_PREFIX: &str = "uploader:v1:";

/// The lists, live figures and hints. Clones share their connections.
#[derive(Clone)]
pub struct Queue {
    pool: Pool,
    client: Client,
    keys: Keys,
    hints: Arc<Hints>,
    /// Which of a worker's locations is looked at first: another one with each take, so that none starves.
    turn: Arc<AtomicUsize>,
}

/// The queue could not do it. Nothing is lost for good: the job rows in Postgres are the truth.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The address is none.
    #[error("the Redis URL cannot be used: {0}")]
    Url(#[source] RedisError),
    /// No connection.
    #[error("Redis cannot be reached: {0}")]
    Unreachable(#[source] Box<PoolError>),
    /// No answer in time.
    #[error("Redis does not answer")]
    TimedOut,
    /// It has no memory for what was to be written, and evicts nothing.
    #[error("Redis is full, raise its maxmemory: {0}")]
    Full(#[source] RedisError),
    /// It answered with an error, or the connection broke.
    #[error("Redis failed: {0}")]
    Redis(#[source] RedisError),
    /// Figures that are no JSON.
    #[error("figures cannot be written: {0}")]
    Json(#[source] serde_json::Error),
}

impl From<RedisError> for QueueError {
    fn from(error: RedisError) -> Self {
        // Of a script and of a pipeline the code says something else.
        if error.to_string().contains("OOM") {
            Self::Full(error)
        } else {
            Self::Redis(error)
        }
    }
}

impl Queue {
    /// A queue over the Redis at `redis_url`. Connects with the first operation, so that Redis may be down now; must
    /// be called on a tokio runtime.
    ///
    /// # Errors
    /// [`QueueError::Url`] alone.
    pub async fn connect(redis_url: &str) -> Result<Self, QueueError> {
        Self::with_prefix(redis_url, KEY_PREFIX).await
    }

    /// As [`Queue::connect`], with another beginning of every key: for tests that share a Redis.
    ///
    /// # Errors
    /// [`QueueError::Url`] alone.
    pub async fn with_prefix(redis_url: &str, key_prefix: &str) -> Result<Self, QueueError> {
        let client = Client::open(redis_url).map_err(QueueError::Url)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(OPERATION_TIMEOUT));
        let manager = Manager::new_with_config(redis_url, config).map_err(QueueError::Url)?;
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .map_err(|_| QueueError::TimedOut)?;
        let keys = Keys::new(key_prefix);
        Ok(Self {
            pool,
            hints: Arc::new(Hints::new(client.clone(), &keys)),
            client,
            keys,
            turn: Arc::default(),
        })
    }

    /// Whether Redis answers and takes writes: one that is full, or a replica, answers all the same.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), QueueError> {
        let mut write = redis::cmd("SET");
        write.arg(self.keys.probe()).arg("").arg("EX").arg(PROBE_EXPIRY_S);
        self.run(async |connection| write.query_async(connection).await)
            .await
    }

    /// Runs one operation on a connection of the pool, within [`OPERATION_TIMEOUT`].
    async fn run<T>(
        &self,
        operation: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, QueueError> {
        within(OPERATION_TIMEOUT, async {
            let mut connection = self
                .pool
                .get()
                .await
                .map_err(|error| QueueError::Unreachable(Box::new(error)))?;
            Ok(operation(&mut connection).await?)
        })
        .await
    }
}

async fn within<T>(
    timeout: Duration,
    operation: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    tokio::time::timeout(timeout, operation)
        .await
        .unwrap_or(Err(QueueError::TimedOut))
}
