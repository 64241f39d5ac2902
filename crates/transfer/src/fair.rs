//! What companies share within an engine, so that none keeps another waiting for long.
//!
//! Two rules. Companies stand in line, not their files: of each company one task at a time waits for what all share,
//! so that whatever is given back goes to the companies in turn. And no company holds the last of it: the reserve is
//! there for others at once, also while whatever one company has in flight does not end.

use domain::CompanyId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// A number of permits that companies share.
#[derive(Debug)]
pub(crate) struct Shared {
    total: u32,
    /// What one company may hold.
    most: u32,
    permits: Arc<Semaphore>,
    companies: Mutex<HashMap<CompanyId, Weak<Side>>>,
}

/// One company's side of what is shared.
#[derive(Debug)]
struct Side {
    /// What it may still take.
    allowance: Arc<Semaphore>,
    /// Held by the one that stands in line for the company.
    turn: Semaphore,
}

/// A company at what is shared: all its calls have the same one.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    shared: Arc<Shared>,
    side: Arc<Side>,
}

/// What was taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_company: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Shared {
    /// `total` permits, of which a single company leaves `reserve` to others. At least one is there to be had.
    pub(crate) fn new(total: u32, reserve: u32) -> Arc<Self> {
        Arc::new(Self {
            total,
            most: total.saturating_sub(reserve).max(1),
            permits: Arc::new(Semaphore::new(total as usize)),
            companies: Mutex::default(),
        })
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// How many nobody has at this moment.
    pub(crate) fn free(&self) -> usize {
        self.permits.available_permits()
    }

    /// A company that takes part.
    pub(crate) fn member(self: &Arc<Self>, company: CompanyId) -> Member {
        let mut companies = self.companies.lock().unwrap_or_else(PoisonError::into_inner);
        let known = companies.get(&company).and_then(Weak::upgrade);
        let side = known.unwrap_or_else(|| {
            companies.retain(|_, side| side.strong_count() > 0);
            let side = Arc::new(Side {
                allowance: Arc::new(Semaphore::new(self.most as usize)),
                turn: Semaphore::new(1),
            });
            companies.insert(company, Arc::downgrade(&side));
            side
        });
        Member {
            shared: Arc::clone(self),
            side,
        }
    }
}

impl Member {
    /// Takes `count` permits, or all that a company may have, if they are free now.
    pub(crate) fn try_take(&self, count: u32) -> Option<Permit> {
        let count = count.min(self.shared.most);
        let allowance = Arc::clone(&self.side.allowance);
        let of_company = allowance.try_acquire_many_owned(count).ok()?;
        let permits = Arc::clone(&self.shared.permits);
        Some(Permit {
            _of_company: of_company,
            _of_all: permits.try_acquire_many_owned(count).ok()?,
        })
    }

    /// Waits for `count` permits, or for all that a company may have.
    ///
    /// # Errors
    /// Never: nothing here is closed.
    pub(crate) async fn take(&self, count: u32) -> Result<Permit, AcquireError> {
        let count = count.min(self.shared.most);
        let allowance = Arc::clone(&self.side.allowance);
        let of_company = allowance.acquire_many_owned(count).await?;
        let _turn = self.side.turn.acquire().await?;
        let permits = Arc::clone(&self.shared.permits);
        Ok(Permit {
            _of_company: of_company,
            _of_all: permits.acquire_many_owned(count).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::Future;

    /// Puts a task in line, as far as it gets now.
    fn in_line(member: &Member) -> std::pin::Pin<Box<impl Future<Output = Result<Permit, AcquireError>>>> {
        let member = member.clone();
        let mut waiting = Box::pin(async move { member.take(1).await });
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    }

    #[test]
    fn what_is_given_back_goes_to_companies_in_turn() {
        let shared = Shared::new(2, 0);
        let [first, large, small] = [(); 3].map(|()| shared.member(CompanyId::new()));
        let mut held: Vec<Permit> = (0..2).map(|_| first.try_take(1).unwrap()).collect();
        let mut of_large: Vec<_> = (0..50).map(|_| in_line(&large)).collect();
        let mut of_small: Vec<_> = (0..2).map(|_| in_line(&small)).collect();
        let mut order = Vec::new();
        while order.len() < 6 {
            held.remove(0);
            for (name, waiting) in [("large", &mut of_large), ("small", &mut of_small)] {
                // Those behind step forward when the one before them is through.
                waiting.retain_mut(|task| match task.now_or_never() {
                    Some(permit) => {
                        held.push(permit.unwrap());
                        order.push(name);
                        false
                    }
                    None => true,
                });
            }
        }
        assert_eq!(order, ["large", "small", "large", "small", "large", "large"]);
    }

    #[test]
    fn a_company_leaves_the_reserve_to_others_and_may_have_the_rest_at_once() {
        let shared = Shared::new(16, 2);
        let (one, other) = (shared.member(CompanyId::new()), shared.member(CompanyId::new()));
        let all_it_may_have = one.try_take(u32::MAX).unwrap();
        assert_eq!((shared.total(), shared.free()), (16, 2));
        assert!(one.try_take(1).is_none());
        let _two = other.try_take(2).unwrap();
        assert!(other.try_take(1).is_none());
        drop(all_it_may_have);
        assert_eq!(shared.free(), 14);
    }

    #[test]
    fn calls_of_a_company_are_one_company_while_they_last() {
        let (shared, company) = (Shared::new(4, 1), CompanyId::new());
        let (one, same) = (shared.member(company), shared.member(company));
        let _all = one.try_take(3).unwrap();
        assert!(same.try_take(1).is_none());
        drop((one, same));
        shared.member(CompanyId::new());
        assert_eq!(shared.companies.lock().unwrap().len(), 1, "who left is forgotten");
    }
}
