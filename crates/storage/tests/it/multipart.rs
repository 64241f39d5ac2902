//! What every S3 server must do with multipart uploads.

use crate::cases::{KINDS, content, options};
use crate::servers::{Store, noise};
use bytes::Bytes;
use domain::ChecksumKind;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use storage::{Bucket, Checksum, Hasher, Part, UploadId, WriteOptions};

const PART_BYTES: usize = 5 << 20;

async fn send_parts(
    bucket: &Bucket,
    key: &str,
    upload: &UploadId,
    body: &Bytes,
    kind: ChecksumKind,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, start) in (1..).zip((0..body.len()).step_by(PART_BYTES)) {
        let piece = body.slice(start..body.len().min(start + PART_BYTES));
        let checksum = Hasher::of(kind, &piece);
        let part = bucket
            .upload_part(key, upload, number, piece, &checksum)
            .await
            .unwrap();
        assert_eq!(part.checksum, Some(checksum), "{kind} part {number}");
        parts.push(part);
    }
    parts
}

fn combined(kind: ChecksumKind, parts: &[Part]) -> (Checksum, bool) {
    let parts: Vec<(Checksum, u64)> = parts
        .iter()
        .map(|part| (part.checksum.clone().unwrap(), part.size_bytes))
        .collect();
    Checksum::combine_parts(kind, &parts)
}

pub(crate) async fn a_multipart_upload_becomes_one_object(store: &Store) {
    let bucket = &store.bucket;
    let body = noise(2 * PART_BYTES + 1_234, 9);
    for kind in KINDS {
        let key = format!("large object/{kind} +%");
        let mut options = WriteOptions::new(Checksum {
            kind,
            value: Vec::new(),
        });
        options.token = Some("session/7".to_owned());
        let upload = bucket.create_multipart(&key, &options).await.unwrap();
        let parts = send_parts(bucket, &key, &upload, &body, kind).await;
        let listed = bucket.list_parts(&key, &upload).await.unwrap();
        let numbered = |parts: &[Part]| -> Vec<(u32, String, u64)> {
            parts
                .iter()
                .map(|part| (part.number, part.etag.clone(), part.size_bytes))
                .collect()
        };
        assert_eq!(numbered(&listed), numbered(&parts));
        for (told, sent) in listed.iter().zip(&parts) {
            assert!(told.checksum.is_none() || told.checksum == sent.checksum);
        }
        let (checksum, composite) = combined(kind, &parts);
        if !composite {
            assert_eq!(checksum, Hasher::of(kind, &body));
        }
        options.checksum = checksum.clone();
        let stored = bucket
            .complete_multipart(&key, &upload, &parts, &options, body.len() as u64)
            .await
            .unwrap();
        assert_eq!(stored.checksum, Some(checksum), "{kind}");
        let info = bucket.head(&key).await.unwrap().unwrap();
        assert_eq!((info.size_bytes, info.token), (body.len() as u64, options.token));
        assert_eq!(info.etag, stored.etag);
        assert!(content(bucket, &key).await == body);
        assert_eq!(bucket.list_multipart_uploads("").await.unwrap(), []);
    }
}

pub(crate) async fn a_multipart_upload_is_kept_until_aborted(store: &Store) {
    let bucket = &store.bucket;
    let key = "open uploads/\u{e9} & co";
    let options = options(b"");
    let upload = bucket.create_multipart(key, &options).await.unwrap();
    let piece = noise(1_000, 3);
    let checksum = Hasher::of(ChecksumKind::Crc64nvme, &piece);
    bucket
        .upload_part(key, &upload, 1, piece, &checksum)
        .await
        .unwrap();
    let open = bucket.list_multipart_uploads("open uploads/").await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].key.as_str(), &open[0].upload_id), (key, &upload));
    assert!(open[0].initiated.is_some());
    assert_eq!(bucket.list_multipart_uploads("elsewhere/").await.unwrap(), []);
    bucket.abort_multipart(key, &upload).await.unwrap();
    bucket.abort_multipart(key, &upload).await.unwrap();
    assert_eq!(bucket.list_multipart_uploads("").await.unwrap(), []);
    assert_eq!(bucket.head(key).await.unwrap(), None);
}

pub(crate) async fn many_parts_are_listed_in_pages(store: &Store) {
    let bucket = &store.bucket;
    let upload = &bucket.create_multipart("parts", &options(b"")).await.unwrap();
    let checksum = &Hasher::of(ChecksumKind::Crc64nvme, b"x");
    stream::iter(1..=1_003)
        .map(|number| bucket.upload_part("parts", upload, number, Bytes::from_static(b"x"), checksum))
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let numbers: Vec<u32> = bucket
        .list_parts("parts", upload)
        .await
        .unwrap()
        .iter()
        .map(|part| part.number)
        .collect();
    assert_eq!(numbers, (1..=1_003).collect::<Vec<_>>());
}
