//! Reading files, on threads for blocking work: opened beneath the root, looked at before and after, hashed in
//! the same hop. What is handed out is one version of the file or nothing.

use crate::failure::Failure;
use crate::source::{SourceRoot, base_of, is_escape, join, open_file_without_links};
use bytes::Bytes;
use domain::object_key::PathText;
use domain::{ChecksumKind, FileErrorCode, SessionErrorCode, Symlinks};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use std::fs::{File, Metadata};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use storage::{Checksum, Hasher};

/// Timestamps of files move in ticks. Two changes within one tick look like one, so a file that was changed
/// this recently is not yet taken; the longest tick in use is 10 ms.
const SETTLING: Duration = Duration::from_millis(20);
/// Larger files are not read without a hop: copying and hashing them would hold up others.
const IN_MEMORY_BYTES: u64 = 64 << 10;
/// How much is read at once where bytes are only hashed.
const HASH_BUFFER_BYTES: usize = 1 << 20;

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
        let file = open(self, &join(&self.base, &path))?;
        let found = file.metadata().ok().filter(Metadata::is_file)?;
        let stamp = Stamp::of(&found);
        (!stamp.is_settling()).then_some(Opened { file, stamp })
    }

    /// Opens the file at `path`.
    pub(crate) fn open(&self, path: &PathText) -> Result<Opened, Unread> {
        let path = path.to_bytes();
        let failed = |error: io::Error| self.failed(&path, &error);
        let file = self.open_path(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            let detail = "it is no regular file any more";
            return Err(Unread::Failed(Failure::new(FileErrorCode::SpecialFile, detail)));
        }
        let stamp = Stamp::of(&found);
        if stamp.is_settling() {
            return Err(Unread::Changed);
        }
        Ok(Opened { file, stamp })
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

/// Why there are no bytes.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The file is changing; it may have come to rest a moment later.
    Changed,
    /// It cannot be read.
    Failed(Failure),
}

/// What tells one version of an open file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size_bytes: u64,
    pub(crate) modified_at_ns: i64,
    changed_at_ns: i64,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let unix_ns = |seconds: i64, nanoseconds: i64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Self {
            size_bytes: found.len(),
            modified_at_ns: unix_ns(found.mtime(), found.mtime_nsec()),
            changed_at_ns: unix_ns(found.ctime(), found.ctime_nsec()),
        }
    }

    fn is_settling(&self) -> bool {
        let changed_at =
            UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.changed_at_ns).unwrap_or_default());
        SystemTime::now()
            .duration_since(changed_at)
            .is_ok_and(|age| age < SETTLING)
    }
}

/// A regular file, opened, as it was at that moment.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    pub(crate) stamp: Stamp,
}

impl Opened {
    /// The `size_bytes` bytes from `offset`, and their checksum.
    pub(crate) fn read(
        &self,
        offset: u64,
        size_bytes: u64,
        kind: ChecksumKind,
    ) -> Result<(Bytes, Checksum), Unread> {
        let size = usize::try_from(size_bytes).map_err(|_| {
            Unread::Failed(Failure::new(
                FileErrorCode::ReadError,
                "it does not fit into memory",
            ))
        })?;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let position = offset + bytes.len() as u64;
            let read = retry_on_intr(|| rustix::io::pread(&self.file, spare_capacity(&mut bytes), position));
            if read.map_err(|error| unread("reading it", &error.into()))? == 0 {
                return Err(Unread::Changed);
            }
        }
        // An allocator may have given more room than asked for, and the file may have grown into it.
        bytes.truncate(size);
        let checksum = Hasher::of(kind, &bytes);
        self.check_unchanged()?;
        Ok((Bytes::from(bytes), checksum))
    }

    /// All of it, and its checksum, as far as that can be done without waiting for a disk.
    fn read_from_memory(&self, kind: ChecksumKind) -> Option<(Bytes, Checksum)> {
        let mut bytes = vec![0; usize::try_from(self.stamp.size_bytes).ok()?];
        if !bytes.is_empty() {
            let room = &mut [IoSliceMut::new(&mut bytes)];
            let read = rustix::io::preadv2(&self.file, room, 0, ReadWriteFlags::NOWAIT).ok()?;
            if read < bytes.len() {
                return None;
            }
        }
        let checksum = Hasher::of(kind, &bytes);
        self.check_unchanged().ok()?;
        Some((Bytes::from(bytes), checksum))
    }

    /// The checksums and sizes of the parts that the file falls into, without keeping it in memory.
    pub(crate) fn hash_parts(
        &self,
        part_size_bytes: u64,
        kind: ChecksumKind,
    ) -> Result<Vec<(Checksum, u64)>, Unread> {
        let mut parts = Vec::new();
        let mut begin = 0;
        loop {
            let end = self.stamp.size_bytes.min(begin + part_size_bytes);
            let mut hasher = Hasher::new(kind);
            self.hash_into(&mut hasher, begin, end)?;
            parts.push((hasher.finish(), end - begin));
            if end == self.stamp.size_bytes {
                return Ok(parts);
            }
            begin = end;
        }
    }

    /// Gives the bytes from `begin` to `end` to a hasher.
    pub(crate) fn hash_into(&self, hasher: &mut Hasher, begin: u64, end: u64) -> Result<(), Unread> {
        self.pieces(begin, end, |bytes| hasher.update(bytes))
    }

    /// Hands out the bytes from `begin` to `end`, piece by piece.
    pub(crate) fn pieces(&self, begin: u64, end: u64, mut take: impl FnMut(&[u8])) -> Result<(), Unread> {
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        let mut offset = begin;
        while offset < end {
            let wanted =
                usize::try_from(end - offset).map_or(HASH_BUFFER_BYTES, |n| n.min(HASH_BUFFER_BYTES));
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            let read = retry_on_intr(|| rustix::io::pread(&self.file, &mut *room, offset))
                .map_err(|error| unread("reading it", &error.into()))?;
            if read == 0 {
                return Err(Unread::Changed);
            }
            take(room.get(..read).unwrap_or_default());
            offset += read as u64;
        }
        self.check_unchanged()
    }

    fn check_unchanged(&self) -> Result<(), Unread> {
        match self.file.metadata() {
            Ok(found) if Stamp::of(&found) == self.stamp => Ok(()),
            Ok(_) => Err(Unread::Changed),
            Err(error) => Err(unread("looking at it", &error)),
        }
    }
}

/// What became of an open file that could not be read to its end.
fn unread(doing: &str, error: &io::Error) -> Unread {
    // On a network share: another client removed it, or put another in its place, which may be opened.
    if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) {
        return Unread::Changed;
    }
    Unread::Failed(Failure::new(io_code(error, true), format!("{doing}: {error}")))
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
/// hop to a thread for blocking work costs more than all the rest. `None`: hop.
pub(crate) fn read_whole_from_memory(
    source: &Source,
    path: &PathText,
    size_bytes: u64,
    kind: ChecksumKind,
) -> Option<Whole> {
    let open = |source: &Source, path: &[u8]| source.root.open_file_in_memory(path, source.follow);
    read_whole_from_memory_by(open, source, path, size_bytes, kind)
}

/// The same with another way to open it.
pub(crate) fn read_whole_from_memory_by(
    open: impl FnOnce(&Source, &[u8]) -> Option<File>,
    source: &Source,
    path: &PathText,
    size_bytes: u64,
    kind: ChecksumKind,
) -> Option<Whole> {
    if size_bytes > IN_MEMORY_BYTES {
        return None;
    }
    let opened = source.open_in_memory(path, open)?;
    if opened.stamp.size_bytes > size_bytes {
        return None;
    }
    let (bytes, checksum) = opened.read_from_memory(kind)?;
    Some(Whole::Read {
        bytes,
        checksum,
        stamp: opened.stamp,
    })
}

/// Opens and reads a file of at most `limit_bytes`: the one blocking hop of a small file.
pub(crate) fn read_whole(
    source: &Source,
    path: &PathText,
    limit_bytes: u64,
    kind: ChecksumKind,
) -> Result<Whole, Unread> {
    let opened = source.open(path)?;
    let stamp = opened.stamp;
    if stamp.size_bytes > limit_bytes {
        return Ok(Whole::Larger(stamp.size_bytes));
    }
    let (bytes, checksum) = opened.read(0, stamp.size_bytes, kind)?;
    Ok(Whole::Read {
        bytes,
        checksum,
        stamp,
    })
}

/// What people are told about an error of the file system; `follow` tells whether links were followed.
pub(crate) fn io_code(error: &io::Error, follow: bool) -> FileErrorCode {
    if is_escape(error) {
        return FileErrorCode::SymlinkRefused;
    }
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::STALE) => FileErrorCode::FileVanished,
        Some(Errno::ACCESS | Errno::PERM) => FileErrorCode::PermissionDenied,
        Some(Errno::LOOP) if follow => FileErrorCode::SymlinkRefused,
        Some(Errno::LOOP) => FileErrorCode::SymlinkNotFollowed,
        Some(Errno::NAMETOOLONG) => FileErrorCode::NameNotSupported,
        // Opening a socket, or a device without a driver.
        Some(Errno::NXIO | Errno::NODEV) => FileErrorCode::SpecialFile,
        _ => FileErrorCode::ReadError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use std::path::Path;
    use tempfile::{TempDir, tempdir};

    /// A file that has come to rest, opened.
    fn opened(content: &[u8]) -> (TempDir, Opened) {
        let folder = tempdir().unwrap();
        std::fs::write(folder.path().join("file"), content).unwrap();
        let source = Source::new(SourceRoot::open(folder.path()).unwrap(), "", Symlinks::Skip);
        loop {
            match source.open(&PathText::from_bytes(b"file")) {
                Ok(opened) => return (folder, opened),
                Err(Unread::Changed) => std::thread::yield_now(),
                Err(Unread::Failed(failure)) => panic!("{failure:?}"),
            }
        }
    }

    #[test]
    fn a_range_comes_with_its_checksum() {
        let (_folder, opened) = opened(b"0123456789");
        let (bytes, checksum) = opened.read(3, 4, ChecksumKind::Crc32c).unwrap();
        assert_eq!(&bytes[..], b"3456");
        assert_eq!(checksum, Hasher::of(ChecksumKind::Crc32c, b"3456"));
    }

    #[test]
    fn what_is_in_memory_is_read_alike_without_a_hop() {
        let (folder, file) = opened(b"0123456789");
        let source = Source::new(SourceRoot::open(folder.path()).unwrap(), "", Symlinks::Skip);
        let (kind, path) = (ChecksumKind::Sha256, PathText::from_bytes(b"file"));
        let read = |limit| read_whole_from_memory(&source, &path, limit, kind);
        let mut ten = [0; 10];
        let room = &mut [IoSliceMut::new(&mut ten)];
        // Some file systems cannot tell what is in memory.
        if source.root.is_local && rustix::io::preadv2(&file.file, room, 0, ReadWriteFlags::NOWAIT).is_ok() {
            let Some(Whole::Read {
                bytes,
                checksum,
                stamp,
            }) = read(10)
            else {
                panic!("it was just written");
            };
            assert_eq!(&bytes[..], b"0123456789");
            assert_eq!((checksum, stamp), (Hasher::of(kind, b"0123456789"), file.stamp));
        }
        assert!(read(9).is_none(), "it is larger");
        std::os::unix::fs::symlink("file", folder.path().join("link")).unwrap();
        let through_link = PathText::from_bytes(b"link");
        assert!(read_whole_from_memory(&source, &through_link, 10, kind).is_none());
        std::fs::write(folder.path().join("file"), "9876543210").unwrap();
        assert!(read(10).is_none(), "it may be changing");
        assert!(file.read_from_memory(kind).is_none(), "it has changed");
    }

    #[test]
    fn parts_are_hashed_like_they_are_read() {
        let content: Vec<u8> = (0..3_000_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let (_folder, opened) = opened(&content);
        let kind = ChecksumKind::Crc64nvme;
        let expected: Vec<_> = content
            .chunks(1_300_000)
            .map(|part| (Hasher::of(kind, part), part.len() as u64))
            .collect();
        assert_eq!(opened.hash_parts(1_300_000, kind).unwrap(), expected);
        assert_eq!(opened.hash_parts(3_000_000, kind).unwrap().len(), 1);
    }

    #[test]
    fn no_change_during_the_read_goes_unnoticed() {
        type Change = fn(&Path);
        fn write(path: &Path) -> File {
            File::options().write(true).open(path).unwrap()
        }
        fn put_time_back(path: &Path, before: SystemTime) {
            write(path).set_modified(before).unwrap();
        }
        let changes: [Change; 8] = [
            |path| write(path).write_all_at(b"x", 10).unwrap(),
            |path| write(path).set_len(5).unwrap(),
            |path| write(path).write_all_at(b"9876543210", 0).unwrap(),
            // As many bytes, and the time put back: the change time tells.
            |path| {
                let before = path.metadata().unwrap().modified().unwrap();
                write(path).write_all_at(b"9876543210", 0).unwrap();
                put_time_back(path, before);
            },
            |path| {
                let before = path.metadata().unwrap().modified().unwrap();
                write(path).set_len(0).unwrap();
                write(path).write_all_at(b"0123456789", 0).unwrap();
                put_time_back(path, before);
            },
            // The file that is open stays whole; but another has its name.
            |path| {
                std::fs::write(path.with_extension("new"), "9876543210").unwrap();
                std::fs::rename(path.with_extension("new"), path).unwrap();
            },
            |path| std::fs::remove_file(path).unwrap(),
            |path| std::fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (folder, opened) = opened(b"0123456789");
            change(&folder.path().join("file"));
            let read = opened.read(0, 10, ChecksumKind::Crc64nvme);
            assert!(matches!(read, Err(Unread::Changed)), "{number}: {read:?}");
            let hashed = opened.hash_parts(4, ChecksumKind::Crc64nvme);
            assert!(matches!(hashed, Err(Unread::Changed)), "{number}: {hashed:?}");
        }
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

    #[test]
    fn a_file_that_was_changed_just_now_is_not_taken() {
        let stamp = |age: Duration| Stamp {
            size_bytes: 0,
            modified_at_ns: 0,
            changed_at_ns: (SystemTime::now() - age)
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_nanos() as i64,
        };
        assert!(stamp(Duration::ZERO).is_settling());
        assert!(!stamp(SETTLING * 2).is_settling());
        // A clock that is ahead says nothing.
        let ahead = Stamp {
            changed_at_ns: i64::MAX,
            ..stamp(Duration::ZERO)
        };
        assert!(!ahead.is_settling());
    }

    #[test]
    fn errors_of_the_file_system_have_their_codes() {
        let code = |errno: Errno, follow| io_code(&io::Error::from(errno), follow);
        assert_eq!(code(Errno::NOENT, false), FileErrorCode::FileVanished);
        assert_eq!(code(Errno::ACCESS, false), FileErrorCode::PermissionDenied);
        assert_eq!(code(Errno::IO, false), FileErrorCode::ReadError);
        assert_eq!(code(Errno::LOOP, false), FileErrorCode::SymlinkNotFollowed);
        assert_eq!(code(Errno::LOOP, true), FileErrorCode::SymlinkRefused);
        let escape = io::Error::new(io::ErrorKind::PermissionDenied, "a path led outside");
        assert_eq!(io_code(&escape, true), FileErrorCode::SymlinkRefused);
    }
}
