//! A directory that is held against a record.

use super::{Comparing, Finding, Recorded, RecordedFile, other_size};
use crate::filter::Filter;
use crate::opened::Unread;
use crate::read::Source;
use crate::scan::{ScanEvent, ScanOptions, scan};
use crate::source::SourceRoot;
use domain::object_key::PathText;
use domain::{FileErrorCode, Symlinks};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a file that has just been changed is looked at, and the rest between.
const TRIES: u32 = 5;
const REST: Duration = Duration::from_millis(30);

/// A directory that holds, or should hold, what was delivered. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    root: SourceRoot,
    source: Arc<Source>,
    symlinks: Symlinks,
}

impl Directory {
    /// Opens the directory that stands for the source of a session; links are treated as there.
    ///
    /// # Errors
    /// When it is missing, no directory, or not accessible; in words.
    pub fn open(path: &Path, symlinks: Symlinks) -> Result<Self, String> {
        let root = SourceRoot::open(path).map_err(|error| error.source.to_string())?;
        let source = Arc::new(Source::new(root.clone(), "", symlinks));
        Ok(Self {
            root,
            source,
            symlinks,
        })
    }

    /// Reads a file and compares it. `part_size_bytes` is what the session was set to.
    pub async fn check(&self, file: RecordedFile, part_size_bytes: u64) -> Finding {
        for tries in 1..=TRIES {
            let (source, file) = (self.source.clone(), file.clone());
            let checked = tokio::task::spawn_blocking(move || check(&source, &file, part_size_bytes)).await;
            match checked {
                Ok(Ok(finding)) => return finding,
                Ok(Err(Unread::Failed(failure))) => {
                    return match failure.code {
                        FileErrorCode::FileVanished => Finding::Missing,
                        FileErrorCode::SpecialFile => Finding::Different("it is no regular file".to_owned()),
                        _ => Finding::Unchecked(failure.detail),
                    };
                }
                Ok(Err(Unread::Changed)) if tries < TRIES => tokio::time::sleep(REST).await,
                Ok(Err(Unread::Changed)) => break,
                Err(error) => return Finding::Unchecked(error.to_string()),
            }
        }
        Finding::Unchecked("it changes while it is read".to_owned())
    }

    /// Walks the directory as a session with these patterns would, and hands out each regular file; what cannot be
    /// listed comes with the cause.
    ///
    /// # Errors
    /// When the patterns cannot be read or the walk cannot begin; in words.
    pub async fn walk(
        &self,
        include: &[String],
        exclude: &[String],
        mut found: impl FnMut(PathText, Option<String>),
    ) -> Result<(), String> {
        let options = ScanOptions {
            source_path: String::new(),
            filter: Filter::compile(include, exclude).map_err(|error| error.to_string())?,
            symlinks: self.symlinks,
            in_key_order: false,
        };
        let mut walk = scan(&self.root, options, CancellationToken::new());
        while let Some(events) = walk.events.recv().await {
            for event in events {
                match event {
                    ScanEvent::File(file) => found(file.path, None),
                    ScanEvent::NotSendable {
                        path,
                        detail,
                        skipped: false,
                        ..
                    } => found(path, Some(detail)),
                    ScanEvent::NotSendable { .. } => {}
                }
            }
        }
        match walk.result.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn check(source: &Source, file: &RecordedFile, part_size_bytes: u64) -> Result<Finding, Unread> {
    let opened = source.open(&file.path)?;
    let size_bytes = opened.stamp.size_bytes;
    if size_bytes != file.size_bytes {
        return Ok(other_size(size_bytes, file.size_bytes));
    }
    let mut comparing = match Recorded::of(file, part_size_bytes) {
        Ok(recorded) => Comparing::from(recorded),
        Err(detail) => return Ok(Finding::Unchecked(detail)),
    };
    opened.pieces(0, size_bytes, |bytes| comparing.update(bytes))?;
    Ok(comparing.finish())
}
