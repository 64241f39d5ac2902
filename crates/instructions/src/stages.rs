//! The stages. Each tells for how many files it did its work.

use crate::sink::Sink;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use database::jobs::FileOutcome;
use database::measured::outcome_bytes;
use domain::object_key::PathText;
use domain::{ChecksumKind, CompanyId, FileStatus, SessionId, SessionSettings, Symlinks};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use storage::measured::signed_put;
use storage::{Bucket, BucketConfig, Credentials, Hasher, WriteOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transfer::measured::Reader;
use transfer::{
    Engine, Events, Filter, FoundFile, Lost, Outcome, PlannedFile, ScanEvent, ScanOptions, SourceRoot, Stop,
    UploadPlan, scan,
};

const FILE_BYTES: usize = 4096;
/// Files have come to rest by then.
const AT_REST: Duration = Duration::from_secs(2);
const FOLDER_FILES: usize = 32;
const KEY_PREFIX: &str = "prefix/C1/";
const KIND: ChecksumKind = ChecksumKind::Crc64nvme;
/// What a worker has by default.
const CONCURRENCY: usize = 64;
const MEMORY_BYTES: u64 = 256 << 20;

/// No stage: makes the files that the others read, and waits until they may be read: one that was changed just now is not.
pub fn tree(files: usize, dir: &Path) -> anyhow::Result<usize> {
    for number in 0..files {
        let path = dir.join(path(number));
        std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
        std::fs::write(path, content())?;
    }
    let begun_at = Instant::now();
    while let Err(error) = read(files, dir) {
        if begun_at.elapsed() > AT_REST {
            return Err(error);
        }
    }
    Ok(files)
}

/// The scan of a directory.
pub async fn walk(dir: &Path) -> anyhow::Result<Vec<FoundFile>> {
    let options = ScanOptions {
        source_path: String::new(),
        filter: Filter::compile(&[], &[])?,
        symlinks: Symlinks::Skip,
        in_key_order: false,
    };
    let mut walk = scan(&SourceRoot::open(dir)?, options, CancellationToken::new());
    let mut found = Vec::new();
    while let Some(events) = walk.events.recv().await {
        for event in events {
            let ScanEvent::File(file) = event else {
                bail!("there is something that cannot be sent");
            };
            found.push(file);
        }
    }
    walk.result.await??;
    Ok(found)
}

/// Opening, reading and hashing files.
pub fn read(files: usize, dir: &Path) -> anyhow::Result<usize> {
    let reader = Reader::open(dir)?;
    for number in 0..files {
        let path = PathText::from_bytes(path(number).as_bytes());
        let read = reader.read_by_openat(&path, FILE_BYTES as u64, KIND);
        black_box(read.context("files here are not read from memory")?);
    }
    Ok(files)
}

/// The checksum of a file's bytes.
pub fn checksum(files: usize) -> usize {
    let bytes = content();
    for _ in 0..files {
        black_box(Hasher::of(KIND, black_box(&bytes)));
    }
    files
}

/// The signed request of each file, which is not sent.
pub async fn sign(files: usize) -> anyhow::Result<usize> {
    let (bucket, body) = (bucket(80)?, content());
    let options = options(&body);
    for number in 0..files {
        black_box(signed_put(&bucket, &key(number), body.clone(), &options).await?);
    }
    Ok(files)
}

/// The whole request of each file, to the answer.
pub async fn put(files: usize) -> anyhow::Result<usize> {
    let sink = Sink::start().await?;
    let (bucket, body) = (bucket(sink.port)?, content());
    let options = options(&body);
    for number in 0..files {
        let stored = bucket.put(&key(number), body.clone(), &options).await?;
        ensure!(
            stored.checksum.as_ref() == Some(&options.checksum),
            "not confirmed"
        );
    }
    Ok(files)
}

/// All of it: the walk, and an upload of what it finds.
pub async fn engine(dir: &Path) -> anyhow::Result<usize> {
    let sink = Sink::start().await?;
    let plan = UploadPlan {
        company_id: CompanyId::new(),
        root: SourceRoot::open(dir)?,
        source_path: String::new(),
        key_prefix: KEY_PREFIX.to_owned(),
        settings: SessionSettings::default(),
        token_prefix: SessionId::new().to_string(),
        bucket: bucket(sink.port)?,
        is_patient: false,
    };
    let planned = |(number, file): (i64, FoundFile)| PlannedFile {
        number,
        path: file.path,
        size_bytes: file.size_bytes,
        upload_id: None,
        multipart_part_size_bytes: None,
        attempts: 0,
        existing: None,
    };
    let files = (1..).zip(walk(dir).await?).map(planned).collect();
    let uploaded = Arc::new(Uploaded::default());
    let (_sender, stop) = watch::channel(Stop::Run);
    let summary = Engine::new(CONCURRENCY, MEMORY_BYTES)
        .upload(Arc::new(plan), files, Arc::clone(&uploaded), stop)
        .await;
    ensure!(summary.fatal.is_none(), "{summary:?}");
    Ok(uploaded.0.load(Ordering::Relaxed))
}

/// What of a flush is done on this side of the connection to Postgres.
pub fn record(files: usize) -> anyhow::Result<usize> {
    let now = SystemTime::now();
    let checksum = Hasher::of(KIND, &content()).to_string();
    let outcomes: Vec<FileOutcome> = (1..)
        .take(files)
        .map(|number| FileOutcome {
            number,
            status: FileStatus::Uploaded,
            planned_size_bytes: FILE_BYTES as i64,
            size_bytes: FILE_BYTES as i64,
            modified_at: Some(now.into()),
            attempts: 1,
            etag: Some("d41d8cd98f00b204e9800998ecf8427e".to_owned()),
            checksum: Some(checksum.clone()),
            error: None,
            started_at: now.into(),
            finished_at: now.into(),
        })
        .collect();
    black_box(outcome_bytes(SessionId::new(), &outcomes)?);
    Ok(files)
}

fn content() -> Bytes {
    Bytes::from(vec![7; FILE_BYTES])
}

/// Of one length, however many there are, and few in a folder, so that their order on the disk hardly matters.
fn path(number: usize) -> String {
    format!("folder-{:04}/file-{number:06}.bin", number / FOLDER_FILES)
}

fn key(number: usize) -> String {
    format!("{KEY_PREFIX}{}", path(number))
}

fn options(body: &[u8]) -> WriteOptions {
    WriteOptions {
        token: Some(format!("{}/123456", SessionId::new())),
        ..WriteOptions::new(Hasher::of(KIND, body))
    }
}

fn bucket(port: u16) -> anyhow::Result<Bucket> {
    let credentials = Credentials::Static {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned().into(),
        session_token: None,
    };
    Ok(Bucket::open(BucketConfig {
        endpoint_url: Some(format!("http://127.0.0.1:{port}").parse()?),
        ..BucketConfig::new("bucket", "eu-central-1", credentials)
    })?)
}

#[derive(Default)]
struct Uploaded(AtomicUsize);

impl Events for Uploaded {
    fn progress(&self, _number: i64, _sent_bytes_delta: i64) {}

    fn started(&self, _file: &PlannedFile) {}

    async fn finished(&self, outcome: Outcome) {
        self.0.fetch_add(
            usize::from(outcome.status == FileStatus::Uploaded),
            Ordering::Relaxed,
        );
    }

    async fn multipart_opened(&self, _: i64, _: &str, _: u64) -> Result<(), Lost> {
        Ok(())
    }
}
