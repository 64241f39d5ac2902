//! Reading files, on threads for blocking work: opened beneath the root, looked at before and after, hashed in
//! the same hop. What is handed out is one version of the file or nothing.

use crate::buffers::Buffer;
use crate::failure::Failure;
use crate::opened::{Opened, Stamp, Unread, io_code};
use crate::source::{SourceRoot, base_of, is_escape, join, open_file_without_links};
use bytes::Bytes;
use domain::object_key::PathText;
use domain::{ChecksumKind, FileErrorCode, SessionErrorCode, Symlinks};
use std::fs::File;
use std::io;
use storage::Checksum;

/// Larger files are not read without a hop: copying and hashing them would hold up others.
const IN_MEMORY_BYTES: usize = 64 << 10;

/// Where the files of a call are.
pub(crate) struct Source {
    root: SourceRoot,
    base: Vec<u8>,
    /// The source is a file.
    is_single_file: bool,
    follow: bool,
}

impl Source {
    /// Looks at the source once. One that is gone is found out with the first file that cannot be opened.
    pub(crate) fn new(root: SourceRoot, source_path: &str, symlinks: Symlinks) -> Self {
        let base = base_of(source_path).to_vec();
        let is_single_file = root.metadata(&base).is_ok_and(|found| found.is_file());
        Self {
            root,
            base,
            is_single_file,
            follow: is_single_file || symlinks == Symlinks::FollowInside,
        }
    }

    /// As [`Source::open`], if `open` can do that without waiting.
    fn open_in_memory(
        &self,
        path: &PathText,
        open: impl FnOnce(&Self, &[u8]) -> Option<File>,
    ) -> Option<Opened> {
        let path = path.to_bytes();
        if self.is_itself(&path) {
            return None;
        }
        Opened::new(open(self, &join(&self.base, &path))?).ok()
    }

    /// Opens the file at `path`.
    pub(crate) fn open(&self, path: &PathText) -> Result<Opened, Unread> {
        let path = path.to_bytes();
        let file = self
            .open_path(&path)
            .map_err(|error| self.failed(&path, &error))?;
        Opened::new(file)
    }

    /// Always by its path from the root, so that a directory that was put in the place of another is read.
    fn open_path(&self, path: &[u8]) -> io::Result<File> {
        if self.is_itself(path) {
            return self.root.open_file(&self.base);
        }
        if self.follow {
            return self.root.open_file(&join(&self.base, path));
        }
        // Links may lie on the way to the source, and nowhere below it.
        open_file_without_links(self.root.open_folder(&self.base)?, path)
    }

    /// Whether `path` is the source, which is a file. (A directory may have become one: its files are gone then.)
    fn is_itself(&self, path: &[u8]) -> bool {
        self.is_single_file && self.base.rsplit(|byte| *byte == b'/').next() == Some(path)
    }

    /// What a file that cannot be opened fails for: itself, or all of them.
    fn failed(&self, path: &[u8], error: &io::Error) -> Unread {
        let lost = if self.is_itself(path) {
            None
        } else {
            self.root.why_lost(&self.base)
        };
        if let Some(cause) = lost {
            let detail = format!("the source directory cannot be read any more: {cause}");
            return Unread::Failed(Failure {
                fatal: Some(SessionErrorCode::SourceUnreadable),
                ..Failure::new(FileErrorCode::FileVanished, detail)
            });
        }
        let detail = if is_escape(error) {
            "it leads out of the source root".to_owned()
        } else {
            format!("opening it: {error}")
        };
        Unread::Failed(Failure::new(io_code(error, self.follow), detail))
    }
}

/// A whole small file.
pub(crate) enum Whole {
    Read {
        bytes: Bytes,
        checksum: Checksum,
        stamp: Stamp,
    },
    /// It is larger than allowed: this many bytes.
    Larger(u64),
}

/// As [`read_whole`], of a very small file that is in memory with its name: where no disk and no server need be asked, a
/// hop to a thread for blocking work costs more than all the rest. The buffer comes back where it takes that hop.
pub(crate) fn read_whole_from_memory(
    source: &Source,
    path: &PathText,
    buffer: Buffer,
    kind: ChecksumKind,
) -> Result<Whole, Buffer> {
    let open = |source: &Source, path: &[u8]| source.root.open_file_in_memory(path, source.follow);
    read_whole_from_memory_by(open, source, path, buffer, kind)
}

/// The same with another way to open it.
pub(crate) fn read_whole_from_memory_by(
    open: impl FnOnce(&Source, &[u8]) -> Option<File>,
    source: &Source,
    path: &PathText,
    mut buffer: Buffer,
    kind: ChecksumKind,
) -> Result<Whole, Buffer> {
    if buffer.len() > IN_MEMORY_BYTES {
        return Err(buffer);
    }
    let Some(opened) = source.open_in_memory(path, open) else {
        return Err(buffer);
    };
    let room = buffer.room(opened.stamp.size_bytes);
    match room.and_then(|room| opened.read_from_memory(room, kind)) {
        Some(checksum) => Ok(whole(&opened, buffer, checksum)),
        None => Err(buffer),
    }
}

/// Opens and reads a file that fits into the buffer: the one blocking hop of a small file.
pub(crate) fn read_whole(
    source: &Source,
    path: &PathText,
    mut buffer: Buffer,
    kind: ChecksumKind,
) -> Result<Whole, Unread> {
    let opened = source.open(path)?;
    let Some(room) = buffer.room(opened.stamp.size_bytes) else {
        return Ok(Whole::Larger(opened.stamp.size_bytes));
    };
    let checksum = opened.read(0, room, kind)?;
    Ok(whole(&opened, buffer, checksum))
}

fn whole(opened: &Opened, buffer: Buffer, checksum: Checksum) -> Whole {
    let stamp = opened.stamp;
    Whole::Read {
        bytes: buffer.freeze(stamp.size_bytes),
        checksum,
        stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::opened::SETTLING;
    use crate::opened::tests::opened;
    use domain::CompanyId;
    use std::time::Instant;
    use storage::Hasher;
    use tempfile::tempdir;

    #[test]
    fn what_is_in_memory_is_read_alike_without_a_hop() {
        let (folder, file) = opened(b"0123456789");
        let source = Source::new(SourceRoot::open(folder.path()).unwrap(), "", Symlinks::Skip);
        let (kind, path) = (ChecksumKind::Sha256, PathText::from_bytes(b"file"));
        let party = Engine::new(1, 1 << 20).party(CompanyId::new());
        let read = |path, len| {
            let buffer = party.try_buffer(len).unwrap();
            read_whole_from_memory(&source, path, buffer, kind)
        };
        // Some file systems cannot tell what is in memory.
        if source.root.is_local && file.read_from_memory(&mut [0; 10], kind).is_some() {
            let Ok(Whole::Read {
                bytes,
                checksum,
                stamp,
            }) = read(&path, 11)
            else {
                panic!("it was just written");
            };
            assert_eq!(&bytes[..], b"0123456789");
            assert_eq!((checksum, stamp), (Hasher::of(kind, b"0123456789"), file.stamp));
        }
        let back = read(&path, 9).map(|_| "it is larger").unwrap_err();
        assert_eq!(back.len(), 9);
        std::os::unix::fs::symlink("file", folder.path().join("link")).unwrap();
        let through_link = PathText::from_bytes(b"link");
        assert!(read(&through_link, 10).is_err());
        loop {
            let begin = Instant::now();
            std::fs::write(folder.path().join("file"), "9876543210").unwrap();
            let is_taken = read(&path, 10).is_ok();
            // Unless this thread stood still meanwhile.
            if begin.elapsed() < SETTLING {
                assert!(!is_taken, "it may be changing");
                break;
            }
        }
        assert!(
            file.read_from_memory(&mut [0; 10], kind).is_none(),
            "it has changed"
        );
    }

    #[test]
    fn a_folder_that_became_a_file_is_not_read_as_all_that_was_in_it() {
        let folder = tempdir().unwrap();
        std::fs::write(folder.path().join("source"), "0123456789").unwrap();
        let root = SourceRoot::open(folder.path()).unwrap();
        let source = Source::new(root, "source", Symlinks::Skip);
        let Err(Unread::Failed(failure)) = source.open(&PathText::from_bytes(b"file")) else {
            panic!("it was opened, or is taken to change");
        };
        assert_eq!(
            failure.fatal,
            Some(SessionErrorCode::SourceUnreadable),
            "{failure:?}"
        );
    }
}
