//! The time that requests are signed with: this machine's, until a store refuses it; from then on the store's.
//!
//! A store refuses requests that were signed a quarter of an hour before or after its own time. Its answer says what
//! that is, so that a machine whose clock is off can work all the same.

use http::HeaderMap;
use http::header::DATE;
use reqsign_core::time::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Differences below this are no reason to refuse a request, and come of slow answers, too.
const TOLERANCE_S: i64 = 60;

/// By how many seconds the store's clock is ahead of this machine's, as far as it matters.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    /// Takes the time from an answer that refused ours. Whether a request that is signed by it may do better.
    pub(crate) fn learn(&self, headers: &HeaderMap) -> bool {
        let told = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(told) = told.and_then(|date| Timestamp::parse_rfc2822(date).ok()) else {
            return false;
        };
        let ahead_s = told.as_second() - Timestamp::now().as_second();
        let ahead_s = if ahead_s.abs() > TOLERANCE_S { ahead_s } else { 0 };
        let before_s = self.0.swap(ahead_s, Ordering::Relaxed);
        if (ahead_s - before_s).abs() > TOLERANCE_S {
            tracing::warn!(
                ahead_s,
                "the store's clock differs from this machine's: requests are signed by the store's; set this machine's clock"
            );
        }
        // Others may have learned it while this request was on its way.
        ahead_s != 0 || before_s != 0
    }

    /// The store's time, as far as it is known.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead_s = self.0.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead_s.unsigned_abs());
        if ahead_s < 0 {
            Timestamp::now() - difference
        } else {
            Timestamp::now() + difference
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(ahead: i64) -> HeaderMap {
        let time = Timestamp::from_second(Timestamp::now().as_second() + ahead).unwrap();
        let date = time.format_http_date();
        [(DATE, date.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_stores_time_is_taken_and_put_back() {
        let clock = Clock::default();
        assert!(!clock.learn(&HeaderMap::new()) && !clock.learn(&says(5)));
        let ahead_s = || clock.now().as_second() - Timestamp::now().as_second();
        assert_eq!(ahead_s(), 0);
        for hour in [3_600, -3_600] {
            assert!(clock.learn(&says(hour)));
            assert!((ahead_s() - hour).abs() <= 1);
            assert!(
                clock.learn(&says(hour)),
                "one that was on its way at the first refusal"
            );
        }
        // Somebody has set this machine's clock.
        assert!(clock.learn(&says(0)));
        assert_eq!(ahead_s(), 0);
        assert!(!clock.learn(&says(0)));
    }
}
