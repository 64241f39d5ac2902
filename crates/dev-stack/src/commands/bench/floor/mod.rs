//! `dev-stack floor`: the least that can be done to bring files to a store over HTTP. Raw sockets, no signatures, no
//! checksums, nothing recorded: what it takes is the floor that others stand on.

mod connection;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};

use crate::FloorArguments;
use connection::{Connection, Target, between};

pub(crate) fn run(arguments: &FloorArguments) -> anyhow::Result<ExitCode> {
    let files = files_below(&arguments.dir)?;
    let target = Target {
        address: arguments.endpoint_url.trim_start_matches("http://"),
        path: format!("/{}/{}", arguments.bucket, arguments.prefix),
    };
    let part_bytes = arguments.part_mib << 20;
    let uploads = open_uploads(&target, &files, part_bytes)?;
    let pieces = pieces(&files, part_bytes);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1))
            .map(|_| scope.spawn(|| send_pieces(&target, &files, &pieces, &next, &uploads)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok(ExitCode::SUCCESS)
}

struct Source {
    path: PathBuf,
    /// Below the folder.
    key: String,
    size_bytes: u64,
}

/// A whole file, or a part of one.
struct Piece {
    file: usize,
    /// 0 for a whole file.
    part_number: usize,
    offset: u64,
    size_bytes: u64,
}

struct Upload {
    id: String,
    parts: usize,
    /// The ETags of those that have arrived.
    etags: Mutex<BTreeMap<usize, String>>,
}

fn files_below(dir: &Path) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let key = path
                .strip_prefix(dir)?
                .to_str()
                .context("a name is no text")?
                .to_owned();
            let size_bytes = entry.metadata()?.len();
            files.push(Source {
                path,
                key,
                size_bytes,
            });
        }
    }
    Ok(files)
}

fn pieces(files: &[Source], part_bytes: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let is_whole = file.size_bytes <= part_bytes;
        let step = if is_whole {
            file.size_bytes.max(1)
        } else {
            part_bytes
        };
        for (part, offset) in (0..file.size_bytes.max(1))
            .step_by(usize::try_from(step).unwrap_or(usize::MAX))
            .enumerate()
        {
            pieces.push(Piece {
                file: index,
                part_number: if is_whole { 0 } else { part + 1 },
                offset,
                size_bytes: step.min(file.size_bytes - offset),
            });
        }
    }
    pieces
}

fn open_uploads(
    target: &Target<'_>,
    files: &[Source],
    part_bytes: u64,
) -> anyhow::Result<BTreeMap<usize, Upload>> {
    let mut uploads = BTreeMap::new();
    let mut connection = None;
    for (index, file) in files.iter().enumerate() {
        if file.size_bytes <= part_bytes {
            continue;
        }
        let connection = match &mut connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(target)?),
        };
        let answer = connection.ask("POST", &format!("{}?uploads", file.key), b"")?;
        let id = between(&answer.body, "<UploadId>", "</UploadId>").context("no upload id")?;
        let upload = Upload {
            id: id.to_owned(),
            parts: usize::try_from(file.size_bytes.div_ceil(part_bytes))?,
            etags: Mutex::default(),
        };
        uploads.insert(index, upload);
    }
    Ok(uploads)
}

fn send_pieces(
    target: &Target<'_>,
    files: &[Source],
    pieces: &[Piece],
    next: &AtomicUsize,
    uploads: &BTreeMap<usize, Upload>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(target)?;
    while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
        let Some(file) = files.get(piece.file) else { break };
        let upload = uploads.get(&piece.file).filter(|_| piece.part_number > 0);
        let Some(upload) = upload else {
            connection.send(&file.key, &file.path, piece.offset, piece.size_bytes)?;
            continue;
        };
        let query = format!(
            "{}?partNumber={}&uploadId={}",
            file.key, piece.part_number, upload.id
        );
        let answer = connection.send(&query, &file.path, piece.offset, piece.size_bytes)?;
        let mut etags = upload.etags.lock().unwrap_or_else(PoisonError::into_inner);
        etags.insert(piece.part_number, answer.etag);
        if etags.len() == upload.parts {
            let document = document(&etags);
            connection.ask(
                "POST",
                &format!("{}?uploadId={}", file.key, upload.id),
                document.as_bytes(),
            )?;
        }
    }
    Ok(())
}

fn document(etags: &BTreeMap<usize, String>) -> String {
    let parts = etags
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    let parts: String = parts.collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_go_in_parts_and_empty_ones_whole() {
        let source = |size_bytes| Source {
            path: PathBuf::new(),
            key: String::new(),
            size_bytes,
        };
        let pieces = pieces(&[source(0), source(10), source(25)], 10);
        let seen: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.file, piece.part_number, piece.offset, piece.size_bytes))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 0, 0, 0),
                (1, 0, 0, 10),
                (2, 1, 0, 10),
                (2, 2, 10, 10),
                (2, 3, 20, 5)
            ]
        );
    }
}
