//! The bandwidth of a session, shared by all workers that send for it.
//!
//! Only the pace depends on it: where Redis is away, each worker keeps to the limit by itself.

use std::sync::LazyLock;
use std::time::Duration;

use domain::SessionId;
use redis::Script;

use crate::{Queue, QueueError};

/// How far ahead bandwidth may be reserved: what a worker that stops takes along unused.
pub const FURTHEST_AHEAD: Duration = Duration::from_secs(1);

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/take_bandwidth.lua")));

/// The answer to a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bandwidth {
    /// Reserved; it begins after this time.
    Reserved(Duration),
    /// Others have reserved what there is: ask again after this time.
    Later(Duration),
}

impl Queue {
    /// Reserves `bytes` of a session that may send `bytes_per_s`, over all workers, by the clock of Redis.
    ///
    /// # Errors
    /// Where Redis fails: nothing may be reserved.
    pub async fn take_bandwidth(
        &self,
        session: SessionId,
        bytes: u64,
        bytes_per_s: u64,
    ) -> Result<Bandwidth, QueueError> {
        let mut invocation = TAKE.prepare_invoke();
        invocation
            .key(self.keys.bandwidth(session))
            .arg(bytes)
            .arg(bytes_per_s.max(1))
            .arg(u64::try_from(FURTHEST_AHEAD.as_micros()).unwrap_or(u64::MAX));
        let (is_reserved, micros): (bool, u64) = self
            .run(async |connection| invocation.invoke_async(connection).await)
            .await?;
        let time = Duration::from_micros(micros);
        Ok(if is_reserved {
            Bandwidth::Reserved(time)
        } else {
            Bandwidth::Later(time)
        })
    }
}
