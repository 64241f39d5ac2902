//! An open file: one version of it, read and hashed in one go, or nothing.

use crate::failure::Failure;
use crate::source::is_escape;
use domain::{ChecksumKind, FileErrorCode};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use std::fs::{File, Metadata};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use storage::{Checksum, Hasher};

/// Timestamps of files move in ticks. Two changes within one tick look like one, so a file that was changed
/// this recently is not yet taken; the longest tick in use is 10 ms.
pub(crate) const SETTLING: Duration = Duration::from_millis(20);
/// How much is read at once: what was read is hashed while the processor's cache still has it.
const PIECE_BYTES: usize = 256 << 10;

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

    fn is_settling(&self, now: SystemTime) -> bool {
        let changed_at =
            UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.changed_at_ns).unwrap_or_default());
        now.duration_since(changed_at).is_ok_and(|age| age < SETTLING)
    }
}

/// A regular file, opened, as it was at that moment.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    pub(crate) stamp: Stamp,
}

impl Opened {
    /// A file that has just been opened, if it is one that can be read as a whole.
    pub(crate) fn new(file: File) -> Result<Self, Unread> {
        let found = file.metadata().map_err(|error| unread("looking at it", &error))?;
        if !found.is_file() {
            let detail = "it is no regular file any more";
            return Err(Unread::Failed(Failure::new(FileErrorCode::SpecialFile, detail)));
        }
        let stamp = Stamp::of(&found);
        if stamp.is_settling(SystemTime::now()) {
            return Err(Unread::Changed);
        }
        Ok(Self { file, stamp })
    }

    /// Fills `room` with the bytes from `offset` on, and tells their checksum.
    pub(crate) fn read(&self, offset: u64, room: &mut [u8], kind: ChecksumKind) -> Result<Checksum, Unread> {
        let mut hasher = Hasher::new(kind);
        let mut position = offset;
        for piece in room.chunks_mut(PIECE_BYTES) {
            let mut filled = 0;
            while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                let read = retry_on_intr(|| rustix::io::pread(&self.file, &mut *rest, position));
                match read.map_err(|error| unread("reading it", &error.into()))? {
                    0 => return Err(Unread::Changed),
                    read => {
                        filled += read;
                        position += read as u64;
                    }
                }
            }
            hasher.update(piece);
        }
        self.check_unchanged()?;
        Ok(hasher.finish())
    }

    /// As [`Opened::read`] of all of it, as far as that can be done without waiting for a disk.
    pub(crate) fn read_from_memory(&self, room: &mut [u8], kind: ChecksumKind) -> Option<Checksum> {
        if !room.is_empty() {
            let rooms = &mut [IoSliceMut::new(room)];
            let read = rustix::io::preadv2(&self.file, rooms, 0, ReadWriteFlags::NOWAIT).ok()?;
            if read < room.len() {
                return None;
            }
        }
        let checksum = Hasher::of(kind, room);
        self.check_unchanged().ok()?;
        Some(checksum)
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
        let mut buffer = vec![0; PIECE_BYTES];
        let mut offset = begin;
        while offset < end {
            let wanted = usize::try_from(end - offset).map_or(PIECE_BYTES, |n| n.min(PIECE_BYTES));
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
pub(crate) mod tests {
    use super::*;
    use crate::read::Source;
    use crate::source::SourceRoot;
    use domain::Symlinks;
    use domain::object_key::PathText;
    use std::fs::Permissions;
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use std::path::Path;
    use tempfile::{TempDir, tempdir};

    /// A file that has come to rest, opened.
    pub(crate) fn opened(content: &[u8]) -> (TempDir, Opened) {
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
        let mut room = [0; 4];
        let checksum = opened.read(3, &mut room, ChecksumKind::Crc32c).unwrap();
        assert_eq!(&room, b"3456");
        assert_eq!(checksum, Hasher::of(ChecksumKind::Crc32c, b"3456"));
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
            let read = opened.read(0, &mut [0; 10], ChecksumKind::Crc64nvme);
            assert!(matches!(read, Err(Unread::Changed)), "{number}: {read:?}");
            let hashed = opened.hash_parts(4, ChecksumKind::Crc64nvme);
            assert!(matches!(hashed, Err(Unread::Changed)), "{number}: {hashed:?}");
        }
    }

    #[test]
    fn a_file_that_was_changed_just_now_is_not_taken() {
        let now = SystemTime::now();
        let stamp = |age: Duration| Stamp {
            size_bytes: 0,
            modified_at_ns: 0,
            changed_at_ns: (now - age).duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64,
        };
        assert!(stamp(Duration::ZERO).is_settling(now));
        assert!(!stamp(SETTLING).is_settling(now));
        // A clock that is ahead says nothing.
        let ahead = Stamp {
            changed_at_ns: i64::MAX,
            ..stamp(Duration::ZERO)
        };
        assert!(!ahead.is_settling(now));
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
