//! The source root: everything below it is opened beneath it, whatever links, `..` or swaps lie in the way.
//! The kernel resolves (`openat2` with `RESOLVE_BENEATH`), or cap-std component by component where it cannot.

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened source root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceRoot {
    dir: Arc<Dir>,
    /// No server is asked when a file of it is opened: a share that hangs would hold up whoever does that.
    pub(crate) is_local: bool,
}

/// File systems on disks of this machine, or in its memory, by the numbers that `statfs` gives (`linux/magic.h`): ext2 to
/// ext4, XFS, Btrfs, F2FS, tmpfs.
const LOCAL_FILE_SYSTEMS: [u64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994];

/// Why a source root cannot be opened. Its text may be shown to those who do not run the server: it does not say
/// where the root is.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the source root: {source}")]
pub struct SourceError {
    /// The root, as configured; for the log alone.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why a path that a person gave is no path below a source root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSourcePath {
    /// It begins with `/`.
    #[error("must be relative to the source root")]
    Absolute,
    /// It has a component `.` or `..`.
    #[error("has a component \".\" or \"..\"")]
    DotComponent,
    /// It has two slashes in a row.
    #[error("has an empty component (\"//\")")]
    EmptyComponent,
    /// It has a NUL character.
    #[error("has a NUL character")]
    Nul,
}

/// Checks a path below a source root that a person gave. Empty means the root itself; one slash at the end is
/// accepted.
///
/// # Errors
/// When it is absolute, or has a component that is empty, `.` or `..`, or a NUL.
pub fn check_source_path(path: &str) -> Result<(), InvalidSourcePath> {
    if path.contains('\0') {
        return Err(InvalidSourcePath::Nul);
    }
    if path.starts_with('/') {
        return Err(InvalidSourcePath::Absolute);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(());
    }
    for component in path.split('/') {
        match component {
            "" => return Err(InvalidSourcePath::EmptyComponent),
            "." | ".." => return Err(InvalidSourcePath::DotComponent),
            _ => {}
        }
    }
    Ok(())
}

impl SourceRoot {
    /// Opens the directory `path` as a root. It is the one path that is resolved without a fence: the
    /// configuration names it.
    ///
    /// # Errors
    /// When it is missing, no directory, or not accessible.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(|source| SourceError {
            path: path.to_owned(),
            source,
        })?;
        let is_local = rustix::fs::fstatfs(&dir).is_ok_and(|found| {
            u64::try_from(found.f_type).is_ok_and(|kind| LOCAL_FILE_SYSTEMS.contains(&kind))
        });
        Ok(Self {
            dir: Arc::new(dir),
            is_local,
        })
    }

    /// Opens a file to read it, following links that stay inside the root. Never blocks on a FIFO; the caller
    /// must look at what it got.
    pub(crate) fn open_file(&self, path: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true).follow(FollowSymlinks::Yes);
        self.dir
            .open_with(beneath(path), &options)
            .map(cap_std::fs::File::into_std)
    }

    /// Opens a file to read it, if its name and all on the way are in memory and on the root's own, local file system, so
    /// that no disk and no server need be asked. Only with `follow` through links, and then through those that stay inside
    /// the root.
    pub(crate) fn open_file_in_memory(&self, path: &[u8], follow: bool) -> Option<File> {
        if !self.is_local {
            return None;
        }
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV
            | ResolveFlags::CACHED;
        if !follow {
            flags |= OFlags::NOFOLLOW;
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        openat2(&self.dir, path, flags, Mode::empty(), resolve)
            .map(File::from)
            .ok()
    }

    /// Opens a directory to list it, following links that stay inside the root.
    pub(crate) fn open_folder(&self, path: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let directory_only = rustix::fs::OFlags::DIRECTORY.bits().cast_signed();
        options.read(true).nonblock(true).custom_flags(directory_only);
        self.dir
            .open_with(beneath(path), &options)
            .map(cap_std::fs::File::into_std)
    }

    /// What is at `path`, following links that stay inside the root; nothing is opened.
    pub(crate) fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        self.dir.metadata(beneath(path))
    }

    /// Why nothing of the directory `base` can be had any more, if so: what fails below it is then no fault of
    /// single files. A share that was unmounted leaves an empty directory behind, or one that was removed.
    pub(crate) fn why_lost(&self, base: &[u8]) -> Option<String> {
        let looked_at = self.open_folder(base).and_then(|folder| {
            if folder.metadata().map(|found| found.nlink())? == 0 {
                return Ok(Some("it was removed".to_owned()));
            }
            // An empty directory below the root is one; an empty root is a mount point, with nothing mounted.
            let is_empty = base.is_empty() && self.dir.entries()?.next().is_none();
            Ok(is_empty.then(|| "the source root is empty: is its file system mounted?".to_owned()))
        });
        match looked_at {
            Ok(cause) => cause,
            Err(error) if is_shortage(&error) => None,
            Err(error) if is_escape(&error) => Some("it leads out of the source root".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Opens a file below `folder` to read it, through no link at all. Never blocks on a FIFO; the caller must look
/// at what it got.
pub(crate) fn open_file_without_links(folder: impl AsFd, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(&folder, path, flags, Mode::empty(), resolve) {
        // Old kernels and strict containers do not have it.
        Err(Errno::NOSYS | Errno::PERM) => open_by_component(folder, path, flags),
        opened => Ok(opened.map(File::from)?),
    }
}

fn open_by_component(folder: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<File> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut above: Option<OwnedFd> = None;
    let mut components = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = components.next() {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::INVAL.into());
        }
        let flags = if components.peek().is_some() {
            through
        } else {
            flags
        };
        let parent = above.as_ref().map_or(folder.as_fd(), AsFd::as_fd);
        above = Some(openat(parent, name, flags, Mode::empty())?);
    }
    above.map(File::from).ok_or_else(|| Errno::NOENT.into())
}

/// This process, or the machine, is short of something for the moment.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::AGAIN,
    ];
    shortages
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The root itself has no name beneath itself but `.`.
fn beneath(path: &[u8]) -> &Path {
    if path.is_empty() {
        Path::new(".")
    } else {
        Path::new(OsStr::from_bytes(path))
    }
}

/// `base` and `path` with a slash between, either of which may be empty.
pub(crate) fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(base.len() + 1 + path.len());
    joined.extend_from_slice(base);
    if !base.is_empty() && !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(path);
    joined
}

/// A person's source path as bytes, without a slash at its end.
pub(crate) fn base_of(source_path: &str) -> &[u8] {
    source_path.strip_suffix('/').unwrap_or(source_path).as_bytes()
}

/// Whether cap-std refused because the path leads out of the root; the system's own refusals have a number.
pub(crate) fn is_escape(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_paths_stay_below() {
        for good in ["", "a", "a/b", "a/b/", "..a/b..", "a b/ü", "...", "/"] {
            let expected = if good == "/" {
                Err(InvalidSourcePath::Absolute)
            } else {
                Ok(())
            };
            assert_eq!(check_source_path(good), expected, "{good:?}");
        }
        for (bad, expected) in [
            ("/etc", InvalidSourcePath::Absolute),
            ("..", InvalidSourcePath::DotComponent),
            ("a/../..", InvalidSourcePath::DotComponent),
            ("./a", InvalidSourcePath::DotComponent),
            ("a//b", InvalidSourcePath::EmptyComponent),
            ("a\0", InvalidSourcePath::Nul),
        ] {
            assert_eq!(check_source_path(bad), Err(expected), "{bad:?}");
        }
    }

    #[test]
    fn joining_adds_a_slash_only_between() {
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a", b""), b"a");
        assert_eq!(join(b"a", b"b/c"), b"a/b/c");
    }

    #[test]
    fn a_root_that_cannot_be_opened_is_named_only_to_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let error = SourceRoot::open(&folder.path().join("missing")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the source root: No such file or directory (os error 2)"
        );
        assert!(format!("{error:?}").contains("missing"));
    }

    #[test]
    fn what_lies_outside_cannot_be_opened() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("secret"), "x").unwrap();
        let inner = outer.path().join("root");
        std::fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink("../secret", inner.join("relative")).unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
        std::os::unix::fs::symlink("..", inner.join("up")).unwrap();
        let root = SourceRoot::open(&inner).unwrap();
        for path in ["relative", "absolute", "up/secret", "../secret"] {
            let error = root.open_file(path.as_bytes()).unwrap_err();
            assert!(is_escape(&error), "{path}: {error:?}");
            assert!(is_escape(&root.metadata(path.as_bytes()).unwrap_err()), "{path}");
        }
        assert!(is_escape(&root.open_folder(b"up").unwrap_err()));
    }

    #[test]
    fn no_link_is_gone_through_where_none_is_to_be_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dir")).unwrap();
        std::fs::write(folder.path().join("dir/file"), "x").unwrap();
        std::os::unix::fs::symlink("dir", folder.path().join("to-dir")).unwrap();
        std::os::unix::fs::symlink("file", folder.path().join("dir/to-file")).unwrap();
        let opened = File::open(folder.path()).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        type Open<'a> = &'a dyn Fn(&[u8]) -> io::Result<File>;
        let ways: [Open; 2] = [&|path| open_file_without_links(&opened, path), &|path| {
            open_by_component(&opened, path, flags)
        }];
        for open in ways {
            assert!(open(b"dir/file").is_ok());
            for path in [
                "to-dir/file",
                "dir/to-file",
                "../x",
                "dir/../../x",
                "/etc/passwd",
                "dir/missing",
            ] {
                assert!(open(path.as_bytes()).is_err(), "{path}");
            }
        }
    }

    #[test]
    fn a_source_is_lost_when_it_is_gone_or_its_root_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("root/source")).unwrap();
        let root = SourceRoot::open(&at("root")).unwrap();
        assert_eq!(root.why_lost(b"source"), None, "an empty source is one");
        assert_eq!(root.why_lost(b""), None);
        std::fs::rename(at("root/source"), at("elsewhere")).unwrap();
        assert!(root.why_lost(b"source").unwrap().contains("No such file"));
        assert!(root.why_lost(b"").unwrap().contains("empty"));
        std::fs::write(at("root/source"), "a file now").unwrap();
        assert!(root.why_lost(b"source").unwrap().contains("Not a directory"));
        std::fs::remove_dir_all(at("root")).unwrap();
        assert!(root.why_lost(b"").unwrap().contains("removed"));
    }
}
