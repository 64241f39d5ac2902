//! Writes whose answer is lost, empty or an error in disguise.

use crate::faulty::{Act, BODY, Faulty, Seen, answer, options, with_token};
use crate::servers::ours;
use bytes::Bytes;
use http::Method;
use storage::{Bucket, StorageErrorKind, UploadId, WriteOptions};

/// A bucket of the development server, a way to it through a faulty one, and a part that was sent.
struct Started {
    direct: Bucket,
    faulty: Faulty,
    through: Bucket,
    upload: UploadId,
    part: storage::Part,
}

async fn started(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Started {
    let direct = ours().await.bucket;
    let faulty = Faulty::start(script).await;
    let through = faulty.bucket(direct.name());
    let upload = direct.create_multipart("object", &with_token()).await.unwrap();
    let checksum = options().checksum;
    let part = direct
        .upload_part("object", &upload, 1, Bytes::from_static(BODY), &checksum)
        .await
        .unwrap();
    Started {
        direct,
        faulty,
        through,
        upload,
        part,
    }
}

impl Started {
    async fn complete(&self) -> Result<storage::Stored, storage::StorageError> {
        let parts = std::slice::from_ref(&self.part);
        self.through
            .complete_multipart("object", &self.upload, parts, &with_token(), 9)
            .await
    }
}

#[tokio::test]
async fn an_error_inside_a_good_answer_is_an_error() {
    let inside = |code: &'static str| {
        move |count, _: &Seen| match count {
            0 => answer(
                200,
                &[],
                &format!("<?xml version=\"1.0\"?>\n  <Error><Code>{code}</Code></Error>"),
            ),
            _ => Act::Forward,
        }
    };
    let started_passing = started(inside("InternalError")).await;
    assert_eq!(started_passing.complete().await.unwrap().attempts, 2);
    let started_lasting = started(inside("InvalidPart")).await;
    let error = started_lasting.complete().await.unwrap_err();
    assert_eq!((error.code(), error.attempts()), (Some("InvalidPart"), 1));
    assert_eq!(started_lasting.direct.head("object").await.unwrap(), None);
}

#[tokio::test]
async fn a_lost_answer_to_complete_is_settled_by_the_object() {
    let started = started(|count, _| {
        if count == 0 {
            Act::ForwardAndLose
        } else {
            Act::Forward
        }
    })
    .await;
    let stored = started.complete().await.unwrap();
    assert_eq!(stored.checksum, Some(options().checksum));
    assert_eq!(stored.attempts, 2);
    let methods: Vec<Method> = started
        .faulty
        .seen()
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(methods, [Method::POST, Method::POST, Method::HEAD]);
    assert_eq!(
        started.direct.head("object").await.unwrap().unwrap().size_bytes,
        9
    );
}

#[tokio::test]
async fn an_empty_answer_to_complete_is_settled_by_the_object() {
    let empty = |count, _: &Seen| {
        if count == 0 {
            answer(200, &[], "")
        } else {
            Act::Forward
        }
    };
    let unfinished = started(empty).await;
    let error = unfinished.complete().await.unwrap_err();
    assert_eq!(
        error.kind(),
        StorageErrorKind::InvalidResponse,
        "there is no object: {error}"
    );
    let parts = std::slice::from_ref(&unfinished.part);
    let direct = &unfinished.direct;
    direct
        .complete_multipart("object", &unfinished.upload, parts, &with_token(), 9)
        .await
        .unwrap();
    let again = Faulty::start(empty).await.bucket(direct.name());
    let stored = again
        .complete_multipart("object", &unfinished.upload, parts, &with_token(), 9)
        .await
        .unwrap();
    assert_eq!(stored.checksum, Some(options().checksum));
}

#[tokio::test]
async fn a_wrong_checksum_in_the_answer_to_complete_is_settled_by_the_object() {
    let wrong = |_, seen: &Seen| match seen.method {
        Method::POST => Act::ForwardAndAnswer(
            "<CompleteMultipartUploadResult><ETag>\"a-1\"</ETag><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>\
             <ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>",
        ),
        _ => Act::Forward,
    };
    let right = started(wrong).await;
    assert_eq!(right.complete().await.unwrap().checksum, Some(options().checksum));
    // And where the object tells the same, it holds other bytes.
    let other = started(move |count, seen| match seen.method {
        Method::HEAD => answer(
            200,
            &[
                ("content-length", "9"),
                ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            ],
            "123456789",
        ),
        _ => wrong(count, seen),
    })
    .await;
    let error = other.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::ChecksumMismatch);
}

#[tokio::test]
async fn somebody_elses_object_does_not_settle_complete() {
    let started = started(|_, _| Act::Forward).await;
    started
        .direct
        .abort_multipart("object", &started.upload)
        .await
        .unwrap();
    let theirs = WriteOptions {
        token: Some("session/2".to_owned()),
        ..options()
    };
    started
        .direct
        .put("object", Bytes::from_static(BODY), &theirs)
        .await
        .unwrap();
    assert_eq!(
        started.complete().await.unwrap_err().kind(),
        StorageErrorKind::NoSuchUpload
    );
}

#[tokio::test]
async fn a_lost_answer_to_put_is_settled_by_the_object() {
    let direct = ours().await.bucket;
    let faulty = Faulty::start(|count, _| {
        if count == 0 {
            Act::ForwardAndLose
        } else {
            Act::Forward
        }
    })
    .await;
    let through = faulty.bucket(direct.name());
    // The repetition meets the object that the first attempt made.
    let mut exclusive = with_token();
    exclusive.if_none_match = true;
    let stored = through
        .put("object", Bytes::from_static(BODY), &exclusive)
        .await
        .unwrap();
    assert_eq!(stored.checksum, Some(exclusive.checksum.clone()));
    assert_eq!(stored.attempts, 2);
    // And where there is no second attempt, the object alone tells.
    let faulty = Faulty::start(|count, _| {
        if count == 0 {
            Act::ForwardAndLose
        } else {
            Act::Forward
        }
    })
    .await;
    let once = faulty.bucket(direct.name()).with_max_attempts(1);
    let stored = once
        .put("another", Bytes::from_static(BODY), &with_token())
        .await
        .unwrap();
    assert_eq!(stored.checksum, Some(exclusive.checksum));
}
