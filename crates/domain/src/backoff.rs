//! Waiting before another attempt: exponential, capped, with full jitter
//! ("Exponential Backoff and Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

/// How long to wait before an attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound of the first wait.
    pub base: Duration,
    /// The upper bound of every wait.
    pub cap: Duration,
}

impl Backoff {
    /// The upper bound of the wait after `failures` failed attempts (1 after the first).
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A wait drawn evenly between nothing and [`Self::ceiling`], so that many clients do not return at once.
    pub fn delay(&self, failures: u32, random: &mut impl rand::Rng) -> Duration {
        self.ceiling(failures).mul_f64(random.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(5),
    };

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let ceilings: Vec<u128> = [1, 2, 3, 6, 7, 40, u32::MAX]
            .map(|n| BACKOFF.ceiling(n).as_millis())
            .to_vec();
        assert_eq!(ceilings, [100, 200, 400, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn delays_spread_below_the_ceiling() {
        let mut random = rand::rng();
        let delays: Vec<Duration> = (0..1000).map(|_| BACKOFF.delay(3, &mut random)).collect();
        assert!(delays.iter().all(|delay| *delay <= BACKOFF.ceiling(3)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_millis(100)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(300)));
    }
}
