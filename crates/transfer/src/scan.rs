//! The scan: what there is to send below a source, as a stream that begins while the walk still runs.

use crate::filter::Filter;
use crate::source::SourceRoot;
use crate::walk;
use domain::object_key::PathText;
use domain::plan::Excluded;
use domain::{FileErrorCode, Symlinks};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Events in one batch, at most.
const BATCH_EVENTS: usize = 256;
/// How long the first event of a batch waits for more.
const BATCH_AGE: Duration = Duration::from_millis(50);
/// Batches on their way; a walk that is further ahead waits.
const CHANNEL_BATCHES: usize = 16;

/// What to walk.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Below the root: a directory or a single file; empty for the root itself.
    pub source_path: String,
    /// Which files to take.
    pub filter: Filter,
    /// What to do with symbolic links.
    pub symlinks: Symlinks,
    /// In the order of the bytes of the paths, as a store lists them: what is in a folder comes where the folder comes.
    /// (Folders of more than some 100,000 entries are sorted in pieces. Paths that are no clean text, and folders of file
    /// systems that do not tell them from files, may come elsewhere.)
    pub in_key_order: bool,
}

/// A regular file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// Its path below the source (of a single file: its name).
    pub path: PathText,
    /// Its size in bytes when the walk met it.
    pub size_bytes: u64,
    /// When it was modified, in nanoseconds of Unix time.
    pub modified_at_ns: i64,
}

/// One thing the walk met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEvent {
    /// A regular file.
    File(FoundFile),
    /// Something that cannot be sent, with the cause.
    NotSendable {
        /// Its path below the source; that of a directory ends in `/`.
        path: PathText,
        /// Its size in bytes, 0 where that means nothing.
        size_bytes: u64,
        /// The cause.
        code: FileErrorCode,
        /// The cause in words.
        detail: String,
        /// Whether it was left out on purpose (links, special files) and is no failure.
        skipped: bool,
    },
}

/// What a walk met in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanTotals {
    /// Regular files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Directories listed.
    pub directories: u64,
    /// Things left out on purpose.
    pub skipped: u64,
    /// Things that should have been sent or listed and could not.
    pub failed: u64,
    /// What the filter left out, that was met.
    pub excluded: Excluded,
}

/// Why a walk did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The source does not exist, or cannot be listed, or is neither a directory nor a regular file.
    #[error("cannot read the source {path:?}: {detail}")]
    SourceUnreadable {
        /// The source path, as given.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// It was told to stop, or nobody takes its events any more.
    #[error("the scan was stopped")]
    Stopped,
}

/// A walk under way.
#[derive(Debug)]
pub struct Scan {
    /// What it meets, in small batches; ends with the walk. A stopped walk notices only when it is not waiting
    /// for its reader: read on, or drop this.
    pub events: mpsc::Receiver<Vec<ScanEvent>>,
    /// How it ended.
    pub result: JoinHandle<Result<ScanTotals, ScanError>>,
}

/// Starts walking, on a thread for blocking work. Must be called within a tokio runtime.
///
/// Every directory is listed once, nothing hidden is left out, no file is opened. Unless they are wanted in the order of
/// keys, the entries of a directory come in the order of their names (in very large directories: in sorted runs), before
/// what is below it.
#[must_use]
pub fn scan(root: &SourceRoot, options: ScanOptions, stop: CancellationToken) -> Scan {
    let (sender, events) = mpsc::channel(CHANNEL_BATCHES);
    let root = root.clone();
    let result = tokio::task::spawn_blocking(move || {
        let mut sink = Sink {
            sender,
            batch: Vec::with_capacity(BATCH_EVENTS),
            begun_at: Instant::now(),
            totals: ScanTotals::default(),
        };
        walk::walk(&root, &options, &stop, &mut sink)?;
        sink.flush()?;
        Ok(sink.totals)
    });
    Scan { events, result }
}

/// Gathers events into batches and counts them.
pub(crate) struct Sink {
    sender: mpsc::Sender<Vec<ScanEvent>>,
    batch: Vec<ScanEvent>,
    begun_at: Instant,
    pub(crate) totals: ScanTotals,
}

impl Sink {
    pub(crate) fn file(&mut self, file: FoundFile) -> Result<(), ScanError> {
        self.totals.files += 1;
        self.totals.bytes += file.size_bytes;
        self.push(ScanEvent::File(file))
    }

    /// Something left out on purpose.
    pub(crate) fn skipped(
        &mut self,
        path: PathText,
        size_bytes: u64,
        code: FileErrorCode,
        detail: impl Into<String>,
    ) -> Result<(), ScanError> {
        self.totals.skipped += 1;
        self.push(ScanEvent::NotSendable {
            path,
            size_bytes,
            code,
            detail: detail.into(),
            skipped: true,
        })
    }

    /// Something that should have been sent or listed, and cannot.
    pub(crate) fn failed(
        &mut self,
        path: PathText,
        code: FileErrorCode,
        detail: String,
    ) -> Result<(), ScanError> {
        self.totals.failed += 1;
        self.push(ScanEvent::NotSendable {
            path,
            size_bytes: 0,
            code,
            detail,
            skipped: false,
        })
    }

    fn push(&mut self, event: ScanEvent) -> Result<(), ScanError> {
        let now = Instant::now();
        if self.batch.is_empty() {
            self.begun_at = now;
        }
        self.batch.push(event);
        if self.batch.len() >= BATCH_EVENTS || now.duration_since(self.begun_at) >= BATCH_AGE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ScanError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_EVENTS));
        self.sender
            .blocking_send(batch)
            .map_err(|_closed| ScanError::Stopped)
    }
}
