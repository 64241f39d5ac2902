//! What can be done to a server from outside, and what is counted of its traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Faults for a share of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Of 1,000 requests, how many are answered with 503 `SlowDown` before they are looked at.
    pub refused_per_mille: u32,
    /// Of 1,000 requests, how many are carried out and then broken off without an answer.
    pub lost_per_mille: u32,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    Refused,
    AnswerLost,
}

#[derive(Debug, Default)]
struct Shared {
    latency_ms: AtomicU64,
    requests: AtomicU64,
    received_bytes: AtomicU64,
    refused_per_mille: AtomicU32,
    lost_per_mille: AtomicU32,
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
        let shared = &self.0;
        shared
            .refused_per_mille
            .store(trouble.refused_per_mille, Ordering::Relaxed);
        shared
            .lost_per_mille
            .store(trouble.lost_per_mille, Ordering::Relaxed);
    }

    pub(super) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_received(&self, size_bytes: usize) {
        self.0
            .received_bytes
            .fetch_add(size_bytes as u64, Ordering::Relaxed);
    }

    /// Counts a request and decides what becomes of it.
    pub(super) fn next(&self) -> Fate {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let refused = self.0.refused_per_mille.load(Ordering::Relaxed);
        let lost = self.0.lost_per_mille.load(Ordering::Relaxed);
        if refused == 0 && lost == 0 {
            return Fate::Served;
        }
        match u32::try_from(scatter(number) % 1000).unwrap_or_default() {
            point if point < refused => Fate::Refused,
            point if point < refused + lost => Fate::AnswerLost,
            _ => Fate::Served,
        }
    }
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
        assert!((0..1000).all(|_| weather.next() == Fate::Served));
        weather.set_trouble(Trouble {
            refused_per_mille: 300,
            lost_per_mille: 150,
        });
        let fates: Vec<Fate> = (0..10_000).map(|_| weather.next()).collect();
        let share = |fate: Fate| fates.iter().filter(|seen| **seen == fate).count();
        assert!((2_700..3_300).contains(&share(Fate::Refused)));
        assert!((1_300..1_700).contains(&share(Fate::AnswerLost)));
        weather.set_trouble(Trouble::default());
        assert!((0..1000).all(|_| weather.next() == Fate::Served));
        assert_eq!(weather.requests(), 12_000);
    }
}
