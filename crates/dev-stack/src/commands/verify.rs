//! Compares a directory with what arrived in the bucket, byte for byte by SHA-256, over the S3 protocol.
//!
//! A witness to the product, so it shares nothing with it but the rule that names objects.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::digest::{Context, Digest, SHA256};
use dev_stack::fetch::ObjectReader;
use domain::object_key::{PathText, object_key};
use futures::{StreamExt as _, TryStreamExt as _};

/// Files compared at the same time.
const CONCURRENCY: usize = 8;

/// What the comparison found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Files whose object has the same bytes.
    pub(super) same: u64,
    /// Bytes in them.
    pub(super) size_bytes: u64,
    /// Files that are missing or different in the bucket, each with what is wrong.
    pub(super) wrong: Vec<String>,
}

/// Compares every regular file below `source` with its object below `prefix`.
pub(super) async fn verify(
    source: &Path,
    reader: ObjectReader,
    bucket: &str,
    prefix: &str,
) -> anyhow::Result<Verdict> {
    let root = source.to_path_buf();
    let files = tokio::task::spawn_blocking(move || regular_files(&root)).await??;
    let reader = Arc::new(reader);
    let comparisons = files.into_iter().map(|file| {
        let reader = Arc::clone(&reader);
        async move {
            let below = file.strip_prefix(source)?;
            let text = PathText::from_bytes(below.as_os_str().as_bytes()).text;
            let key = object_key(prefix, &text)?;
            compare(file, &reader, bucket, &key)
                .await
                .map(|result| (text, result))
        }
    });
    futures::stream::iter(comparisons)
        .buffer_unordered(CONCURRENCY)
        .try_fold(Verdict::default(), async |mut verdict, (text, result)| {
            match result {
                Ok(size_bytes) => {
                    verdict.same += 1;
                    verdict.size_bytes += size_bytes;
                }
                Err(reason) => verdict.wrong.push(format!("{text}: {reason}")),
            }
            Ok(verdict)
        })
        .await
}

/// The size of a file whose object has the same bytes, or what is wrong.
async fn compare(
    file: PathBuf,
    reader: &ObjectReader,
    bucket: &str,
    key: &str,
) -> anyhow::Result<Result<u64, String>> {
    let ours = tokio::task::spawn_blocking(move || digest_file(&file));
    let mut context = Context::new(&SHA256);
    let found = reader.read(bucket, key, |bytes| context.update(bytes)).await?;
    let (expected, size_bytes) = match ours.await? {
        Ok(digest) => digest,
        Err(error) => return Ok(Err(format!("cannot be read: {error}"))),
    };
    Ok(if !found {
        Err("there is no object".to_owned())
    } else if context.finish().as_ref() == expected.as_ref() {
        Ok(size_bytes)
    } else {
        Err("the object has other bytes".to_owned())
    })
}

fn digest_file(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut size_bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((context.finish(), size_bytes));
        }
        context.update(buffer.get(..read).unwrap_or_default());
        size_bytes += read as u64;
    }
}

/// All regular files below `root`; symbolic links and special files are not followed, as in an upload.
fn regular_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dev_stack::{S3Options, S3Server};

    #[tokio::test]
    async fn what_is_missing_or_different_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir_all(source.join("a b")).unwrap();
        std::fs::write(source.join("a b/same+%.txt"), b"same").unwrap();
        std::fs::write(source.join("different"), b"mine").unwrap();
        std::fs::write(source.join("missing\n"), b"").unwrap();
        let objects = folder.path().join("s3/bucket/objects/C1");
        let server = S3Server::start(S3Options::in_folder(folder.path().join("s3")))
            .await
            .unwrap();
        server.create_bucket("bucket").unwrap();
        server.stop().await;
        // Objects by hand: the server reads its folder when it starts.
        for (key, file, bytes) in [
            ("C1/a b/same+%.txt", "a b/same+%25.txt", "same"),
            ("C1/different", "different", "theirs"),
        ] {
            std::fs::create_dir_all(objects.join(file).parent().unwrap()).unwrap();
            std::fs::write(objects.join(file), bytes).unwrap();
            let meta = folder.path().join("s3/bucket/.meta/00");
            std::fs::create_dir_all(&meta).unwrap();
            let record = format!(
                r#"{{"key":"{key}","size_bytes":{},"etag":"e","modified_ms":0,"sums":{{}},"attributes":{{}}}}"#,
                bytes.len()
            );
            std::fs::write(meta.join(format!("{}.json", file.len())), record).unwrap();
        }
        let server = S3Server::start(S3Options::in_folder(folder.path().join("s3")))
            .await
            .unwrap();
        let reader = ObjectReader::new(
            &server.endpoint_url(),
            server.access_key_id(),
            server.secret_access_key(),
        );
        let mut verdict = verify(&source, reader, "bucket", "C1/").await.unwrap();
        verdict.wrong.sort();
        assert_eq!((verdict.same, verdict.size_bytes), (1, 4));
        assert_eq!(
            verdict.wrong,
            [
                "different: the object has other bytes",
                "missing%0A: there is no object"
            ]
        );
        let wrong_key = ObjectReader::new(&server.endpoint_url(), server.access_key_id(), "other");
        assert!(verify(&source, wrong_key, "bucket", "C1/").await.is_err());
    }
}
