//! What of an upload is the file system: the walk, and the read of a small file. `make microbench`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use domain::object_key::PathText;
use domain::{ChecksumKind, Symlinks};
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use tokio_util::sync::CancellationToken;
use transfer::measured::Reader;
use transfer::{Filter, ScanOptions, SourceRoot, scan};

const FOLDERS: usize = 100;
const FOLDER_FILES: usize = 100;
const FILE_BYTES: usize = 4 << 10;

fn main() {
    divan::main();
}

/// 10,000 files in 100 folders.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn walk(bencher: Bencher) {
    let folder = tempdir().unwrap();
    for number in 0..FOLDERS {
        let below = folder.path().join(format!("folder-{number:03}"));
        std::fs::create_dir(&below).unwrap();
        for number in 0..FOLDER_FILES {
            std::fs::write(below.join(format!("file-{number:03}.bin")), "").unwrap();
        }
    }
    let root = SourceRoot::open(folder.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    bencher
        .counter(ItemsCount::new(FOLDERS * FOLDER_FILES))
        .bench_local(|| {
            let options = ScanOptions {
                source_path: String::new(),
                filter: Filter::compile(&[], &[]).unwrap(),
                symlinks: Symlinks::Skip,
                in_key_order: false,
            };
            let files = runtime.block_on(async {
                let mut walk = scan(&root, options, CancellationToken::new());
                while walk.events.recv().await.is_some() {}
                walk.result.await.unwrap().unwrap().files
            });
            assert_eq!(files, (FOLDERS * FOLDER_FILES) as u64);
        });
}

/// Opened, read and hashed, as it is done where no disk need be asked.
#[divan::bench]
fn read_4_kib(bencher: Bencher) {
    let (_folder, reader, path) = small_file();
    bencher.counter(BytesCount::new(FILE_BYTES)).bench_local(|| {
        reader
            .read(&path, FILE_BYTES as u64, ChecksumKind::Crc64nvme)
            .unwrap()
    });
}

/// A file that has come to rest: one that was changed just now is not read.
fn small_file() -> (TempDir, Reader, PathText) {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("file"), vec![7; FILE_BYTES]).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let path = PathText::from_bytes(b"file");
    let begun_at = std::time::Instant::now();
    while reader
        .read(&path, FILE_BYTES as u64, ChecksumKind::Crc64nvme)
        .is_none()
    {
        assert!(
            begun_at.elapsed() < Duration::from_secs(5),
            "files in {} are not read from memory: set TMPDIR to a directory on ext4, XFS, Btrfs or tmpfs",
            folder.path().display()
        );
    }
    (folder, reader, path)
}
