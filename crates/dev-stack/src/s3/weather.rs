//! What can be done to a server from outside, and what is counted of its traffic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Result, s3_error};
use tokio::sync::watch;

/// Faults, mostly for a share of the requests: of 1,000, so many meet each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Answered with 503 `SlowDown` before they are looked at.
    pub refused_per_mille: u32,
    /// Answered with 500 `InternalError` before they are looked at.
    pub failed_per_mille: u32,
    /// Broken off before they are looked at.
    pub reset_per_mille: u32,
    /// Carried out and then broken off without an answer.
    pub lost_per_mille: u32,
    /// Left without an answer until the trouble is over, then broken off.
    pub hung_per_mille: u32,
    /// Read and answered at a byte a second until the trouble is over.
    pub stalled_per_mille: u32,
    /// Carried out; the answer to a PUT tells another checksum and another `ETag` than those of the bytes.
    pub corrupted_per_mille: u32,
    /// Of those that complete a multipart upload: not carried out, and answered with 200 and an error inside. Others
    /// are served.
    pub disguised_per_mille: u32,
    /// Answered with 400 `ExpiredToken` before they are looked at.
    pub expired_per_mille: u32,
    /// Answered with 404 `NoSuchBucket` before they are looked at.
    pub bucketless_per_mille: u32,
    /// Of those that delete an object: answered with 403 `AccessDenied` before they are looked at. Others are served.
    pub undeletable_per_mille: u32,
    /// More requests at a time than this are answered with 503 `SlowDown`.
    pub in_flight_limit: Option<u32>,
}

impl Trouble {
    fn shares(&self) -> [(Fate, u32); 11] {
        [
            (Fate::Refused, self.refused_per_mille),
            (Fate::Failed, self.failed_per_mille),
            (Fate::Reset, self.reset_per_mille),
            (Fate::AnswerLost, self.lost_per_mille),
            (Fate::Hung, self.hung_per_mille),
            (Fate::Stalled, self.stalled_per_mille),
            (Fate::Corrupted, self.corrupted_per_mille),
            (Fate::Disguised, self.disguised_per_mille),
            (Fate::Expired, self.expired_per_mille),
            (Fate::Bucketless, self.bucketless_per_mille),
            (Fate::Undeletable, self.undeletable_per_mille),
        ]
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    Refused,
    Failed,
    Reset,
    AnswerLost,
    Hung,
    Stalled,
    Corrupted,
    Disguised,
    Expired,
    Bucketless,
    Undeletable,
}

#[derive(Debug, Default)]
struct Shared {
    latency_ms: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    in_flight: AtomicU64,
    received_bytes: AtomicU64,
    /// Requests that were looked at, by the name of their operation.
    operations: Mutex<BTreeMap<String, u64>>,
    /// With the number of the change that brought it.
    trouble: watch::Sender<(u64, Trouble)>,
}

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather(Arc<Shared>);

impl Weather {
    pub(super) fn set_latency(&self, latency: Duration) {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.0.latency_ms.store(latency_ms, Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.0.latency_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_trouble(&self, trouble: Trouble) {
        self.0.trouble.send_modify(|(change, now)| {
            *change += 1;
            *now = trouble;
        });
    }

    /// The number of the last change of trouble.
    pub(super) fn change(&self) -> u64 {
        self.0.trouble.borrow().0
    }

    /// Waits until the trouble of this change is over.
    pub(super) async fn until_over(&self, change: u64) {
        let mut trouble = self.0.trouble.subscribe();
        // It cannot be closed while this is there.
        let _ = trouble.wait_for(|(now, _)| *now != change).await;
    }

    pub(super) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    pub(super) fn operations(&self) -> BTreeMap<String, u64> {
        let operations = self.0.operations.lock();
        operations.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_received(&self, size_bytes: usize) {
        self.0
            .received_bytes
            .fetch_add(size_bytes as u64, Ordering::Relaxed);
    }

    /// Counts a request as in flight until the guard is dropped, and decides what becomes of it.
    pub(super) fn next(&self) -> (Fate, InFlight) {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let guard = InFlight(self.clone());
        let (_, trouble) = *self.0.trouble.borrow();
        let is_too_many = trouble
            .in_flight_limit
            .is_some_and(|limit| in_flight > u64::from(limit));
        let fate = if is_too_many {
            Fate::Refused
        } else {
            drawn(&trouble, number)
        };
        if fate == Fate::Refused {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        (fate, guard)
    }
}

/// Counts each request that is looked at; whoever has signed it may do everything.
#[async_trait::async_trait]
impl S3Access for Weather {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        let mut operations = self.0.operations.lock().unwrap_or_else(PoisonError::into_inner);
        *operations.entry(context.s3_op().name().to_owned()).or_default() += 1;
        Ok(())
    }
}

/// A request that is being dealt with.
pub(super) struct InFlight(Weather);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn drawn(trouble: &Trouble, number: u64) -> Fate {
    let mut point = u32::try_from(scatter(number) % 1000).unwrap_or_default();
    for (fate, per_mille) in trouble.shares() {
        match point.checked_sub(per_mille) {
            Some(rest) => point = rest,
            None => return fate,
        }
    }
    Fate::Served
}

/// SplitMix64: neighbours get values that have nothing in common.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_meets_its_share_of_the_requests() {
        let weather = Weather::default();
        assert!((0..1000).all(|_| weather.next().0 == Fate::Served));
        weather.set_trouble(Trouble {
            refused_per_mille: 300,
            lost_per_mille: 150,
            disguised_per_mille: 50,
            ..Trouble::default()
        });
        let fates: Vec<Fate> = (0..10_000).map(|_| weather.next().0).collect();
        let share = |fate: Fate| fates.iter().filter(|seen| **seen == fate).count();
        assert!((2_700..3_300).contains(&share(Fate::Refused)));
        assert!((1_300..1_700).contains(&share(Fate::AnswerLost)));
        assert!((400..600).contains(&share(Fate::Disguised)));
        assert_eq!(weather.refused(), share(Fate::Refused) as u64);
        weather.set_trouble(Trouble::default());
        assert!((0..1000).all(|_| weather.next().0 == Fate::Served));
        assert_eq!(weather.requests(), 12_000);
    }

    #[test]
    fn more_than_the_limit_at_a_time_are_refused() {
        let weather = Weather::default();
        weather.set_trouble(Trouble {
            in_flight_limit: Some(2),
            ..Trouble::default()
        });
        let mut served: Vec<InFlight> = Vec::new();
        for expected in [Fate::Served, Fate::Served, Fate::Refused] {
            let (fate, guard) = weather.next();
            assert_eq!(fate, expected);
            if fate == Fate::Served {
                served.push(guard);
            }
        }
        served.pop();
        assert_eq!(weather.next().0, Fate::Served);
    }
}
