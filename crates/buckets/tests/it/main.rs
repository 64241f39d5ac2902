//! Objects that are written piece by piece, against a server that can be made to misbehave.

// Clippy spares the tests themselves, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use buckets::ObjectWriter;
use dev_stack::s3::Trouble;
use dev_stack::{S3Options, S3Server};
use futures::StreamExt as _;
use storage::{Bucket, BucketConfig, Credentials, StorageErrorKind};
use tempfile::TempDir;

const PART: usize = 8 << 20;

async fn store() -> (S3Server, Bucket, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(S3Options::in_folder(folder.path()))
        .await
        .unwrap();
    server.create_bucket("bucket").unwrap();
    let credentials = Credentials::Static {
        access_key_id: server.access_key_id().to_owned(),
        secret_access_key: server.secret_access_key().to_owned().into(),
        session_token: None,
    };
    let mut config = BucketConfig::new("bucket", "us-east-1", credentials);
    config.endpoint_url = Some(server.endpoint_url().parse().unwrap());
    (server, Bucket::open(config).unwrap(), folder)
}

async fn writer(bucket: &Bucket) -> ObjectWriter {
    ObjectWriter::open(
        bucket.clone(),
        "a/receipt.json".into(),
        "token".into(),
        "application/json",
    )
    .await
    .unwrap()
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn what_is_written_in_pieces_arrives_whole_whatever_its_size() {
    let (_server, bucket, _folder) = store().await;
    for (size, parts) in [(0, 1), (10, 1), (PART, 1), (PART + 1, 2), (2 * PART + 77, 3)] {
        let bytes = bytes(size);
        let mut object = writer(&bucket).await;
        for piece in bytes.chunks(300_001) {
            object.write(piece).await.unwrap();
        }
        let stored = object.finish().await.unwrap();
        assert!(stored.checksum.is_some(), "{size}");
        assert!(stored.etag.unwrap().ends_with(&format!("-{parts}")), "{size}");
        let mut read = bucket.get("a/receipt.json").await.unwrap();
        assert_eq!(read.info.content_type.as_deref(), Some("application/json"));
        let mut found = Vec::new();
        while let Some(piece) = read.body.next().await {
            found.extend_from_slice(&piece.unwrap());
        }
        assert!(found == bytes, "{size}");
        assert!(bucket.list_multipart_uploads("").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_the_store_does_not_take_leaves_nothing_open_once_it_is_aborted() {
    let (server, bucket, _folder) = store().await;
    let bucket = bucket.with_max_attempts(1);
    let mut object = writer(&bucket).await;
    object.write(&bytes(PART + 1)).await.unwrap();
    assert_eq!(bucket.list_multipart_uploads("").await.unwrap().len(), 1);
    server.set_trouble(Trouble {
        failed_per_mille: 1_000,
        ..Trouble::default()
    });
    // What is sent while the server refuses to read it may end the connection before the answer arrives.
    assert!(object.write(&bytes(PART)).await.unwrap_err().is_retryable());
    server.set_trouble(Trouble::default());
    object.abort().await.unwrap();
    assert!(bucket.list_multipart_uploads("").await.unwrap().is_empty());
    assert!(bucket.head("a/receipt.json").await.unwrap().is_none());
    object.abort().await.unwrap();
}

#[tokio::test]
async fn what_was_closed_by_others_never_becomes_an_object() {
    let (_server, bucket, _folder) = store().await;
    let mut late = writer(&bucket).await;
    late.write(b"the older one").await.unwrap();
    for upload in bucket.list_multipart_uploads("a/").await.unwrap() {
        bucket
            .abort_multipart(&upload.key, &upload.upload_id)
            .await
            .unwrap();
    }
    let mut newer = writer(&bucket).await;
    newer.write(b"newer").await.unwrap();
    newer.finish().await.unwrap();
    let refused = late.finish().await.unwrap_err();
    assert_eq!(refused.kind(), StorageErrorKind::NoSuchUpload);
    assert_eq!(
        bucket.head("a/receipt.json").await.unwrap().unwrap().size_bytes,
        5
    );
}
