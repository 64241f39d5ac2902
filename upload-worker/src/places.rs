//! What this worker has room for: the jobs it runs, counted by company.
//!
//! It takes upload jobs while few of their files wait, and walks beside them, for both have places of their own. When
//! it is full, companies that run nothing of the kind here are still let in, up to as many again: however much one
//! has begun here, and however long that takes, another does not wait for its end.

use database::jobs::Claim;
use domain::{CompanyId, JobKind};
use queue::RunningJobs;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The most upload jobs at once, whatever their size; and as many again, each the only one of its company.
const MAX_UPLOADS: usize = 16;
/// The most scans at once; and as many again, each the only one of its company.
const MAX_SCANS: usize = 8;

/// Whose jobs may be taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// Everybody's.
    All,
    /// Those of other companies than these: it is full, and these have something here.
    AllBut(Vec<CompanyId>),
    /// Nobody's.
    None,
}

/// The places of one worker.
pub struct Places {
    /// Files in flight at most.
    concurrency: usize,
    /// Files that wait for a slot already, over all jobs.
    backlog: AtomicUsize,
    pace: Mutex<FilePace>,
    /// Few files wait now, or a job has ended.
    room: Notify,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    scans: Count,
    uploads: Count,
    finishes: Count,
}

/// Jobs of one kind.
#[derive(Default)]
struct Count {
    all: usize,
    by_company: HashMap<CompanyId, usize>,
}

impl Places {
    /// No job runs yet; `concurrency` files may be in flight.
    pub fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            backlog: AtomicUsize::new(0),
            pace: Mutex::new(FilePace::new(Instant::now())),
            room: Notify::new(),
            running: Mutex::default(),
        }
    }

    /// Whose jobs may be taken now.
    pub fn offer(&self) -> Offer {
        let running = self.running();
        if running.uploads.all < MAX_UPLOADS && self.backlog.load(Ordering::Relaxed) < self.enough() {
            Offer::All
        } else if running.uploads.all < 2 * MAX_UPLOADS {
            Offer::AllBut(running.uploads.by_company.keys().copied().collect())
        } else {
            Offer::None
        }
    }

    /// With as many files waiting there is time to take another job before they are begun.
    fn enough(&self) -> usize {
        let soon = self.pace().soon(Instant::now());
        (2 * self.concurrency).max(soon)
    }

    /// Waits until there may be room for another job.
    pub async fn room(&self) {
        self.room.notified().await;
    }

    fn pace(&self) -> MutexGuard<'_, FilePace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a scan of this company that has its [`Place`] may begin.
    pub fn may_scan(&self, company: CompanyId) -> bool {
        let running = self.running();
        let scans = &running.scans;
        scans.all <= MAX_SCANS
            || scans.all <= 2 * MAX_SCANS && scans.by_company.get(&company).is_none_or(|own| *own == 1)
    }

    /// The jobs that run now.
    pub fn counts(&self) -> RunningJobs {
        let running = self.running();
        RunningJobs {
            scan: running.scans.all,
            upload: running.uploads.all,
            finish: running.finishes.all,
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn of(&mut self, kind: JobKind) -> &mut Count {
        match kind {
            JobKind::Scan => &mut self.scans,
            JobKind::Upload => &mut self.uploads,
            JobKind::Finish => &mut self.finishes,
        }
    }
}

impl Count {
    fn add(&mut self, company: CompanyId) {
        self.all += 1;
        *self.by_company.entry(company).or_default() += 1;
    }

    fn remove(&mut self, company: CompanyId) {
        self.all -= 1;
        if let Some(own) = self.by_company.get_mut(&company) {
            *own -= 1;
            if *own == 0 {
                self.by_company.remove(&company);
            }
        }
    }
}

/// A job's place in this worker: it counts from the claim on, so that the loop does not take a pile of jobs while
/// the first is still loading. An upload job's share of the backlog are the files it has still to begin, up to
/// what its session's concurrency, and the store that asked for fewer requests, let it begin soon.
pub struct Place {
    places: Arc<Places>,
    company_id: CompanyId,
    kind: JobKind,
    files: usize,
    cap: usize,
    pace: usize,
}

impl Place {
    /// The place of a job that was claimed just now.
    pub fn new(places: &Arc<Places>, claim: &Claim) -> Self {
        let files = claim.numbers.map_or(0, |(first, last)| {
            usize::try_from(last - first + 1).unwrap_or(usize::MAX)
        });
        let place = Self {
            places: places.clone(),
            company_id: claim.company_id,
            kind: claim.kind,
            files,
            cap: usize::MAX,
            pace: usize::MAX,
        };
        places.backlog.fetch_add(place.share(), Ordering::Relaxed);
        places.running().of(place.kind).add(place.company_id);
        place
    }

    fn share(&self) -> usize {
        self.files.min(self.cap).min(self.pace).min(1 << 20)
    }

    /// Corrects the number of files left; `concurrency` is the session's.
    pub fn set(&mut self, files: usize, concurrency: Option<u16>) {
        let cap = concurrency.map_or(usize::MAX, |concurrency| 2 * usize::from(concurrency));
        self.change(|place| (place.files, place.cap) = (files, cap));
    }

    /// How many requests its store takes at a time, if it said so.
    pub fn set_pace(&mut self, requests: Option<usize>) {
        let pace = requests.map_or(usize::MAX, |requests| requests.saturating_mul(2));
        self.change(|place| place.pace = pace);
    }

    /// One file has been begun.
    pub fn begun(&mut self) {
        self.places.pace().begun();
        self.change(|place| place.files = place.files.saturating_sub(1));
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.share();
        change(self);
        let after = self.share();
        self.places.backlog.fetch_add(after, Ordering::Relaxed);
        let both = self.places.backlog.fetch_sub(before, Ordering::Relaxed);
        let enough = self.places.enough();
        if both.saturating_sub(after) >= enough && both.saturating_sub(before) < enough {
            self.places.room.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.backlog.fetch_sub(self.share(), Ordering::Relaxed);
        self.places.running().of(self.kind).remove(self.company_id);
        self.places.room.notify_one();
    }
}

/// How many files are begun in the time that it takes to get another job: to find it, claim it, and load it.
struct FilePace {
    since: Instant,
    begun: usize,
    soon: usize,
}

impl FilePace {
    /// Some commits, on a disk that has other work, too.
    const AHEAD: Duration = Duration::from_millis(100);
    /// No more than a job has: a worker that vanishes is not to take many along.
    const MOST: usize = 1_000;

    fn new(now: Instant) -> Self {
        Self {
            since: now,
            begun: 0,
            soon: 0,
        }
    }

    fn begun(&mut self) {
        self.begun += 1;
    }

    fn soon(&mut self, now: Instant) -> usize {
        let past = now.duration_since(self.since);
        if past >= Self::AHEAD {
            let begun = self.begun as u128 * Self::AHEAD.as_millis() / past.as_millis();
            self.soon = usize::try_from(begun).unwrap_or(usize::MAX).min(Self::MOST);
            (self.since, self.begun) = (now, 0);
        }
        self.soon
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{JobId, SessionId};

    fn claim(kind: JobKind, company_id: CompanyId, files: i64) -> Claim {
        Claim {
            job_id: JobId(1),
            epoch: 1,
            company_id,
            session_id: SessionId::new(),
            run: 1,
            kind,
            numbers: (kind == JobKind::Upload).then_some((1, files)),
            errors: 0,
            crashes: 0,
            is_limited: false,
            away_for: None,
        }
    }

    #[test]
    fn a_full_worker_lets_other_companies_in() {
        let places = Arc::new(Places::new(64));
        let (large, small) = (CompanyId::new(), CompanyId::new());
        let upload = |company, files| Place::new(&places, &claim(JobKind::Upload, company, files));
        assert_eq!(places.offer(), Offer::All);
        let mut first = upload(large, 1_000);
        assert_eq!(places.offer(), Offer::AllBut(vec![large]));
        let second = upload(small, 10);
        let Offer::AllBut(mut companies) = places.offer() else {
            panic!("it is full");
        };
        companies.sort_unstable();
        let mut both = vec![large, small];
        both.sort_unstable();
        assert_eq!(companies, both);
        drop(second);
        // Few files wait, because most were begun or because the session may not begin them soon.
        first.set(127, None);
        assert_eq!(places.offer(), Offer::All);
        first.set(128, None);
        assert_ne!(places.offer(), Offer::All);
        first.begun();
        assert_eq!(places.offer(), Offer::All);
        first.set(1_000, Some(8));
        assert_eq!(places.offer(), Offer::All);
        // Jobs of few large files fill it, too; who comes later has as many places again, and no more.
        let _jobs: Vec<Place> = (1..MAX_UPLOADS).map(|_| upload(large, 1)).collect();
        assert_eq!(places.offer(), Offer::AllBut(vec![large]));
        let guests: Vec<Place> = (0..MAX_UPLOADS).map(|_| upload(CompanyId::new(), 1)).collect();
        assert_eq!(places.offer(), Offer::None);
        assert_eq!(places.counts().upload, 2 * MAX_UPLOADS);
        drop(guests);
        drop(first);
        assert_eq!(places.offer(), Offer::All);
    }

    #[test]
    fn the_faster_files_are_begun_the_more_may_wait() {
        let start = Instant::now();
        let mut pace = FilePace::new(start);
        let mut soon = |begun: usize, after_ms: u64| {
            (0..begun).for_each(|_| pace.begun());
            pace.soon(start + Duration::from_millis(after_ms))
        };
        assert_eq!(soon(500, 99), 0, "it cannot be told yet");
        assert_eq!(soon(0, 100), 500);
        assert_eq!(soon(300, 150), 500, "as it was told last");
        assert_eq!(soon(300, 300), 300);
        assert_eq!(soon(1_000_000, 400), FilePace::MOST);
        assert_eq!(soon(0, 10_000), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_told_when_few_files_wait() {
        let places = Arc::new(Places::new(64));
        let mut place = Place::new(&places, &claim(JobKind::Upload, CompanyId::new(), 129));
        let mut room = Box::pin(places.room());
        place.begun();
        assert!(futures::poll!(&mut room).is_pending(), "128 wait");
        place.begun();
        room.await;
        assert_eq!(places.offer(), Offer::All);
        let room = places.room();
        drop(place);
        room.await;
    }

    #[test]
    fn the_scans_of_one_company_leave_room_for_anothers() {
        let places = Arc::new(Places::new(64));
        let (large, small) = (CompanyId::new(), CompanyId::new());
        let scan = |company| Place::new(&places, &claim(JobKind::Scan, company, 0));
        let mut scans: Vec<Place> = (0..MAX_SCANS).map(|_| scan(large)).collect();
        assert!(places.may_scan(large));
        let refused = scan(large);
        assert!(!places.may_scan(large));
        drop(refused);
        scans.push(scan(small));
        assert!(places.may_scan(small));
        scans.push(scan(small));
        assert!(!places.may_scan(small), "the second finds no room");
        scans.truncate(MAX_SCANS);
        scans.extend((0..MAX_SCANS).map(|_| scan(CompanyId::new())));
        scans.push(scan(small));
        assert!(!places.may_scan(small), "there are as many again, and no more");
        assert_eq!(places.offer(), Offer::All, "uploads have places of their own");
    }
}
