//! One step alone, for those who measure it: the benches, and `make instructions`. Nobody else may use it.

use crate::buffers::Buffer;
use crate::engine::{Engine, Party};
use crate::read::{Source, Whole, read_whole_from_memory, read_whole_from_memory_by};
use crate::source::SourceRoot;
use bytes::Bytes;
use domain::object_key::PathText;
use domain::{ChecksumKind, CompanyId, Symlinks};
use rustix::fs::{Mode, OFlags, openat};
use std::fs::File;
use std::path::Path;
use storage::Checksum;

const MEMORY_BYTES: u64 = 1 << 20;

/// Reads small files as an upload does: in memory, or not at all.
pub struct Reader {
    source: Source,
    dir: File,
    party: Party,
}

impl Reader {
    /// For files below `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let root = SourceRoot::open(path).map_err(|error| error.source)?;
        Ok(Self {
            source: Source::new(root, "", Symlinks::Skip),
            dir: File::open(path)?,
            party: Engine::new(1, MEMORY_BYTES).party(CompanyId::new()),
        })
    }

    /// A file and its checksum; `None` where that takes a hop to a thread for blocking work.
    #[must_use]
    pub fn read(&self, path: &PathText, size_bytes: u64, kind: ChecksumKind) -> Option<(Bytes, Checksum)> {
        let buffer = self.buffer(size_bytes)?;
        bytes_of(read_whole_from_memory(&self.source, path, buffer, kind).ok()?)
    }

    /// The same, but opened without a fence: not every valgrind knows `openat2`.
    #[must_use]
    pub fn read_by_openat(
        &self,
        path: &PathText,
        size_bytes: u64,
        kind: ChecksumKind,
    ) -> Option<(Bytes, Checksum)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |_: &Source, path: &[u8]| {
            let opened = openat(&self.dir, path, flags, Mode::empty());
            opened.map(File::from).ok()
        };
        let buffer = self.buffer(size_bytes)?;
        bytes_of(read_whole_from_memory_by(open, &self.source, path, buffer, kind).ok()?)
    }

    fn buffer(&self, size_bytes: u64) -> Option<Buffer> {
        self.party.try_buffer(usize::try_from(size_bytes).ok()?)
    }
}

fn bytes_of(whole: Whole) -> Option<(Bytes, Checksum)> {
    match whole {
        Whole::Read { bytes, checksum, .. } => Some((bytes, checksum)),
        Whole::Larger(_) => None,
    }
}
