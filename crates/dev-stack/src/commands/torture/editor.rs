//! Somebody who works on a source while it is uploaded, and remembers every version there was.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde::Serialize;

use super::kind::Edit;
use super::source::Shape;

/// A change is written in one go and within one page, so that no mixture of two versions is a version.
const PAGE_BYTES: u64 = 4096;

/// A source, and what was done to it.
pub(super) struct Editor {
    dir: PathBuf,
    shape: Shape,
    edits: Mutex<Edits>,
}

/// What was done to a source, by the paths below it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Edits {
    /// The SHA-256 of every version of the files that were changed, in hex.
    pub(super) versions: BTreeMap<String, BTreeSet<String>>,
    /// Those that were removed.
    pub(super) removed: BTreeSet<String>,
}

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.removed.is_empty()
    }
}

impl Editor {
    pub(super) fn new(dir: PathBuf, shape: Shape) -> Self {
        Self {
            dir,
            shape,
            edits: Mutex::default(),
        }
    }

    /// What was done so far.
    pub(super) fn edits(&self) -> Edits {
        self.lock().clone()
    }

    /// The name of the source below the root.
    pub(super) fn name(&self) -> &OsStr {
        self.dir.file_name().unwrap_or_default()
    }

    /// Works on `file`, or on any files where it is none, for a second or two, in the way that `edit` says.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(super) async fn work(
        self: Arc<Self>,
        edit: Edit,
        file: Option<String>,
        mut dice: StdRng,
    ) -> io::Result<()> {
        for _ in 0..dice.random_range(3..30) {
            let name = file.clone().unwrap_or_else(|| self.shape.any_file(&mut dice));
            let (source, mut own) = (self.clone(), StdRng::seed_from_u64(dice.random()));
            tokio::task::spawn_blocking(move || source.edit(edit, name, &mut own)).await??;
            tokio::time::sleep(Duration::from_millis(dice.random_range(5..100))).await;
        }
        Ok(())
    }

    /// Changes one file; nothing where it was removed earlier. Blocks.
    fn edit(&self, edit: Edit, name: String, dice: &mut StdRng) -> io::Result<()> {
        let path = self.dir.join(&name);
        // Held to the end: two changes at once would make a version that nobody knows of.
        let mut edits = self.lock();
        if edits.removed.contains(&name) {
            return Ok(());
        }
        let before = fs::read(&path)?;
        let mut after = before.clone();
        let mut page = 0;
        match edit {
            Edit::Rewritten | Edit::Replaced => {
                page = PAGE_BYTES * dice.random_range(0..=before.len() as u64 / PAGE_BYTES);
                let (begin, end) = (page as usize, after.len().min((page + PAGE_BYTES) as usize));
                dice.fill_bytes(after.get_mut(begin..end).unwrap_or_default());
            }
            Edit::Grown => {
                // Within the last page.
                let room = PAGE_BYTES - before.len() as u64 % PAGE_BYTES;
                let mut more = vec![0; dice.random_range(1..=room) as usize];
                dice.fill_bytes(&mut more);
                after.extend(more);
            }
            Edit::Shrunk => after.truncate(before.len() - before.len() / 10),
            Edit::Removed => {}
        }
        // First what may be seen, then the change itself.
        let versions = edits.versions.entry(name.clone()).or_default();
        versions.extend([&before, &after].map(|bytes| hex::encode(digest(&SHA256, bytes))));
        if edit == Edit::Removed {
            edits.removed.insert(name);
        }
        match edit {
            Edit::Rewritten => {
                let file = File::options().write(true).open(&path)?;
                let modified = file.metadata()?.modified()?;
                let end = after.len().min((page + PAGE_BYTES) as usize);
                file.write_all_at(after.get(page as usize..end).unwrap_or_default(), page)?;
                file.set_modified(modified)
            }
            Edit::Replaced => {
                let beside = self.dir.with_extension("new");
                fs::write(&beside, &after)?;
                fs::rename(&beside, &path)
            }
            Edit::Grown => {
                let more = after.get(before.len()..).unwrap_or_default();
                let file = File::options().write(true).open(&path)?;
                file.write_all_at(more, before.len() as u64)
            }
            Edit::Shrunk => {
                let file = File::options().write(true).open(&path)?;
                file.set_len(after.len() as u64)
            }
            Edit::Removed => fs::remove_file(&path),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Edits> {
        self.edits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
