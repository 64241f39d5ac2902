//! What this worker gets done, for people who wait to hear how long it may take. Nothing depends on it.

use queue::Pace;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time that a pace is taken from.
const WINDOW: Duration = Duration::from_secs(60);

/// What was done since this worker began.
#[derive(Default)]
pub struct Done {
    jobs: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Clone, Copy)]
struct Totals {
    jobs: u64,
    files: u64,
    bytes: u64,
}

impl Done {
    /// A job at a location has ended, one way or another: there is a place for the next.
    pub fn add_job(&self) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
    }

    /// A file of that size has arrived.
    pub fn add_file(&self, size_bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size_bytes, Ordering::Relaxed);
    }

    fn totals(&self) -> Totals {
        Totals {
            jobs: self.jobs.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Takes the pace from what is done.
#[derive(Default)]
pub struct Meter(VecDeque<(Instant, Totals)>);

impl Meter {
    /// The pace of the last minute, or since the first call.
    pub fn read(&mut self, done: &Done, now: Instant) -> Pace {
        let totals = done.totals();
        self.0.push_back((now, totals));
        while self
            .0
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            self.0.pop_front();
        }
        let (since, before) = self.0.front().copied().unwrap_or((now, totals));
        let elapsed_ms = now.duration_since(since).as_millis().max(1);
        let per_min = |count: u64| u64::try_from(u128::from(count) * 60_000 / elapsed_ms).unwrap_or(u64::MAX);
        Pace {
            jobs_per_min: per_min(totals.jobs - before.jobs),
            files_per_min: per_min(totals.files - before.files),
            bytes_per_min: per_min(totals.bytes - before.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_minute() {
        let (done, mut meter, start) = (Done::default(), Meter::default(), Instant::now());
        assert_eq!(meter.read(&done, start), Pace::default());
        for _ in 0..10 {
            done.add_job();
            done.add_file(1_000);
            done.add_file(500);
        }
        let pace = meter.read(&done, start + Duration::from_secs(20));
        assert_eq!(
            (pace.jobs_per_min, pace.files_per_min, pace.bytes_per_min),
            (30, 60, 45_000)
        );
        let pace = meter.read(&done, start + Duration::from_secs(60));
        assert_eq!(pace.jobs_per_min, 10);
        // What was done in the first twenty seconds is more than a minute ago.
        let pace = meter.read(&done, start + Duration::from_secs(80));
        assert_eq!(pace, Pace::default());
    }
}
