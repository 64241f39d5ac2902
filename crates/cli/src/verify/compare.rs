//! Holds a directory or a bucket against the files of a receipt.

use super::read;
use super::report::Comparison;
use crate::render::printable;
use anyhow::{Context as _, Result, anyhow, bail};
use domain::Symlinks;
use domain::object_key::{PathText, is_receipt_key};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use receipts::{Entry, Receipt};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use transfer::check::{BucketAddress, Directory, Finding, ObjectStore, RecordedFile};

/// Files that are hashed at a time, and objects that are asked for.
const READS: usize = 4;
const REQUESTS: usize = 32;
/// Files that were read of the receipt and wait for their turn.
const AHEAD: usize = 256;

/// What is to be held against a receipt.
pub(crate) enum Target {
    /// A directory; whether what is too much is all right.
    Directory(PathBuf, bool),
    /// A bucket; whether its objects are read.
    Bucket(BucketAddress, bool),
}

impl Target {
    fn name(&self) -> &'static str {
        match self {
            Self::Directory(..) => "directory",
            Self::Bucket(..) => "bucket",
        }
    }

    async fn open(self, receipt: &Receipt) -> Result<Against> {
        match self {
            Self::Directory(path, allow_extra) => {
                let symlinks = &receipt.header.settings["symlinks"];
                let symlinks: Symlinks = serde_json::from_value(symlinks.clone()).unwrap_or_default();
                let directory = Directory::open(&path, symlinks)
                    .map_err(|error| anyhow!("cannot open {}: {error}", path.display()))?;
                Ok(Against::Directory(directory, allow_extra))
            }
            Self::Bucket(address, read) => match ObjectStore::open(&address).await {
                Ok(store) => Ok(Against::Bucket(store, read)),
                Err(error) => bail!("cannot use the bucket {}: {error}", address.bucket),
            },
        }
    }
}

/// The same, opened.
enum Against {
    Directory(Directory, bool),
    Bucket(ObjectStore, bool),
}

impl Against {
    fn at_a_time(&self) -> usize {
        match self {
            Self::Directory(..) | Self::Bucket(_, true) => READS,
            Self::Bucket(_, false) => REQUESTS,
        }
    }
}

/// The settings of the session that matter here, read leniently: they were signed, and may be of a later version.
struct Settings {
    part_size_bytes: u64,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Settings {
    fn of(receipt: &Receipt) -> Self {
        let settings = &receipt.header.settings;
        let patterns = |name: &str| serde_json::from_value(settings[name].clone()).unwrap_or_default();
        Self {
            part_size_bytes: settings["part_size_bytes"].as_u64().unwrap_or_default(),
            include: patterns("include"),
            exclude: patterns("exclude"),
        }
    }
}

/// Compares every file that the receipt calls delivered. The receipt must be the one that was checked. What was found
/// is kept where it cannot go on.
pub(crate) async fn compare(path: &Path, receipt: &Receipt, target: Target) -> Comparison {
    let mut comparison = Comparison::new(target.name());
    let compared = async {
        let against = target.open(receipt).await?;
        compare_with(path, receipt, &against, &mut comparison).await
    };
    if let Err(error) = compared.await {
        comparison.incomplete = Some(format!("{error:#}"));
    }
    comparison
}

async fn compare_with(
    path: &Path,
    receipt: &Receipt,
    against: &Against,
    comparison: &mut Comparison,
) -> Result<()> {
    let settings = Settings::of(receipt);
    let progress = progress(receipt.header.counts.files.total);
    let (sender, mut entries) = mpsc::channel::<Entry>(AHEAD);
    let reading = tokio::spawn(read_again(path.to_owned(), sender));
    let mut known = Known::default();
    let files = futures::stream::poll_fn(|context| entries.poll_recv(context))
        .map(|entry| {
            let file = recorded(&entry, &receipt.header.key_prefix);
            if let (Against::Directory(..), Ok(file)) = (against, &file) {
                known.add(&file.path);
            }
            let part_size_bytes = settings.part_size_bytes;
            async move {
                let file = match file {
                    Ok(file) => file,
                    Err(detail) => return (entry, Some(Finding::Unchecked(detail))),
                };
                if !entry.is_delivered() {
                    return (entry, None);
                }
                let finding = match against {
                    Against::Directory(directory, _) => directory.check(file, part_size_bytes).await,
                    Against::Bucket(bucket, read) => bucket.check(&file, part_size_bytes, *read).await,
                };
                (entry, Some(finding))
            }
        })
        .buffer_unordered(against.at_a_time());
    let mut files = Box::pin(files);
    while let Some((entry, finding)) = files.next().await {
        progress.inc(1);
        match finding {
            Some(finding) => comparison.add(&entry.key, finding),
            None => comparison.not_delivered += 1,
        }
    }
    drop(files);
    let again = reading.await??;
    if again.root != receipt.root {
        bail!("the receipt was changed while it was checked");
    }
    if let Against::Directory(directory, false) = against {
        find_extra(directory, receipt, &settings, &known, comparison).await?;
    }
    progress.finish_and_clear();
    Ok(())
}

async fn read_again(path: std::path::PathBuf, sender: mpsc::Sender<Entry>) -> Result<Receipt> {
    read(&path, move |entry| sender.blocking_send(entry).is_ok()).await
}

/// What the receipt records of a file, for those who compare.
fn recorded(entry: &Entry, key_prefix: &str) -> Result<RecordedFile, String> {
    let text = entry
        .key
        .strip_prefix(key_prefix)
        .ok_or("its key does not begin as those of the session do")?;
    Ok(RecordedFile {
        path: PathText {
            text: text.to_owned(),
            is_encoded: entry.path_is_encoded,
        },
        key: entry.key.clone(),
        size_bytes: entry.size_bytes,
        checksum: entry.checksum.clone(),
        etag: entry.etag.clone(),
    })
}

/// The paths of a receipt, by two hashes of 64 bits each: a million of them take 32 MB, and no two meet.
#[derive(Default)]
struct Known {
    paths: HashSet<(u64, u64)>,
    /// Folders that could not be listed: what is in them was never seen.
    unlisted: Vec<String>,
}

impl Known {
    fn add(&mut self, path: &PathText) {
        if path.text.ends_with('/') {
            self.unlisted.push(path.text.clone());
        }
        self.paths.insert(Self::hashes(path));
    }

    fn has(&self, path: &PathText) -> bool {
        self.paths.contains(&Self::hashes(path))
            || self
                .unlisted
                .iter()
                .any(|folder| path.text.starts_with(folder.as_str()))
    }

    fn hashes(path: &PathText) -> (u64, u64) {
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &path.text, path.is_encoded).hash(&mut hasher);
            hasher.finish()
        };
        (hash(0), hash(1))
    }
}

/// Adds the files of a directory that are in no line of the receipt, though its session would have taken them: all but
/// receipts, which come along where a bucket is copied as a whole.
async fn find_extra(
    directory: &Directory,
    receipt: &Receipt,
    settings: &Settings,
    known: &Known,
    comparison: &mut Comparison,
) -> Result<()> {
    let prefix = &receipt.header.key_prefix;
    let is_known = |path: &PathText| known.has(path) || is_receipt_key(&format!("{prefix}{}", path.text));
    directory
        .walk(
            &settings.include,
            &settings.exclude,
            |path, problem| match problem {
                Some(detail) if !is_known(&path) => comparison.add(&path.text, Finding::Unchecked(detail)),
                None if !is_known(&path) => comparison.add_extra(&path.text),
                _ => {}
            },
        )
        .await
        .map_err(|error| anyhow!(printable(&error)))
        .context("cannot look for files that are too much")
}

/// On a terminal alone.
fn progress(files: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(files), ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) =
        ProgressStyle::with_template("checking  {bar:30}  {human_pos} of {human_len} files  {eta}")
    {
        bar.set_style(style);
    }
    bar
}
