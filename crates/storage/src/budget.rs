//! The limit of repetitions that all requests of a bucket share: it ends a storm of retries.

use std::sync::atomic::{AtomicU64, Ordering};

/// The repetitions that the requests of a bucket have left together, in tenths.
pub(crate) struct RetryBudget {
    tenths: AtomicU64,
    full_tenths: u64,
}

impl RetryBudget {
    pub(crate) fn new(retries: u32) -> Self {
        let full_tenths = u64::from(retries) * 10;
        Self {
            tenths: AtomicU64::new(full_tenths),
            full_tenths,
        }
    }

    /// A request succeeded.
    pub(crate) fn earn(&self) {
        if self.tenths.load(Ordering::Relaxed) < self.full_tenths {
            self.tenths.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one repetition, if there is one left.
    pub(crate) fn spend(&self) -> bool {
        let less = |tenths: u64| tenths.checked_sub(10);
        self.tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_spent_and_earned_back_by_tens() {
        let budget = RetryBudget::new(2);
        assert!(budget.spend() && budget.spend());
        assert!(!budget.spend());
        for _ in 0..9 {
            budget.earn();
        }
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend());
        assert!(!budget.spend());
    }

    #[test]
    fn no_more_is_earned_than_there_was() {
        let budget = RetryBudget::new(1);
        for _ in 0..100 {
            budget.earn();
        }
        assert!(budget.spend());
        assert!(!budget.spend());
    }
}
