//! What this worker is doing right now, for people to watch. Nothing depends on it.

use crate::worker::Worker;
use domain::SessionId;
use queue::{ActiveFile, Live};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often figures are told: the pace at which the gateway passes them on.
const TICK: Duration = Duration::from_millis(250);
/// How many active files are named.
const MAX_NAMED: usize = 20;
/// How fast the rate follows: the weight of the latest tick.
const SMOOTHING: f64 = 0.15;

/// Every session this worker works on.
#[derive(Default)]
pub struct LiveBoard {
    sessions: Mutex<HashMap<SessionId, SessionLive>>,
}

#[derive(Default)]
struct SessionLive {
    jobs: usize,
    active: BTreeMap<i64, ActiveFile>,
    bytes_since_tick: i64,
    rate_bytes_per_s: f64,
}

impl LiveBoard {
    fn with<T>(&self, session: SessionId, act: impl FnOnce(&mut SessionLive) -> T) -> Option<T> {
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(&session)
            .map(act)
    }

    /// A job of `session` works here for as long as the answer is kept.
    pub fn watch(self: &Arc<Self>, session: SessionId) -> Watch {
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(session)
            .or_default()
            .jobs += 1;
        Watch {
            board: self.clone(),
            session,
        }
    }

    /// A file is begun.
    pub fn begin(&self, session: SessionId, number: i64, path: &str, size_bytes: u64) {
        let file = ActiveFile {
            path: path.to_owned(),
            size_bytes,
            sent_bytes: 0,
        };
        self.with(session, |live| live.active.insert(number, file));
    }

    /// More of a file arrived (or less, where it starts over).
    pub fn advance(&self, session: SessionId, number: i64, delta: i64) {
        self.with(session, |live| {
            live.bytes_since_tick += delta.max(0);
            if let Some(file) = live.active.get_mut(&number) {
                file.sent_bytes = file.sent_bytes.saturating_add_signed(delta);
            }
        });
    }

    /// A file has its outcome.
    pub fn end(&self, session: SessionId, number: i64) {
        self.with(session, |live| live.active.remove(&number));
    }

    fn tick(&self, elapsed: Duration) -> Vec<(SessionId, Live)> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions
            .iter_mut()
            .map(|(session, live)| {
                let rate =
                    std::mem::take(&mut live.bytes_since_tick) as f64 / elapsed.as_secs_f64().max(0.001);
                live.rate_bytes_per_s += SMOOTHING * (rate - live.rate_bytes_per_s);
                let figures = Live {
                    bytes_in_flight: live.active.values().map(|file| file.sent_bytes).sum(),
                    rate_bytes_per_s: live.rate_bytes_per_s as u64,
                    active_files: live.active.values().take(MAX_NAMED).cloned().collect(),
                };
                (*session, figures)
            })
            .collect()
    }
}

/// Keeps a session on the board.
pub struct Watch {
    board: Arc<LiveBoard>,
    session: SessionId,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut sessions = self.board.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = sessions.get_mut(&self.session) {
            live.jobs -= 1;
            if live.jobs == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

/// Tells the figures until `stop`.
pub async fn report(worker: Arc<Worker>, stop: CancellationToken) {
    let mut told: Vec<SessionId> = Vec::new();
    let mut last = Instant::now();
    while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
        let figures = worker.live.tick(last.elapsed());
        last = Instant::now();
        let present: Vec<SessionId> = figures.iter().map(|(session, _)| *session).collect();
        for session in told.iter().filter(|session| !present.contains(session)) {
            // Watchers see the end at once instead of stale figures.
            let _ = worker.queue.clear_live(*session, &worker.id).await;
            let _ = worker.queue.publish_progress(*session).await;
        }
        for (session, live) in &figures {
            let told = worker.queue.set_live(*session, &worker.id, live).await;
            if told.is_err() {
                break; // Redis is away; the next tick tries again
            }
            let _ = worker.queue.publish_progress(*session).await;
        }
        told = present;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_the_files() {
        let (board, session) = (Arc::new(LiveBoard::default()), SessionId::new());
        let watch = board.watch(session);
        board.begin(session, 7, "a/b", 100);
        board.advance(session, 7, 60);
        board.advance(session, 7, -20);
        let figures = board.tick(Duration::from_secs(1));
        assert_eq!(figures[0].1.bytes_in_flight, 40);
        assert_eq!(figures[0].1.rate_bytes_per_s, 9);
        assert_eq!(figures[0].1.active_files[0].path, "a/b");
        board.end(session, 7);
        assert!(board.tick(Duration::from_secs(1))[0].1.active_files.is_empty());
        drop(watch);
        assert!(board.tick(Duration::from_secs(1)).is_empty());
    }
}
