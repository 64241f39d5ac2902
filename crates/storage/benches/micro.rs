//! What of a request is not the network: checksums and signatures. `make microbench`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use domain::ChecksumKind;
use storage::measured::signed_put;
use storage::{Bucket, BucketConfig, Credentials, Hasher, WriteOptions};

const SIZES: [usize; 3] = [4 << 10, 1 << 20, 8 << 20];

fn main() {
    divan::main();
}

#[divan::bench(args = SIZES)]
fn checksum_crc64nvme(bencher: Bencher, size: usize) {
    checksum(bencher, ChecksumKind::Crc64nvme, size);
}

#[divan::bench(args = SIZES)]
fn checksum_crc32c(bencher: Bencher, size: usize) {
    checksum(bencher, ChecksumKind::Crc32c, size);
}

#[divan::bench(args = SIZES)]
fn checksum_sha256(bencher: Bencher, size: usize) {
    checksum(bencher, ChecksumKind::Sha256, size);
}

fn checksum(bencher: Bencher, kind: ChecksumKind, size: usize) {
    let bytes = vec![7; size];
    bencher
        .counter(BytesCount::new(size))
        .bench(|| Hasher::of(kind, divan::black_box(&bytes)));
}

/// The signed request of one small file.
#[divan::bench]
fn sign(bencher: Bencher) {
    let credentials = Credentials::Static {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned().into(),
        session_token: None,
    };
    let bucket = Bucket::open(BucketConfig::new("bucket", "eu-central-1", credentials)).unwrap();
    let body = Bytes::from(vec![7; 4 << 10]);
    let options = WriteOptions {
        token: Some("0198c0de-0000-7000-8000-000000000000/123456".to_owned()),
        ..WriteOptions::new(Hasher::of(ChecksumKind::Crc64nvme, &body))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    bencher.bench_local(|| {
        let signed = signed_put(
            &bucket,
            "prefix/C1/folder/file-000001.bin",
            body.clone(),
            &options,
        );
        runtime.block_on(signed).unwrap()
    });
}
