//! The engine: what bounds all uploads of a worker together.

use crate::buffers::{Buffer, Buffers, size_of_buffer};
use crate::call::{Call, Stopped};
use crate::fair::{Member, Permit, Shared};
use crate::plan::{Events, FatalError, PlannedFile, Stop, Summary, UploadPlan};
use crate::pump::Pump;
use domain::session_settings::MIN_PART_BYTES;
use domain::{CompanyId, SessionErrorCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use storage::{Admission, Bucket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Memory is counted in units of this many bytes.
const MEMORY_UNIT_BYTES: u64 = 4096;
/// One company alone leaves this fraction of the places and of the memory to others, where that is a place, and
/// memory for a part: who comes later begins at once, however slow the store of those before it is.
const RESERVE: u32 = 16;

/// The limits shared by all uploads of a worker: files and parts in flight, and the memory they are read into.
/// Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct Engine {
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    slots: Arc<Shared>,
    memory: Arc<Shared>,
    /// While calls last.
    buffers: Mutex<Weak<Buffers>>,
    /// The share of a session, by token prefix, while calls use it.
    shares: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Engine {
    /// At most `concurrency` files and parts in flight, with at most `memory_bytes` of their content in memory
    /// (but always at least one part, however large). Both are at least 1. A single company leaves a sixteenth of
    /// either to others, where that is a place, and memory for a part.
    #[must_use]
    pub fn new(concurrency: usize, memory_bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let concurrency = u32::try_from(concurrency).map_or(most, |concurrency| concurrency.clamp(1, most));
        let units = memory_units(memory_bytes).max(1);
        let reserved_units = match units / RESERVE {
            units if units < memory_units(MIN_PART_BYTES) => 0,
            units => units,
        };
        Self {
            limits: Arc::new(Limits {
                slots: Shared::new(concurrency, concurrency / RESERVE),
                memory: Shared::new(units, reserved_units),
                buffers: Mutex::default(),
                shares: Mutex::default(),
            }),
        }
    }

    /// How many more files or parts could be in flight at this moment.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.limits.slots.free()
    }

    /// How many bytes of the memory budget are in use at this moment.
    #[must_use]
    pub fn memory_in_use_bytes(&self) -> u64 {
        let units = self.limits.memory.total() as usize;
        units.saturating_sub(self.limits.memory.free()) as u64 * MEMORY_UNIT_BYTES
    }

    /// The most that one part, or one file in a single request, may take of the memory budget: a quarter, so that
    /// several are in flight whatever a session asks for, but never less than the store's smallest part.
    fn part_limit_bytes(&self) -> u64 {
        let memory_bytes = u64::from(self.limits.memory.total()) * MEMORY_UNIT_BYTES;
        (memory_bytes / 4).max(MIN_PART_BYTES)
    }

    /// Uploads `files`, in their order, and reports each as it ends. Parts are at most a quarter of the memory
    /// budget, whatever the settings say; only files of which 10,000 such parts do not suffice get larger ones.
    ///
    /// Dropping the returned future stops everything at once, as [`Stop::Abandon`] does.
    pub async fn upload<E: Events>(
        &self,
        mut plan: Arc<UploadPlan>,
        files: Vec<PlannedFile>,
        events: Arc<E>,
        stop: watch::Receiver<Stop>,
    ) -> Summary {
        if plan.settings.part_size_bytes > self.part_limit_bytes() {
            Arc::make_mut(&mut plan).settings.part_size_bytes = self.part_limit_bytes();
        }
        match Call::new(self.clone(), plan, events, stop).await {
            Ok(call) => Pump::new(Arc::new(call), files).run().await,
            Err(detail) => Summary {
                not_started: files.iter().map(|file| file.number).collect(),
                fatal: Some(FatalError {
                    code: SessionErrorCode::Internal,
                    detail,
                }),
                lost: false,
            },
        }
    }

    /// The limit of a session within this engine, if `concurrency` is one; shared by its calls.
    pub(crate) fn share_of(&self, token_prefix: &str, concurrency: Option<usize>) -> Option<Arc<Semaphore>> {
        concurrency
            .filter(|concurrency| *concurrency < self.limits.slots.total() as usize)
            .map(|concurrency| self.share(token_prefix, concurrency.max(1)))
    }

    /// A company as one of those that share this engine.
    pub(crate) fn party(&self, company: CompanyId) -> Party {
        Party {
            slots: self.limits.slots.member(company),
            memory: self.limits.memory.member(company),
            buffers: self.buffers(),
            limits: Arc::clone(&self.limits),
        }
    }

    fn buffers(&self) -> Arc<Buffers> {
        let mut known = self.limits.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        known.upgrade().unwrap_or_else(|| {
            let buffers = Arc::default();
            *known = Arc::downgrade(&buffers);
            buffers
        })
    }

    fn share(&self, token_prefix: &str, concurrency: usize) -> Arc<Semaphore> {
        let mut shares = self.limits.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(token_prefix).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Semaphore::new(concurrency));
        shares.insert(token_prefix.to_owned(), Arc::downgrade(&share));
        share
    }
}

fn memory_units(bytes: u64) -> u32 {
    let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
    u32::try_from(bytes.div_ceil(MEMORY_UNIT_BYTES)).map_or(most, |units| units.min(most))
}

fn units_of_buffer(len: usize) -> u32 {
    memory_units(size_of_buffer(len) as u64)
}

/// One company among those that share an engine.
pub(crate) struct Party {
    slots: Member,
    memory: Member,
    buffers: Arc<Buffers>,
    limits: Arc<Limits>,
}

impl Party {
    /// Waits for a place: first within the share of the session, then until its store takes one more, and only then
    /// for one of the worker's, so that a store that is busy holds up nobody who sends to another.
    pub(crate) async fn slot(
        &self,
        share: Option<&Arc<Semaphore>>,
        bucket: &Bucket,
    ) -> Result<Slot, Stopped> {
        let share = match share {
            Some(share) => Some(Arc::clone(share).acquire_owned().await?),
            None => None,
        };
        Ok(Slot {
            _share: share,
            _admission: bucket.admit().await,
            _place: self.slots.take(1).await?,
        })
    }

    /// Takes a buffer if there is memory for it now.
    pub(crate) fn try_buffer(&self, len: usize) -> Option<Buffer> {
        let permit = self.memory.try_take(units_of_buffer(len))?;
        Some(self.taken(len, permit))
    }

    /// Waits for memory for a buffer. Whoever holds one needs nothing else of this engine to end, so
    /// that waiting with a slot in hand cannot lock up.
    pub(crate) async fn buffer(&self, len: usize) -> Result<Buffer, Stopped> {
        let permit = self.memory.take(units_of_buffer(len)).await?;
        Ok(self.taken(len, permit))
    }

    fn taken(&self, len: usize, permit: Permit) -> Buffer {
        let free_bytes = self.limits.memory.free() as u64 * MEMORY_UNIT_BYTES;
        self.buffers.buffer(len, permit, free_bytes)
    }
}

/// A place for one file or part in flight; given back when dropped.
pub(crate) struct Slot {
    _share: Option<OwnedSemaphorePermit>,
    _admission: Admission,
    _place: Permit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_whole_units() {
        assert_eq!(memory_units(0), 0);
        assert_eq!(memory_units(1), 1);
        assert_eq!(memory_units(4096), 1);
        assert_eq!(memory_units(4097), 2);
        assert_eq!(
            memory_units(u64::MAX) as usize,
            Semaphore::MAX_PERMITS.min(u32::MAX as usize)
        );
    }

    #[test]
    fn a_part_takes_a_quarter_of_the_memory_or_is_the_smallest() {
        let limit = |memory_bytes| Engine::new(1, memory_bytes).part_limit_bytes();
        assert_eq!(limit(256 << 20), 64 << 20);
        assert_eq!(limit(1), MIN_PART_BYTES);
    }

    #[test]
    fn what_is_in_use_and_what_is_idle_keep_to_the_budget() {
        const MIB: usize = 1 << 20;
        let engine = Engine::new(8, 32 << 20);
        let party = engine.party(CompanyId::new());
        let taken = || engine.memory_in_use_bytes() as usize + party.buffers.idle_bytes();
        drop([(); 3].map(|()| party.try_buffer(8 * MIB).unwrap()));
        assert_eq!((taken(), party.buffers.idle_bytes()), (24 * MIB, 24 * MIB));
        let other = party.try_buffer(16 * MIB).unwrap();
        assert_eq!((taken(), party.buffers.idle_bytes()), (32 * MIB, 16 * MIB));
        let _small = party.try_buffer(1000).unwrap();
        assert!(taken() <= 32 * MIB, "{}", taken());
        drop(other);
        drop(party);
        let again = engine.party(CompanyId::new());
        assert_eq!(
            again.buffers.idle_bytes(),
            0,
            "nothing is kept while nothing is sent"
        );
    }

    #[test]
    fn calls_of_a_session_share_one_limit_while_they_last() {
        let engine = Engine::new(8, 1 << 20);
        let one = engine.share("session", 2);
        assert!(Arc::ptr_eq(&one, &engine.share("session", 2)));
        assert!(!Arc::ptr_eq(&one, &engine.share("other", 2)));
        drop(one);
        assert_eq!(engine.share("session", 3).available_permits(), 3);
    }
}
