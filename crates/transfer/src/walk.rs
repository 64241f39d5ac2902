//! The walk itself: depth first over a stack of its own, each directory opened by its name relative to the one
//! above it and never through a link, but where links are followed: those are resolved beneath the root.

use crate::ancestry::Visited;
use crate::filter::Filter;
use crate::opened::io_code;
use crate::scan::{FoundFile, ScanError, ScanOptions, Sink};
use crate::source::{SourceRoot, base_of, is_escape, join};
use cap_std::fs::{Metadata, MetadataExt};
use domain::object_key::PathText;
use domain::{FileErrorCode, Symlinks};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio_util::sync::CancellationToken;

/// Entries of a directory that are held and sorted at once, which bounds the memory of a huge one.
const RUN_ENTRIES: usize = 4096;
/// The same where the order of keys is asked for: fewer pieces are worth some 20 MiB.
const KEY_RUN_ENTRIES: usize = 1 << 18;
/// The system takes no longer path, so nothing deeper could be read; its key would be too long anyway.
const MAX_PATH_BYTES: usize = 4096;

/// Walks the source of `options` into `sink`.
pub(crate) fn walk(
    root: &SourceRoot,
    options: &ScanOptions,
    stop: &CancellationToken,
    sink: &mut Sink,
) -> Result<(), ScanError> {
    let base = base_of(&options.source_path);
    let lost = |detail: String| ScanError::SourceUnreadable {
        path: options.source_path.clone(),
        detail,
    };
    let unreadable = |error: &io::Error| {
        lost(if is_escape(error) {
            "it leads out of the source root".to_owned()
        } else {
            error.to_string()
        })
    };
    let source = root.metadata(base).map_err(|error| unreadable(&error))?;
    if source.is_file() {
        let name = base.rsplit(|byte| *byte == b'/').next().unwrap_or(base);
        let path = PathText::from_bytes(name);
        if options.filter.takes_file(&path.text, false) {
            sink.file(FoundFile {
                path,
                size_bytes: source.size(),
                modified_at_ns: unix_ns(source.mtime(), source.mtime_nsec()),
            })?;
        } else {
            sink.totals.excluded.files += 1;
        }
        return Ok(());
    }
    let fd = OwnedFd::from(root.open_folder(base).map_err(|error| unreadable(&error))?);
    let chain = Visited::next(&fd, None, options.symlinks).map_err(|error| unreadable(&error))?;
    let source = Rc::new(OpenFolder {
        fd,
        path: Vec::new(),
        // A filter without include patterns includes every folder; the source is no match of a pattern.
        included: options.filter.includes_folder(""),
        chain,
    });
    // Nothing of a source that cannot even be listed is worth a row: the whole scan fails.
    let listing = Dir::read_from(&source.fd).map_err(|error| unreadable(&error.into()))?;
    let mut walk = Walk {
        root,
        base,
        filter: &options.filter,
        symlinks: options.symlinks,
        in_key_order: options.in_key_order,
        stop,
        sink,
        stack: Vec::new(),
        lost: &lost,
    };
    walk.list(&source, listing)?;
    drop(source);
    while let Some(next) = walk.stack.pop() {
        match next {
            Next::Enter(folder) => walk.enter(folder)?,
            Next::GoOn(level) => walk.list_in_key_order(level)?,
        }
    }
    Ok(())
}

/// What is still to be done.
enum Next {
    Enter(Folder),
    /// Only where the order of keys is asked for.
    GoOn(Level),
}

/// A directory that is listed in the order of keys: what is left of it.
struct Level {
    folder: Rc<OpenFolder>,
    /// Until all of it was read.
    listing: Option<Dir>,
    run: std::vec::IntoIter<Entry>,
}

type Entry = (CString, FileType);

/// A directory that was met and not yet opened.
struct Folder {
    parent: Rc<OpenFolder>,
    /// Below the source, without a slash at its end.
    path: Vec<u8>,
    through_link: bool,
    included: bool,
}

/// An opened directory; closed when the last directory below it was opened.
struct OpenFolder {
    fd: OwnedFd,
    path: Vec<u8>,
    included: bool,
    chain: Option<Rc<Visited>>,
}

struct Walk<'a> {
    root: &'a SourceRoot,
    base: &'a [u8],
    filter: &'a Filter,
    symlinks: Symlinks,
    in_key_order: bool,
    stop: &'a CancellationToken,
    sink: &'a mut Sink,
    stack: Vec<Next>,
    /// The error of a source that went away in the middle, with the cause.
    lost: &'a dyn Fn(String) -> ScanError,
}

impl Walk<'_> {
    fn enter(&mut self, folder: Folder) -> Result<(), ScanError> {
        match self.open(&folder) {
            Ok((opened, listing)) => {
                // The directory above need not stay open while this one is listed.
                drop(folder);
                self.list(&Rc::new(opened), listing)
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                let detail = "it leads back to a folder above it, or is a link now";
                self.sink.skipped(
                    folder_text(&folder.path),
                    0,
                    FileErrorCode::SymlinkRefused,
                    detail,
                )
            }
            Err(error) => self.unlistable(&folder.path, &error),
        }
    }

    fn open(&self, folder: &Folder) -> io::Result<(OpenFolder, Dir)> {
        let fd = if folder.through_link {
            OwnedFd::from(self.root.open_folder(&join(self.base, &folder.path))?)
        } else {
            let name = folder
                .path
                .rsplit(|byte| *byte == b'/')
                .next()
                .unwrap_or_default();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&folder.parent.fd, name, flags, Mode::empty())?
        };
        let chain = Visited::next(&fd, folder.parent.chain.as_ref(), self.symlinks)?;
        let listing = Dir::read_from(&fd)?;
        let opened = OpenFolder {
            fd,
            path: folder.path.clone(),
            included: folder.included,
            chain,
        };
        Ok((opened, listing))
    }

    /// Reports what a directory holds, and puts the directories in it on the stack.
    fn list(&mut self, folder: &Rc<OpenFolder>, mut listing: Dir) -> Result<(), ScanError> {
        self.sink.totals.directories += 1;
        if self.in_key_order {
            return self.list_in_key_order(Level {
                folder: Rc::clone(folder),
                listing: Some(listing),
                run: Vec::new().into_iter(),
            });
        }
        let below = self.stack.len();
        loop {
            let (mut run, is_read) = self.read_run(folder, &mut listing, RUN_ENTRIES)?;
            run.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            for (name, file_type) in run {
                self.entry(folder, &name, file_type)?;
            }
            if is_read {
                break;
            }
        }
        // The stack is taken from its end: the first name goes there.
        if let Some(found) = self.stack.get_mut(below..) {
            found.reverse();
        }
        Ok(())
    }

    /// Reports what a directory holds up to the first directory in it, which comes next, and then the rest.
    fn list_in_key_order(&mut self, mut level: Level) -> Result<(), ScanError> {
        loop {
            let below = self.stack.len();
            for (name, file_type) in level.run.by_ref() {
                self.entry(&level.folder, &name, file_type)?;
                if self.stack.len() > below {
                    if level.run.len() > 0 || level.listing.is_some() {
                        self.stack.insert(below, Next::GoOn(level));
                    }
                    return Ok(());
                }
            }
            let Some(mut listing) = level.listing.take() else {
                return Ok(());
            };
            let (mut run, is_read) = self.read_run(&level.folder, &mut listing, KEY_RUN_ENTRIES)?;
            run.sort_unstable_by(|one, other| in_keys(one).cmp(in_keys(other)));
            level.run = run.into_iter();
            level.listing = (!is_read).then_some(listing);
        }
    }

    /// Reads the next entries of a directory; tells whether they were the last.
    fn read_run(
        &mut self,
        folder: &OpenFolder,
        listing: &mut Dir,
        limit: usize,
    ) -> Result<(Vec<Entry>, bool), ScanError> {
        let mut run = Vec::new();
        while run.len() < limit {
            match listing.read() {
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => run.push((entry.file_name().to_owned(), entry.file_type())),
                Some(Err(error)) => {
                    self.unlistable(&folder.path, &error.into())?;
                    return Ok((run, true));
                }
                None => {
                    // The system says that a directory is at its end, too, when it is removed meanwhile.
                    if self.was_removed(folder) {
                        self.unlistable(&folder.path, &Errno::NOENT.into())?;
                    }
                    return Ok((run, true));
                }
            }
        }
        Ok((run, false))
    }

    fn entry(&mut self, folder: &Rc<OpenFolder>, name: &CStr, file_type: FileType) -> Result<(), ScanError> {
        if self.stop.is_cancelled() {
            return Err(ScanError::Stopped);
        }
        let path = join(&folder.path, name.to_bytes());
        match file_type {
            FileType::Directory => self.folder(folder, path, false),
            FileType::Symlink => self.link(folder, path),
            // Some file systems do not tell the type in the listing.
            FileType::RegularFile | FileType::Unknown => {
                let text = PathText::from_bytes(&path);
                // Decided before stat, where the listing told the type.
                if file_type == FileType::RegularFile && !self.takes(folder, &text) {
                    return Ok(());
                }
                match rustix::fs::statat(&folder.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => self.stated(folder, path, text, &stat),
                    Err(error) => {
                        self.still_there()?;
                        let error = io::Error::from(error);
                        self.sink
                            .failed(text, io_code(&error, false), format!("looking at it: {error}"))
                    }
                }
            }
            other => {
                let text = PathText::from_bytes(&path);
                if self.takes(folder, &text) {
                    self.special(text, other)?;
                }
                Ok(())
            }
        }
    }

    /// An entry whose type is known by stat alone.
    fn stated(
        &mut self,
        folder: &Rc<OpenFolder>,
        path: Vec<u8>,
        text: PathText,
        stat: &rustix::fs::Stat,
    ) -> Result<(), ScanError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.folder(folder, path, false),
            FileType::Symlink => self.link(folder, path),
            _ if !self.takes(folder, &text) => Ok(()),
            FileType::RegularFile => self.sink.file(FoundFile {
                path: text,
                size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
                #[allow(clippy::useless_conversion, reason = "the width differs between platforms")]
                modified_at_ns: unix_ns(
                    stat.st_mtime.into(),
                    i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
                ),
            }),
            other => self.special(text, other),
        }
    }

    fn folder(
        &mut self,
        parent: &Rc<OpenFolder>,
        path: Vec<u8>,
        through_link: bool,
    ) -> Result<(), ScanError> {
        let mut included = parent.included;
        if !self.filter.takes_everything() {
            let text = PathText::from_bytes(&path).text;
            if self.filter.prunes(&text) {
                self.sink.totals.excluded.directories += 1;
                return Ok(());
            }
            included = included || self.filter.includes_folder(&text);
        }
        if self.base.len() + path.len() >= MAX_PATH_BYTES {
            let detail =
                format!("its path is longer than {MAX_PATH_BYTES} bytes; nothing in it is looked at");
            return self
                .sink
                .failed(folder_text(&path), FileErrorCode::NameNotSupported, detail);
        }
        self.stack.push(Next::Enter(Folder {
            parent: Rc::clone(parent),
            path,
            through_link,
            included,
        }));
        Ok(())
    }

    fn link(&mut self, folder: &Rc<OpenFolder>, path: Vec<u8>) -> Result<(), ScanError> {
        let text = PathText::from_bytes(&path);
        if self.symlinks == Symlinks::Skip {
            if self.takes(folder, &text) {
                let detail = "it is a symbolic link";
                self.sink
                    .skipped(text, 0, FileErrorCode::SymlinkNotFollowed, detail)?;
            }
            return Ok(());
        }
        match self.root.metadata(&join(self.base, &path)) {
            Ok(target) if target.is_dir() => self.folder(folder, path, true),
            _ if !self.takes(folder, &text) => Ok(()),
            Ok(target) if target.is_file() => self.sink.file(FoundFile {
                path: text,
                size_bytes: target.size(),
                modified_at_ns: unix_ns(target.mtime(), target.mtime_nsec()),
            }),
            Ok(target) => self.special(text, FileType::from_raw_mode(target.mode())),
            Err(error) => {
                let detail = if is_escape(&error) {
                    "the link leads out of the source root".to_owned()
                } else {
                    format!("following the link: {error}")
                };
                self.sink.skipped(text, 0, FileErrorCode::SymlinkRefused, detail)
            }
        }
    }

    fn special(&mut self, path: PathText, file_type: FileType) -> Result<(), ScanError> {
        let detail = match file_type {
            FileType::Fifo => "it is a FIFO",
            FileType::Socket => "it is a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "it is a device",
            _ => "it is no regular file",
        };
        self.sink.skipped(path, 0, FileErrorCode::SpecialFile, detail)
    }

    fn unlistable(&mut self, path: &[u8], error: &io::Error) -> Result<(), ScanError> {
        self.still_there()?;
        let code = io_code(error, true);
        self.sink
            .failed(folder_text(path), code, format!("listing the folder: {error}"))
    }

    /// Nothing is told of single files and folders where the whole source went away.
    fn still_there(&self) -> Result<(), ScanError> {
        self.root
            .why_lost(self.base)
            .map_or(Ok(()), |cause| Err((self.lost)(cause)))
    }

    /// Whether an opened directory is none any more. Some file systems count no links: the name decides.
    fn was_removed(&self, folder: &OpenFolder) -> bool {
        let Ok(opened) = rustix::fs::fstat(&folder.fd) else {
            return true;
        };
        let is_same = |found: Metadata| (found.dev(), found.ino()) == (opened.st_dev, opened.st_ino);
        opened.st_nlink == 0
            && !self
                .root
                .metadata(&join(self.base, &folder.path))
                .is_ok_and(is_same)
    }

    /// Whether the filter takes a file. Counts those that it leaves out; of none of them it is asked again.
    fn takes(&mut self, folder: &OpenFolder, path: &PathText) -> bool {
        let takes = self.filter.takes_everything() || self.filter.takes_file(&path.text, folder.included);
        self.sink.totals.excluded.files += u64::from(!takes);
        takes
    }
}

/// How an entry comes in the order of keys: what is in a folder has a slash behind the folder's name.
fn in_keys((name, file_type): &Entry) -> impl Iterator<Item = u8> {
    let slash = (*file_type == FileType::Directory).then_some(b'/');
    name.to_bytes().iter().copied().chain(slash)
}

fn folder_text(path: &[u8]) -> PathText {
    let mut path = path.to_vec();
    path.push(b'/');
    PathText::from_bytes(&path)
}

fn unix_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
