//! How many requests a bucket may have in flight: fewer when the store asks for it or lets requests time out, more
//! again while it answers ("Analysis of the increase and decrease algorithms for congestion avoidance", Chiu and Jain,
//! 1989). Without a sign of trouble there is no limit, and nobody waits here.

use crate::bucket::Shared;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Nothing was answered well for so long: trying again now is of no use.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// Failures that lie further apart have nothing to do with one another.
const STREAK_GAP: Duration = Duration::from_secs(120);

/// The limit by itself, without anybody waiting for it.
#[derive(Debug)]
struct Window {
    limit: usize,
    /// Good answers since the limit was raised last.
    answered: usize,
    /// Counts the times it was lowered.
    round: u64,
}

impl Window {
    const UNLIMITED: usize = usize::MAX;

    fn new() -> Self {
        Self {
            limit: Self::UNLIMITED,
            answered: 0,
            round: 0,
        }
    }

    /// A good answer: as many of them as are in flight at a time raise the limit by one.
    fn answered(&mut self) {
        if self.limit == Self::UNLIMITED {
            return;
        }
        self.answered += 1;
        if self.answered >= self.limit {
            self.answered = 0;
            self.limit += 1;
        }
    }

    /// A request that was begun in `round` was too much. All that were in flight together tell the same: the first of
    /// them halves the limit, the others say nothing new.
    fn overloaded(&mut self, round: u64, in_flight: usize) {
        if round != self.round {
            return;
        }
        self.round += 1;
        self.answered = 0;
        self.limit = (self.limit.min(in_flight) / 2).max(1);
    }
}

#[derive(Debug)]
struct State {
    window: Window,
    /// Requests that are with the store.
    in_flight: usize,
    /// Files and parts that were let in.
    admitted: usize,
    /// The first and the last failure since the last good answer.
    failing: Option<(Instant, Instant)>,
}

/// How an attempt ended, as far as the pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The store did what it was asked for.
    Good,
    /// It answered, and to send less would change nothing.
    Neutral,
    /// It failed in a way that may pass.
    Failed,
    /// It asked for fewer requests, or did not answer in time.
    Overloaded,
}

/// The pace of one bucket.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
    changed: Notify,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                window: Window::new(),
                in_flight: 0,
                admitted: 0,
                failing: None,
            }),
            changed: Notify::new(),
        }
    }

    /// How many requests may be in flight; `None`: there is no limit.
    pub(crate) fn limit(&self) -> Option<usize> {
        let limit = self.lock().window.limit;
        (limit != Window::UNLIMITED).then_some(limit)
    }

    /// Waits until one more request may go to the store.
    pub(crate) async fn begin(&self) -> Attempt<'_> {
        let round = self.room(|state| &mut state.in_flight).await;
        Attempt { pace: self, round }
    }

    /// Nothing was answered well for a while: what fails now is not worth repeating.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.lock()
            .failing
            .is_some_and(|(first, last)| last - first >= GIVE_UP_AFTER)
    }

    /// Waits until there is room to count one more, and counts it. Tells the round.
    async fn room(&self, count: fn(&mut State) -> &mut usize) -> u64 {
        let enter = || {
            let mut state = self.lock();
            let limit = state.window.limit;
            let counted = count(&mut state);
            let has_room = *counted < limit;
            *counted += usize::from(has_room);
            has_room.then_some(state.window.round)
        };
        if let Some(round) = enter() {
            return round;
        }
        loop {
            // Before the look, so that no change is missed.
            let changed = self.changed.notified();
            if let Some(round) = enter() {
                return round;
            }
            changed.await;
        }
    }

    fn leave(&self, count: fn(&mut State) -> &mut usize) {
        let mut state = self.lock();
        *count(&mut state) -= 1;
        self.tell(&state);
    }

    fn note(&self, round: u64, sign: Sign) {
        let mut state = self.lock();
        match sign {
            Sign::Good | Sign::Neutral => state.failing = None,
            Sign::Failed | Sign::Overloaded => {
                let now = Instant::now();
                let first = match state.failing {
                    Some((first, last)) if now - last < STREAK_GAP => first,
                    _ => now,
                };
                state.failing = Some((first, now));
            }
        }
        let in_flight = state.in_flight;
        match sign {
            Sign::Good => state.window.answered(),
            Sign::Overloaded => state.window.overloaded(round, in_flight),
            Sign::Neutral | Sign::Failed => {}
        }
        self.tell(&state);
    }

    /// Nobody waits where there is no limit.
    fn tell(&self, state: &State) {
        if state.window.limit != Window::UNLIMITED {
            self.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is with the store, until this is dropped.
pub(crate) struct Attempt<'a> {
    pace: &'a Pace,
    round: u64,
}

impl Attempt<'_> {
    /// How it ended.
    pub(crate) fn ended(self, sign: Sign) {
        self.pace.note(self.round, sign);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.pace.leave(|state| &mut state.in_flight);
    }
}

/// The place of a file or part that is on its way to a bucket, until this is dropped: see
/// [`Bucket::admit`](crate::Bucket::admit).
#[must_use]
pub struct Admission(Arc<Shared>);

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admission")
    }
}

impl Admission {
    pub(crate) async fn to(shared: &Arc<Shared>) -> Self {
        shared.pace.room(|state| &mut state.admitted).await;
        Self(Arc::clone(shared))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.pace.leave(|state| &mut state.admitted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn one_window_of_failures_halves_the_limit_once() {
        let mut window = Window::new();
        for _ in 0..64 {
            window.overloaded(0, 64);
        }
        assert_eq!((window.limit, window.round), (32, 1));
        window.overloaded(1, 32);
        assert_eq!(window.limit, 16);
        // Fewer were in flight than might have been.
        window.overloaded(2, 6);
        assert_eq!(window.limit, 3);
        for round in 3..10 {
            window.overloaded(round, 3);
        }
        assert_eq!(window.limit, 1, "never less than one");
    }

    #[test]
    fn a_window_of_good_answers_raises_the_limit_by_one() {
        let mut window = Window::new();
        window.answered();
        assert_eq!(window.limit, Window::UNLIMITED);
        window.overloaded(0, 4);
        let limits: Vec<usize> = (0..9)
            .map(|_| {
                window.answered();
                window.limit
            })
            .collect();
        assert_eq!(limits, [2, 3, 3, 3, 4, 4, 4, 4, 5]);
        // A failure in between begins the count anew.
        window.overloaded(1, 5);
        assert_eq!(window.limit, 2);
        window.answered();
        assert_eq!(window.limit, 2);
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_for_it() {
        let pace = Pace::new();
        let mut attempts = Vec::new();
        for _ in 0..4 {
            attempts.push(pace.begin().await);
        }
        attempts.pop().unwrap().ended(Sign::Overloaded);
        assert_eq!(pace.limit(), Some(2));
        let mut waiting = Box::pin(pace.begin());
        assert!((&mut waiting).now_or_never().is_none(), "three are in flight");
        drop(attempts.pop());
        assert!((&mut waiting).now_or_never().is_none(), "two are in flight");
        drop(attempts.pop());
        let second = (&mut waiting).now_or_never().expect("there is room");
        // They began before the limit was lowered, and in the round after.
        attempts.pop().unwrap().ended(Sign::Overloaded);
        assert_eq!(pace.limit(), Some(2));
        second.ended(Sign::Overloaded);
        assert_eq!(pace.limit(), Some(1));
        // One that nobody waits for any more takes no room.
        let held = pace.begin().await;
        let mut gone = Box::pin(pace.begin());
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        drop(held);
        assert!(pace.begin().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_long_streak_of_failures_is_hopeless_until_a_good_answer() {
        let pace = Pace::new();
        pace.begin().await.ended(Sign::Failed);
        assert!(!pace.is_hopeless());
        let age = |first_by: Duration, last_by: Duration| {
            let mut state = pace.lock();
            let (first, last) = state.failing.unwrap();
            state.failing = Some((first - first_by, last - last_by));
        };
        age(GIVE_UP_AFTER, Duration::ZERO);
        assert!(pace.is_hopeless());
        pace.begin().await.ended(Sign::Neutral);
        assert!(!pace.is_hopeless());
        assert_eq!(pace.limit(), None, "nobody asked for less");

        pace.begin().await.ended(Sign::Failed);
        age(STREAK_GAP, STREAK_GAP);
        pace.begin().await.ended(Sign::Failed);
        assert!(!pace.is_hopeless(), "they have nothing to do with each other");
    }
}
