//! The queue as one company sees it: its own numbers, and how many companies stand before it, never whose they are.

use database::workload::{RootWorkload, Workload};
use queue::{Line, Pace};
use serde::Serialize;
use settings::root_name;
use utoipa::ToSchema;

/// What a company has waiting and running.
#[derive(Serialize, ToSchema)]
pub(super) struct Queue {
    waiting_jobs: i64,
    running_jobs: i64,
    /// How many of the company's upload jobs run at once at most; null: no limit.
    max_concurrent_jobs: Option<i32>,
    running_upload_jobs: i64,
    /// Whether places and workers could be asked for. If not, they are null, and nothing new begins until they can.
    queue_available: bool,
    /// Workers alive that serve one of these roots at least.
    workers_alive: Option<usize>,
    /// The source roots that the company may use or has work at, by name.
    roots: Vec<QueueRoot>,
}

/// What a company has waiting and running at one source root.
#[derive(Serialize, ToSchema)]
struct QueueRoot {
    /// Its name.
    root: String,
    state: QueueState,
    /// Jobs that may begin now.
    waiting_jobs: i64,
    /// Jobs that are begun again later, after an error that may pass.
    delayed_jobs: i64,
    /// Jobs of paused sessions.
    paused_jobs: i64,
    running_jobs: i64,
    /// Found, and without an outcome; not of sessions that are paused or told to stop.
    files_left: i64,
    bytes_left: i64,
    /// 1: the next job of this root is the company's. Null while it does not stand in line.
    place_in_line: Option<u64>,
    /// Companies that stand in line at this root, this one included.
    companies_in_line: Option<u64>,
    /// Workers alive that serve this root.
    workers_alive: Option<usize>,
    /// While it stands in line: in how many seconds its next job may begin, if the workers of this root go on as they
    /// did in the last minute. Null where nothing waits, and while they get nothing done.
    begins_in_s: Option<u64>,
    /// How long what is left may take, in seconds: at the present speed where something travels; while it stands in
    /// line, at that of the workers in the last minute, shared with the other companies. Null while that cannot be
    /// told, and while a walk still finds more.
    eta_s: Option<u64>,
}

/// What a company's work at a root is at, or why it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum QueueState {
    /// There is nothing to do.
    Idle,
    /// Jobs run; what waits follows them.
    Running,
    /// Other companies' turns come first, or the workers are busy.
    InLine,
    /// As many upload jobs of the company run as may.
    LimitReached,
    /// No worker that is alive serves this root: it waits until one is started.
    NoWorker,
    /// The queue cannot be reached: it waits until it can.
    QueueUnavailable,
    /// It is begun again after a pause, for an error that may pass.
    Delayed,
    /// All of it is paused.
    Paused,
}

/// What Redis told.
pub(super) struct Live {
    pub workers_alive: usize,
    /// For each root.
    pub roots: Vec<LiveRoot>,
}

/// What Redis told of a root.
#[derive(Clone, Copy)]
pub(super) struct LiveRoot {
    pub workers_alive: usize,
    pub line: Line,
    /// Bytes in flight, and bytes a second.
    pub in_flight: Option<(u64, u64)>,
    /// What the workers that serve it got done, for whomever.
    pub pace: Pace,
    /// The upload jobs they run.
    pub running_uploads: usize,
}

impl Queue {
    pub(super) fn new(workload: &Workload, live: Option<&Live>) -> Self {
        let is_full = workload
            .max_concurrent_jobs
            .is_some_and(|limit| workload.running_uploads >= i64::from(limit));
        let sum = |count: fn(&RootWorkload) -> i64| workload.roots.iter().map(count).sum();
        Self {
            waiting_jobs: sum(|root| root.waiting),
            running_jobs: sum(|root| root.running),
            max_concurrent_jobs: workload.max_concurrent_jobs,
            running_upload_jobs: workload.running_uploads,
            queue_available: live.is_some(),
            workers_alive: live.map(|live| live.workers_alive),
            roots: workload
                .roots
                .iter()
                .enumerate()
                .map(|(index, root)| {
                    let live = live.and_then(|live| live.roots.get(index));
                    QueueRoot::new(root, live.copied(), is_full, workload.max_concurrent_jobs)
                })
                .collect(),
        }
    }
}

impl QueueRoot {
    fn new(root: &RootWorkload, live: Option<LiveRoot>, is_full: bool, limit: Option<i32>) -> Self {
        let state = state(root, live, is_full);
        let begins_in_s = live.filter(|_| state == QueueState::InLine).and_then(begins_in_s);
        Self {
            root: root_name(&root.location).to_owned(),
            state,
            waiting_jobs: root.waiting,
            delayed_jobs: root.delayed,
            paused_jobs: root.paused,
            running_jobs: root.running,
            files_left: root.files_left,
            bytes_left: root.bytes_left,
            place_in_line: live.and_then(|live| live.line.place),
            companies_in_line: live.map(|live| live.line.companies),
            workers_alive: live.map(|live| live.workers_alive),
            begins_in_s,
            eta_s: live.and_then(|live| match begins_in_s {
                Some(begins_in_s) => Some(begins_in_s + takes_s(root, live, limit)?),
                None => eta_s(root, live),
            }),
        }
    }
}

fn state(root: &RootWorkload, live: Option<LiveRoot>, is_full: bool) -> QueueState {
    if root.waiting > 0 {
        match live {
            None => QueueState::QueueUnavailable,
            Some(live) if live.workers_alive == 0 => QueueState::NoWorker,
            Some(_) if is_full && root.waiting_uploads > 0 => QueueState::LimitReached,
            Some(_) if root.running > 0 => QueueState::Running,
            Some(_) => QueueState::InLine,
        }
    } else if root.running > 0 {
        QueueState::Running
    } else if root.delayed > 0 {
        QueueState::Delayed
    } else if root.paused > 0 {
        QueueState::Paused
    } else {
        QueueState::Idle
    }
}

fn eta_s(root: &RootWorkload, live: LiveRoot) -> Option<u64> {
    let (in_flight, rate_bytes_per_s) = live.in_flight?;
    let left = u64::try_from(root.bytes_left).ok()?.saturating_sub(in_flight);
    (root.is_all_found && root.running > 0 && rate_bytes_per_s > 0).then(|| left.div_ceil(rate_bytes_per_s))
}

/// Each job that ends makes room for one company's, in their turns.
fn begins_in_s(live: LiveRoot) -> Option<u64> {
    let seconds = live.line.place?.saturating_mul(60);
    (live.pace.jobs_per_min > 0).then(|| seconds.div_ceil(live.pace.jobs_per_min))
}

/// How long all that is left takes, once it has begun: at the workers' pace, of which the company has its share among
/// those in line, and not more than so many jobs at once get done.
fn takes_s(root: &RootWorkload, live: LiveRoot, limit: Option<i32>) -> Option<u64> {
    if !root.is_all_found {
        return None;
    }
    let seconds = |left: i64, per_min: u64| match u128::try_from(left).ok()? {
        0 => Some(0),
        left => (left * 60).checked_div(u128::from(per_min)),
    };
    let alone_s = seconds(root.files_left, live.pace.files_per_min)?
        .max(seconds(root.bytes_left, live.pace.bytes_per_min)?);
    let limit = limit
        .and_then(|limit| u128::try_from(limit).ok())
        .unwrap_or(u128::MAX);
    let by_limit = (alone_s * live.running_uploads as u128).checked_div(limit)?;
    let by_turns = alone_s * u128::from(live.line.companies.max(1));
    u64::try_from(by_turns.max(by_limit)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(workers_alive: usize, place: Option<u64>) -> Option<LiveRoot> {
        Some(LiveRoot {
            workers_alive,
            line: Line { place, companies: 3 },
            in_flight: Some((100, 50)),
            pace: Pace {
                jobs_per_min: 4,
                files_per_min: 600,
                bytes_per_min: 6_000,
            },
            running_uploads: 8,
        })
    }

    fn root(change: impl FnOnce(&mut RootWorkload)) -> RootWorkload {
        let mut root = RootWorkload::idle("data@ACME".into());
        change(&mut root);
        root
    }

    #[test]
    fn each_state_has_its_cause() {
        use QueueState::{Delayed, Idle, InLine, LimitReached, NoWorker, Paused, QueueUnavailable, Running};
        let waiting = || {
            root(|root| {
                root.waiting = 2;
                root.waiting_uploads = 1;
            })
        };
        let scan = || root(|root| root.waiting = 1);
        let running = || root(|root| root.running = 1);
        let both = || root(|root| (root.waiting, root.running) = (1, 1));
        for (root, live, is_full, expected) in [
            (root(|_| {}), live(0, None), false, Idle),
            (waiting(), live(0, Some(1)), false, NoWorker),
            (waiting(), live(0, None), true, NoWorker),
            (waiting(), live(1, Some(3)), false, InLine),
            (waiting(), live(1, None), true, LimitReached),
            (waiting(), None, true, QueueUnavailable),
            // A walk needs no place among the uploads.
            (scan(), live(1, Some(1)), true, InLine),
            (both(), live(1, Some(1)), false, Running),
            // What runs ends somehow, whoever told last that they are alive.
            (running(), live(0, None), true, Running),
            (running(), None, false, Running),
            (
                root(|root| (root.delayed, root.paused) = (1, 1)),
                live(1, None),
                false,
                Delayed,
            ),
            (root(|root| root.paused = 1), live(0, None), false, Paused),
        ] {
            assert_eq!(state(&root, live, is_full), expected, "{root:?}");
        }
    }

    #[test]
    fn the_rest_takes_what_it_takes_at_the_present_speed_where_that_is_known() {
        let moving = |change: fn(&mut RootWorkload)| {
            root(|root| {
                (root.running, root.bytes_left, root.is_all_found) = (1, 1_101, true);
                change(root);
            })
        };
        let live = live(1, None).unwrap();
        assert_eq!(eta_s(&moving(|_| {}), live), Some(21));
        assert_eq!(eta_s(&moving(|root| root.bytes_left = 7), live), Some(0));
        assert_eq!(eta_s(&moving(|root| root.is_all_found = false), live), None);
        assert_eq!(eta_s(&moving(|root| root.running = 0), live), None);
        for in_flight in [None, Some((0, 0))] {
            assert_eq!(eta_s(&moving(|_| {}), LiveRoot { in_flight, ..live }), None);
        }
    }

    #[test]
    fn who_stands_in_line_hears_how_long_it_may_take() {
        let waiting = |change: fn(&mut RootWorkload)| {
            root(|root| {
                (root.waiting, root.waiting_uploads, root.is_all_found) = (2, 2, true);
                (root.files_left, root.bytes_left) = (100, 3_000);
                change(root);
            })
        };
        let seen = |root: &RootWorkload, live, limit| {
            let seen = QueueRoot::new(root, live, false, limit);
            (seen.begins_in_s, seen.eta_s)
        };
        let third = live(1, Some(3));
        // Four jobs a minute end, and three companies share: 3,000 bytes take three times half a minute.
        assert_eq!(seen(&waiting(|_| {}), third, None), (Some(45), Some(45 + 90)));
        // Of the eight jobs that do so much, it may run one.
        assert_eq!(seen(&waiting(|_| {}), third, Some(1)), (Some(45), Some(45 + 240)));
        assert_eq!(seen(&waiting(|_| {}), third, Some(4)), (Some(45), Some(45 + 90)));
        // Many small files take longer than their bytes.
        let small = waiting(|root| root.files_left = 1_000);
        assert_eq!(seen(&small, third, None), (Some(45), Some(45 + 300)));
        // What was not yet walked through has no end that is known.
        let unknown = waiting(|root| root.is_all_found = false);
        assert_eq!(seen(&unknown, third, None), (Some(45), None));
        // Workers that get nothing done, nobody who stands in line, and what runs already.
        let idle = third.map(|live| LiveRoot {
            pace: Pace::default(),
            ..live
        });
        assert_eq!(seen(&waiting(|_| {}), idle, None), (None, None));
        assert_eq!(seen(&waiting(|_| {}), live(1, None), None), (None, None));
        assert_eq!(seen(&waiting(|_| {}), live(0, Some(1)), None), (None, None));
        assert_eq!(
            seen(&waiting(|root| root.running = 1), third, None),
            (None, Some(58))
        );
    }

    #[test]
    fn what_a_company_sees_of_a_root_is_its_name() {
        let queue = Queue::new(
            &Workload {
                max_concurrent_jobs: Some(2),
                running_uploads: 2,
                roots: vec![
                    root(|root| (root.waiting, root.waiting_uploads) = (4, 4)),
                    root(|root| root.running = 3),
                ],
            },
            None,
        );
        assert_eq!(
            (queue.waiting_jobs, queue.running_jobs, queue.queue_available),
            (4, 3, false)
        );
        assert_eq!(queue.roots[0].root, "data");
        assert_eq!((queue.roots[0].workers_alive, queue.workers_alive), (None, None));
    }
}
