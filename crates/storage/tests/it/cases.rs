//! What every S3 server must do with this client.

use crate::servers::{Store, credentials, noise};
use bytes::Bytes;
use domain::ChecksumKind;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::BTreeSet;
use storage::{Bucket, Hasher, ListFrom, StorageErrorKind, UploadId, WriteOptions};

pub(crate) const KINDS: [ChecksumKind; 3] = [
    ChecksumKind::Crc64nvme,
    ChecksumKind::Crc32c,
    ChecksumKind::Sha256,
];

pub(crate) fn options(body: &[u8]) -> WriteOptions {
    WriteOptions::new(Hasher::of(ChecksumKind::Crc64nvme, body))
}

pub(crate) async fn content(bucket: &Bucket, key: &str) -> Vec<u8> {
    let body = bucket.get(key).await.unwrap().body;
    body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap()
}

async fn listed(bucket: &Bucket, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let from = next.as_deref().map_or(ListFrom::Start, ListFrom::Page);
        let page = bucket.list(prefix, from).await.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        next = page.next;
        if next.is_none() {
            return keys;
        }
    }
}

fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "with space",
        "a+b",
        "100%",
        "%41 is not A",
        "%2F",
        "hash#tag",
        "what?now=1&then=2",
        "double\"quote",
        "single'quote",
        "star*(paren)!",
        "semi;colon:comma,at@dollar$",
        "braces{}[]|^`<>",
        "back\\slash",
        "ampersand & co",
        "nfc-\u{e9}",
        "nfd-e\u{301}",
        "emoji-\u{1f600}\u{1f1e9}\u{1f1ea}",
        "trailing.",
        "...",
        ".hidden",
        "folder/inner folder/file+1.txt",
        "trailing space ",
        "~tilde_-.",
        "=",
        "日本語/ファイル",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("k".repeat(200) + "/" + &"l".repeat(823));
    keys
}

pub(crate) async fn odd_keys_arrive_exactly(store: &Store) {
    let keys = odd_keys();
    assert_eq!(keys.last().unwrap().len(), 1024);
    arrive_exactly(&store.bucket, &keys).await;
}

pub(crate) async fn control_characters_arrive_exactly(store: &Store) {
    let keys = ["line\nbreak", "tab\there", "\u{1}\u{1f}\u{7f}", "\r\n"].map(str::to_owned);
    arrive_exactly(&store.bucket, &keys).await;
}

async fn arrive_exactly(bucket: &Bucket, keys: &[String]) {
    for key in keys {
        let body = Bytes::from(format!("this is {key}"));
        let stored = bucket.put(key, body.clone(), &options(&body)).await.unwrap();
        assert!(stored.checksum.is_some(), "{key:?}");
    }
    let expected: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(
        listed(bucket, "").await.into_iter().collect::<BTreeSet<_>>(),
        expected
    );
    for key in keys {
        assert_eq!(
            content(bucket, key).await,
            format!("this is {key}").into_bytes(),
            "{key:?}"
        );
        assert!(listed(bucket, key).await.contains(key), "{key:?}");
        bucket.delete(key).await.unwrap();
        assert_eq!(bucket.head(key).await.unwrap(), None, "{key:?}");
    }
    assert_eq!(listed(bucket, "").await, Vec::<String>::new());
}

pub(crate) async fn an_empty_object_is_an_object(store: &Store) {
    let stored = store
        .bucket
        .put("empty", Bytes::new(), &options(b""))
        .await
        .unwrap();
    assert_eq!(stored.checksum, Some(Hasher::of(ChecksumKind::Crc64nvme, b"")));
    assert_eq!(store.bucket.head("empty").await.unwrap().unwrap().size_bytes, 0);
    assert_eq!(content(&store.bucket, "empty").await, b"");
}

pub(crate) async fn every_checksum_kind_is_confirmed(store: &Store) {
    for (seed, kind) in (1..).zip(KINDS) {
        for size in [1, 300_000] {
            let body = noise(size, seed);
            let checksum = Hasher::of(kind, &body);
            let stored = store
                .bucket
                .put("object", body.clone(), &WriteOptions::new(checksum.clone()))
                .await
                .unwrap();
            assert_eq!(stored.checksum, Some(checksum.clone()), "{kind} of {size}");
            assert_eq!(stored.attempts, 1);
            let info = store.bucket.head("object").await.unwrap().unwrap();
            assert_eq!(info.size_bytes, size as u64);
            assert_eq!(info.etag, stored.etag);
            // A store that keeps checksums must keep this one.
            if let Some(told) = info.checksum.filter(|told| told.kind == kind) {
                assert_eq!(told, checksum);
            }
            assert_eq!(content(&store.bucket, "object").await, body);
        }
    }
}

pub(crate) async fn a_wrong_checksum_is_refused(store: &Store) {
    let bucket = store.bucket.with_max_attempts(2);
    for kind in KINDS {
        let wrong = WriteOptions::new(Hasher::of(kind, b"other bytes"));
        let error = bucket
            .put("wrong", Bytes::from_static(b"these bytes"), &wrong)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::ChecksumMismatch, "{error}");
        assert_eq!(error.attempts(), 2);
        assert!(!error.is_permanent_for_bucket());
        assert_eq!(bucket.head("wrong").await.unwrap(), None);
        let upload = bucket.create_multipart("wrong", &wrong).await.unwrap();
        let part = bucket.upload_part(
            "wrong",
            &upload,
            1,
            Bytes::from_static(b"these bytes"),
            &wrong.checksum,
        );
        assert_eq!(part.await.unwrap_err().kind(), StorageErrorKind::ChecksumMismatch);
    }
}

pub(crate) async fn metadata_and_token_come_back(store: &Store) {
    let mut options = options(b"x");
    options.token = Some("01999999-0000-7000-8000-000000000000/42".to_owned());
    options.metadata = vec![("colour".to_owned(), "red and blue".to_owned())];
    options.content_type = Some("text/plain; charset=utf-8".to_owned());
    store
        .bucket
        .put("object", Bytes::from_static(b"x"), &options)
        .await
        .unwrap();
    let info = store.bucket.head("object").await.unwrap().unwrap();
    assert_eq!(info.token, options.token);
    assert_eq!(info.metadata["colour"], "red and blue");
    assert_eq!(info.content_type, options.content_type);
    for bad in ["two  spaces", " leading", "line\nbreak", "\u{e9}", ""] {
        options.metadata = vec![("colour".to_owned(), bad.to_owned())];
        let error = store
            .bucket
            .put("object", Bytes::new(), &options)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::InvalidRequest, "{bad:?}");
    }
}

pub(crate) async fn nothing_is_overwritten_when_forbidden(store: &Store) {
    let bucket = &store.bucket;
    let mut first = options(b"first");
    first.if_none_match = true;
    first.token = Some("session/1".to_owned());
    bucket
        .put("object", Bytes::from_static(b"first"), &first)
        .await
        .unwrap();

    let again = bucket
        .put("object", Bytes::from_static(b"first"), &first)
        .await
        .unwrap();
    assert_eq!(
        again.checksum,
        Some(first.checksum.clone()),
        "our own object is no obstacle"
    );

    let stranger = WriteOptions {
        token: Some("session/2".to_owned()),
        ..first.clone()
    };
    let error = bucket
        .put("object", Bytes::from_static(b"first"), &stranger)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::PreconditionFailed);
    let second = WriteOptions {
        checksum: Hasher::of(ChecksumKind::Crc64nvme, b"other"),
        ..first
    };
    let error = bucket
        .put("object", Bytes::from_static(b"other"), &second)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::PreconditionFailed);
    assert_eq!(content(bucket, "object").await, b"first");
}

pub(crate) async fn a_long_listing_comes_in_pages(store: &Store) {
    let bucket = &store.bucket;
    let keys: Vec<String> = (0..1_005).map(|n| format!("many/{n:05}")).collect();
    stream::iter(&keys)
        .map(|key| async move { bucket.put(key, Bytes::from_static(b"x"), &options(b"x")).await })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    bucket
        .put("other", Bytes::from_static(b"x"), &options(b"x"))
        .await
        .unwrap();
    let first = bucket.list("many/", ListFrom::Start).await.unwrap();
    assert_eq!(first.objects.len(), 1_000);
    assert_eq!(first.objects[0].size_bytes, 1);
    assert!(first.objects[0].etag.is_some());
    let second = first.next.as_deref().unwrap();
    let second = bucket.list("many/", ListFrom::Page(second)).await.unwrap();
    assert_eq!(second.next, None);
    let after = bucket.list("many/", ListFrom::After(&keys[999])).await.unwrap();
    assert_eq!(after, second);
    let between = bucket
        .list("many/", ListFrom::After("many/01003~"))
        .await
        .unwrap();
    assert_eq!(between.objects, second.objects[4..]);
    let found: Vec<String> = first
        .objects
        .into_iter()
        .chain(second.objects)
        .map(|object| object.key)
        .collect();
    assert_eq!(found, keys);
}

pub(crate) async fn what_is_missing_is_named(store: &Store) {
    let bucket = &store.bucket;
    bucket.head_bucket().await.unwrap();
    assert_eq!(bucket.head("missing").await.unwrap(), None);
    assert_eq!(
        bucket.get("missing").await.unwrap_err().kind(),
        StorageErrorKind::NoSuchKey
    );
    bucket.delete("missing").await.unwrap();
    let upload = UploadId::new("missing");
    let error = bucket.list_parts("missing", &upload).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoSuchUpload, "{error}");

    let mut config = store.config.clone();
    config.bucket = "no-such-bucket".to_owned();
    let nowhere = Bucket::open(config).unwrap();
    for error in [
        nowhere
            .put("x", Bytes::from_static(b"x"), &options(b"x"))
            .await
            .unwrap_err(),
        nowhere.create_multipart("x", &options(b"")).await.unwrap_err(),
        nowhere.list("", ListFrom::Start).await.unwrap_err(),
        nowhere.head_bucket().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StorageErrorKind::NoSuchBucket, "{error}");
        assert!(error.is_permanent_for_bucket() && !error.is_retryable());
        assert_eq!(error.attempts(), 1);
        assert!(error.to_string().contains("no-such-bucket"), "{error}");
    }
}

pub(crate) async fn refused_credentials_are_permanent(store: &Store) {
    for (id, secret, code) in [
        ("nobody", "testsecret", "InvalidAccessKeyId"),
        ("test", "a-wrong-secret", "SignatureDoesNotMatch"),
    ] {
        let mut config = store.config.clone();
        config.credentials = credentials(id, secret);
        let bucket = Bucket::open(config).unwrap();
        let error = bucket
            .put("x", Bytes::from_static(b"x"), &options(b"x"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::AccessDenied, "{error}");
        assert_eq!(error.code(), Some(code));
        assert!(error.is_permanent_for_bucket() && !error.is_retryable());
        assert_eq!(error.attempts(), 1);
        assert!(!error.to_string().contains(secret) && !format!("{error:?}").contains(secret));
    }
}

pub(crate) async fn an_unknown_authority_is_not_trusted(store: &Store) {
    let mut config = store.config.clone();
    config.extra_root_certificates_pem = None;
    let error = Bucket::open(config).unwrap().head_bucket().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable, "{error}");
    assert_eq!(error.attempts(), 1, "asking again does not help: {error}");
}
