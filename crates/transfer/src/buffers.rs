//! Memory that the content of files is read into, within the memory budget. While uploads last it is given out again:
//! memory from the system is cleared page by page, which costs about as much as reading into it.

use crate::fair::Permit;
use bytes::Bytes;
use memmap2::MmapMut;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Smaller buffers come from the allocator, which keeps them by itself.
const LEAST_LENT_BYTES: usize = 64 << 10;
/// Buffers come in so many sizes from one power of two to the next: few, so that one fits files of many sizes.
const SIZES_PER_DOUBLING: usize = 8;

/// What a buffer for `bytes` takes: at most an eighth more.
pub(crate) fn size_of_buffer(bytes: usize) -> usize {
    if bytes < LEAST_LENT_BYTES {
        return bytes;
    }
    let step = (1 << bytes.ilog2()) / SIZES_PER_DOUBLING;
    bytes.checked_next_multiple_of(step).unwrap_or(bytes)
}

/// The buffers that nobody uses at this moment.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one used last comes last: the processor's cache may still have it.
    maps: VecDeque<MmapMut>,
    /// Of all of them.
    bytes: u64,
}

/// Memory with anything in it, of its holder alone; given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Memory,
    len: usize,
    /// Its piece of the memory budget.
    _permit: Permit,
}

#[derive(Debug)]
enum Memory {
    Own(Vec<u8>),
    Lent(Lent),
}

#[derive(Debug)]
struct Lent {
    map: Option<MmapMut>,
    home: Weak<Buffers>,
}

impl Buffers {
    /// A buffer of `len` bytes. What is idle then is no more than `free_bytes`; what was not used for the longest time goes
    /// back to the system first.
    pub(crate) fn buffer(self: &Arc<Self>, len: usize, permit: Permit, free_bytes: u64) -> Buffer {
        let (fitting, surplus) = self.idle().take(len, free_bytes);
        drop(surplus);
        let lent = |map| {
            Memory::Lent(Lent {
                map: Some(map),
                home: Arc::downgrade(self),
            })
        };
        let memory = if len < LEAST_LENT_BYTES {
            Memory::Own(vec![0; len])
        } else {
            let map = fitting.map_or_else(|| MmapMut::map_anon(size_of_buffer(len)), Ok);
            map.map_or_else(|_no_more_maps| Memory::Own(vec![0; len]), lent)
        };
        Buffer {
            memory,
            len,
            _permit: permit,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn add(&mut self, map: MmapMut) {
        self.bytes += map.len() as u64;
        self.maps.push_back(map);
    }

    /// One for a buffer of `len` bytes, and what is too much then.
    fn take(&mut self, len: usize, free_bytes: u64) -> (Option<MmapMut>, Vec<MmapMut>) {
        let fitting = if len < LEAST_LENT_BYTES {
            None
        } else {
            let size = size_of_buffer(len);
            self.maps.iter().rposition(|map| map.len() == size)
        };
        let fitting = fitting.and_then(|index| self.maps.remove(index));
        self.bytes -= fitting.as_ref().map_or(0, |map| map.len() as u64);
        let mut surplus = Vec::new();
        while self.bytes > free_bytes
            && let Some(oldest) = self.maps.pop_front()
        {
            self.bytes -= oldest.len() as u64;
            surplus.push(oldest);
        }
        (fitting, surplus)
    }
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Room for so many bytes; `None`: it is smaller.
    pub(crate) fn room(&mut self, bytes: u64) -> Option<&mut [u8]> {
        let whole = match &mut self.memory {
            Memory::Own(bytes) => bytes.as_mut_slice(),
            Memory::Lent(lent) => lent.map.as_deref_mut()?,
        };
        whole.get_mut(..usize::try_from(bytes).ok().filter(|len| *len <= self.len)?)
    }

    /// Its first `bytes` as they are now, shared by all who hold a piece of them.
    pub(crate) fn freeze(mut self, bytes: u64) -> Bytes {
        self.len = usize::try_from(bytes).map_or(self.len, |len| len.min(self.len));
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        let whole = match &self.memory {
            Memory::Own(bytes) => bytes.as_slice(),
            Memory::Lent(lent) => lent.map.as_deref().unwrap_or_default(),
        };
        whole.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(map), Some(home)) = (self.map.take(), self.home.upgrade()) {
            home.idle().add(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::Shared;
    use domain::CompanyId;

    const MIB: usize = 1 << 20;

    impl Buffers {
        pub(crate) fn idle_bytes(&self) -> usize {
            let idle = self.idle();
            let bytes = idle.maps.iter().map(|map| map.len()).sum();
            assert_eq!(bytes as u64, idle.bytes);
            bytes
        }
    }

    fn permit() -> Permit {
        Shared::new(1, 0).member(CompanyId::new()).try_take(1).unwrap()
    }

    #[test]
    fn a_buffer_takes_an_eighth_more_than_asked_for_at_most() {
        let of = size_of_buffer;
        assert_eq!(
            [of(0), of(1), of(LEAST_LENT_BYTES - 1)],
            [0, 1, LEAST_LENT_BYTES - 1]
        );
        assert_eq!([of(8 * MIB), of(8 * MIB + 1)], [8 * MIB, 9 * MIB]);
        for bytes in (LEAST_LENT_BYTES..LEAST_LENT_BYTES * 40).step_by(4999) {
            let taken = of(bytes);
            assert!(bytes <= taken && taken <= bytes + bytes / 8, "{bytes}: {taken}");
            assert_eq!(of(taken), taken);
        }
    }

    #[test]
    fn what_was_given_back_is_given_out_again() {
        let buffers = Arc::new(Buffers::default());
        let of = |len| buffers.buffer(len, permit(), u64::MAX);
        let mut buffer = of(8 * MIB);
        assert!(buffer.room((8 << 20) + 1).is_none());
        buffer.room(8).unwrap()[7] = 7;
        let address = buffer.as_ref().as_ptr();
        let bytes = buffer.freeze((8 << 20) - 5);
        assert_eq!((bytes.len(), bytes[7]), (8 * MIB - 5, 7));
        let piece = bytes.slice(7..8);
        drop(bytes);
        assert_eq!(buffers.idle_bytes(), 0, "a piece of it is still in use");
        drop(piece);
        assert_eq!(buffers.idle_bytes(), 8 * MIB);
        let smaller = of(8 * MIB - 1);
        assert_eq!(
            (smaller.as_ref().as_ptr(), smaller.as_ref().len()),
            (address, 8 * MIB - 1)
        );
        drop(smaller);
        let other = of(MIB);
        let small = of(1000);
        assert_eq!((other.as_ref().len(), small.as_ref().len()), (MIB, 1000));
        assert_eq!(buffers.idle_bytes(), 8 * MIB);
        drop((other, small));
        assert_eq!(buffers.idle_bytes(), 9 * MIB);
    }

    #[test]
    fn no_more_is_idle_than_is_free_and_nothing_when_no_upload_is_left() {
        let buffers = Arc::new(Buffers::default());
        drop([MIB, 2 * MIB, 4 * MIB].map(|len| buffers.buffer(len, permit(), u64::MAX)));
        assert_eq!(buffers.idle_bytes(), 7 * MIB);
        // The one that is given out is not idle.
        let late = buffers.buffer(4 * MIB, permit(), 3 << 20);
        assert_eq!(buffers.idle_bytes(), 3 * MIB);
        drop(buffers.buffer(0, permit(), (3 << 20) - 1));
        assert_eq!(buffers.idle_bytes(), 2 * MIB, "the oldest goes");
        drop(buffers);
        assert_eq!(late.as_ref().len(), 4 * MIB, "whoever has one keeps it");
    }
}
