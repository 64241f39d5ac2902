//! Servers that misbehave in one way each.

use crate::faulty::{
    Act, BODY, CRC64NVME, ETAG, Faulty, answer, good_put, options, put, refusal, with_token,
};
use crate::servers::config;
use bytes::Bytes;
use domain::ChecksumKind;
use futures::TryStreamExt as _;
use http::Method;
use reqsign_core::time::Timestamp;
use std::time::{Duration, Instant};
use storage::{Bucket, Checksum, ListFrom, StorageErrorKind, UploadId, WriteOptions};
use tokio::net::TcpListener;

#[tokio::test]
async fn passing_failures_are_repeated_with_the_same_body() {
    let server = Faulty::start(|count, _| match count {
        0 => refusal(503, "SlowDown", "Please reduce your request rate."),
        1 => refusal(
            500,
            "InternalError",
            "We encountered an internal error. Please try again.",
        ),
        2 => Act::Lose,
        3 => refusal(400, "RequestTimeout", "Your socket connection was not read from."),
        _ => good_put(),
    })
    .await;
    let stored = put(&server.bucket("photos")).await.unwrap();
    assert_eq!(stored.attempts, 5);
    assert_eq!(stored.checksum, Some(options().checksum));
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.headers["content-length"] == "9")
    );
}

#[tokio::test]
async fn lasting_failures_are_not_repeated() {
    for (status, code, kind) in [
        (403, "AccessDenied", StorageErrorKind::AccessDenied),
        (400, "EntityTooLarge", StorageErrorKind::Other { status: 400 }),
        (501, "NotImplemented", StorageErrorKind::Other { status: 501 }),
        (412, "PreconditionFailed", StorageErrorKind::PreconditionFailed),
    ] {
        let server = Faulty::start(move |_, _| refusal(status, code, "No.")).await;
        let error = server
            .bucket("photos")
            .list("", ListFrom::Start)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.attempts(), error.is_retryable()),
            (kind, 1, false)
        );
        assert_eq!(
            error.to_string(),
            format!("list s3://photos: {code} ({status}): No. [request R1]")
        );
        assert!(!error.is_permanent_for_bucket());
    }
}

#[tokio::test]
async fn a_store_that_stays_busy_ends_the_attempts() {
    let server = Faulty::start(|_, _| answer(503, &[], "")).await;
    let error = put(&server.bucket("photos").with_max_attempts(3))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (StorageErrorKind::Throttled, 3));
    assert!(error.is_retryable());
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn retry_after_is_waited_for_but_not_for_ever() {
    let server = Faulty::start(|count, _| match count {
        0 => answer(503, &[("retry-after", "3600")], ""),
        _ => good_put(),
    })
    .await;
    let mut config = config("photos", &server.url);
    config.retry.retry_after_cap = Duration::from_millis(300);
    let begin = Instant::now();
    put(&Bucket::open(config).unwrap()).await.unwrap();
    assert!(
        begin.elapsed() >= Duration::from_millis(300),
        "{:?}",
        begin.elapsed()
    );
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn the_budget_ends_a_storm_of_retries() {
    let server = Faulty::start(|_, _| answer(500, &[], "")).await;
    let mut config = config("photos", &server.url);
    config.retry.budget = 6;
    let bucket = Bucket::open(config).unwrap();
    let mut attempts = Vec::new();
    for _ in 0..4 {
        attempts.push(put(&bucket).await.unwrap_err().attempts());
    }
    assert_eq!(attempts, [5, 3, 1, 1]);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = put(&Bucket::open(config("photos", &url)).unwrap().with_max_attempts(2))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts()),
        (StorageErrorKind::Unreachable, 2)
    );
    let nowhere = config("photos", "http://no-such-host.invalid");
    let error = put(&Bucket::open(nowhere).unwrap().with_max_attempts(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable);
    assert!(error.is_retryable() && !error.is_permanent_for_bucket());
}

#[tokio::test]
async fn inner_addresses_are_refused_where_only_public_ones_are_allowed() {
    for url in [
        "http://127.0.0.1:9000",
        "http://localhost:9000",
        "https://169.254.169.254",
        "https://[::1]",
    ] {
        assert!(Bucket::open_public(config("photos", url)).is_err(), "{url}");
    }
    let named = config("photos", "http://something.localhost:9000");
    let error = put(&Bucket::open_public(named).unwrap().with_max_attempts(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn a_silent_store_is_given_up_after_the_idle_time() {
    let server = Faulty::start(|_, _| Act::Hang).await;
    let mut config = config("photos", &server.url);
    config.timeouts.idle = Duration::from_millis(100);
    let error = put(&Bucket::open(config).unwrap().with_max_attempts(2))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (StorageErrorKind::Timeout, 2));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_answer_at_a_crawl_is_given_up_after_the_whole_time() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        // Always before the idle time is over.
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut config = config("photos", &url);
    config.timeouts.idle = Duration::from_millis(400);
    config.timeouts.whole = Duration::from_millis(1_000);
    let bucket = Bucket::open(config).unwrap().with_max_attempts(1);
    let error = bucket.list("", ListFrom::Start).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Timeout);
    assert!(error.to_string().contains("not done after 1 s"), "{error}");
}

#[tokio::test]
async fn another_checksum_in_the_answer_has_the_bytes_sent_again() {
    let server = Faulty::start(|count, _| match count {
        0 => answer(
            200,
            &[("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="), ("etag", ETAG)],
            "",
        ),
        _ => good_put(),
    })
    .await;
    let bucket = server.bucket("photos");
    let stored = put(&bucket).await.unwrap();
    assert_eq!((stored.attempts, stored.checksum), (2, Some(options().checksum)));
}

#[tokio::test]
async fn a_store_without_checksum_headers_gets_content_md5() {
    for refused in [
        (
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
        ),
        (
            400,
            "InvalidRequest",
            "Unsupported header x-amz-checksum-crc64nvme",
        ),
    ] {
        let server = Faulty::start(move |_, seen| {
            let modern = seen
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("x-amz-checksum"));
            if modern {
                refusal(refused.0, refused.1, refused.2)
            } else {
                answer(200, &[("etag", ETAG)], "")
            }
        })
        .await;
        let bucket = server.bucket("photos");
        for _ in 0..2 {
            let stored = put(&bucket).await.unwrap();
            assert_eq!(stored.checksum, Some(options().checksum));
        }
        let upload = UploadId::new("u");
        let part = bucket
            .upload_part(
                "object",
                &upload,
                1,
                Bytes::from_static(BODY),
                &options().checksum,
            )
            .await;
        assert_eq!(part.unwrap().checksum, Some(options().checksum));
        let seen = server.seen();
        assert_eq!(seen.len(), 4, "it is asked once only");
        assert!(!seen[0].headers.contains_key("content-md5"));
        assert!(
            seen[1..]
                .iter()
                .all(|seen| seen.headers["content-md5"] == "JfnnlDI7RTiF9RgfG2JNCw==")
        );
    }
}

#[tokio::test]
async fn only_proof_confirms_a_checksum() {
    type Headers = &'static [(&'static str, &'static str)];
    let cases: [(Headers, Headers, bool); 4] = [
        // The answer tells nothing but an ETag that is the MD5.
        (&[("etag", ETAG)], &[], true),
        // It tells another ETag, and the object tells its checksum.
        (
            &[("etag", "\"opaque\"")],
            &[("x-amz-checksum-crc64nvme", CRC64NVME)],
            true,
        ),
        // Nobody tells anything.
        (&[("etag", "\"opaque\"")], &[("etag", "\"opaque\"")], false),
        (&[], &[], false),
    ];
    for (on_put, on_head, confirmed) in cases {
        let server = Faulty::start(move |_, seen| match seen.method {
            Method::PUT => answer(200, on_put, ""),
            _ => answer(200, &[on_head, &[("content-length", "9")]].concat(), "123456789"),
        })
        .await;
        let stored = put(&server.bucket("photos")).await.unwrap();
        assert_eq!(stored.checksum.is_some(), confirmed, "{on_put:?} {on_head:?}");
    }
}

#[tokio::test]
async fn other_bytes_at_the_store_are_an_error() {
    let other = "AAAAAAAAAAA=";
    let on_put = Faulty::start(move |_, _| answer(200, &[("x-amz-checksum-crc64nvme", other)], "")).await;
    assert_eq!(
        put(&on_put.bucket("photos")).await.unwrap_err().kind(),
        StorageErrorKind::ChecksumMismatch
    );
    let on_head = Faulty::start(move |_, seen| match seen.method {
        Method::PUT => answer(200, &[("etag", "\"opaque\"")], ""),
        _ => answer(
            200,
            &[("content-length", "9"), ("x-amz-checksum-crc64nvme", other)],
            "123456789",
        ),
    })
    .await;
    assert_eq!(
        put(&on_head.bucket("photos")).await.unwrap_err().kind(),
        StorageErrorKind::ChecksumMismatch
    );
}

#[tokio::test]
async fn another_region_is_named_and_not_followed() {
    let server = Faulty::start(|_, _| {
        let body = "<Error><Code>PermanentRedirect</Code><Message>Use that</Message></Error>";
        answer(
            301,
            &[
                ("x-amz-bucket-region", "eu-west-1"),
                ("location", "http://127.0.0.1:1/"),
            ],
            body,
        )
    })
    .await;
    let error = put(&server.bucket("photos")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts()),
        (StorageErrorKind::WrongRegion, 1)
    );
    assert!(error.is_permanent_for_bucket());
    assert!(
        error
            .to_string()
            .contains("the bucket is in the region eu-west-1, not us-east-1"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_skewed_clock_is_said_plainly() {
    let server =
        Faulty::start(|_, _| refusal(403, "RequestTimeTooSkewed", "The difference is too large.")).await;
    let error = put(&server.bucket("photos")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts()),
        (StorageErrorKind::ClockSkewed, 1)
    );
    assert!(error.is_permanent_for_bucket());
    assert!(error.to_string().contains("clock differs too much"), "{error}");
}

#[tokio::test]
async fn a_skewed_clock_is_corrected_by_the_stores() {
    const AHEAD_S: i64 = 3_600;
    let date = |ahead_s: i64| Timestamp::from_second(Timestamp::now().as_second() + ahead_s).unwrap();
    let server = Faulty::start(move |_, seen| {
        let signed = seen.headers["x-amz-date"].to_str().unwrap();
        let is_right = (AHEAD_S - 10..=AHEAD_S + 1).any(|ahead_s| date(ahead_s).format_iso8601() == signed);
        let told = date(AHEAD_S).format_http_date();
        match (is_right, &seen.method) {
            (true, _) => answer(
                200,
                &[("etag", ETAG), ("x-amz-checksum-crc64nvme", CRC64NVME)],
                "",
            ),
            // The answer to HEAD has no body, and so no code.
            (false, &Method::HEAD) => answer(403, &[("date", &told)], ""),
            (false, _) => {
                let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>Too large.</Message></Error>";
                answer(403, &[("date", &told)], body)
            }
        }
    })
    .await;
    let bucket = server.bucket("photos");
    put(&bucket).await.unwrap();
    assert_eq!(server.seen().len(), 2);
    put(&bucket).await.unwrap();
    assert_eq!(server.seen().len(), 3, "it is learned once");
    server.bucket("photos").head("object").await.unwrap();
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn an_object_that_breaks_off_or_stops_is_an_error() {
    let cut = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", cut.local_addr().unwrap());
    tokio::spawn(async move {
        for close in [true, false] {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = cut.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")
                .await
                .unwrap();
            if !close {
                std::future::pending::<()>().await;
            }
        }
    });
    let mut config = config("photos", &url);
    config.timeouts.idle = Duration::from_millis(100);
    let bucket = Bucket::open(config).unwrap();
    for kind in [StorageErrorKind::ConnectionLost, StorageErrorKind::Timeout] {
        let object = bucket.get("object").await.unwrap();
        assert_eq!(object.info.size_bytes, 100);
        let error = object.body.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn what_is_sent_is_what_was_asked_for() {
    let server = Faulty::start(|_, seen| match seen.method {
        Method::POST => answer(
            200,
            &[],
            "<InitiateMultipartUploadResult><UploadId>u&amp;1</UploadId></InitiateMultipartUploadResult>",
        ),
        _ => good_put(),
    })
    .await;
    let mut config = config("photos", &server.url);
    config.storage_class = Some("STANDARD_IA".to_owned());
    let bucket = Bucket::open(config).unwrap();
    let mut options = with_token();
    options.if_none_match = true;
    bucket
        .put("a b/+%é", Bytes::from_static(BODY), &options)
        .await
        .unwrap();
    let crc32c = Checksum {
        kind: ChecksumKind::Crc32c,
        value: Vec::new(),
    };
    let upload = bucket
        .create_multipart("large", &WriteOptions::new(crc32c))
        .await
        .unwrap();
    assert_eq!(upload.as_str(), "u&1");
    let seen = server.seen();
    assert_eq!(seen[0].path_and_query, "/photos/a%20b/%2B%25%C3%A9");
    for (name, value) in [
        ("x-amz-checksum-crc64nvme", CRC64NVME),
        ("x-amz-meta-uploader-token", "session/1"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("if-none-match", "*"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ] {
        assert_eq!(seen[0].headers[name], value, "{name}");
    }
    assert!(
        !seen[0].headers["authorization"]
            .to_str()
            .unwrap()
            .contains("testsecret")
    );
    assert_eq!(seen[1].path_and_query, "/photos/large?uploads=");
    assert_eq!(seen[1].headers["x-amz-checksum-algorithm"], "CRC32C");
    assert_eq!(seen[1].headers["x-amz-checksum-type"], "FULL_OBJECT");
    assert_eq!(seen[1].headers["x-amz-storage-class"], "STANDARD_IA");
}

#[test]
fn nothing_shows_a_secret() {
    let config = config("photos", "http://127.0.0.1:9000");
    let shown = format!("{config:?} {:?}", Bucket::open(config.clone()).unwrap());
    assert!(!shown.contains("testsecret"), "{shown}");
}

fn listing(keys: [&str; 2]) -> Act {
    let contents = keys.map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"));
    let body = format!("<ListBucketResult>{}</ListBucketResult>", contents.concat());
    Act::Answer(http::Response::new(Bytes::from(body)))
}

/// Whoever compares with a listing would take what comes too late for missing.
#[tokio::test]
async fn a_listing_out_of_order_is_refused_and_one_that_begins_at_the_start_is_not() {
    for (keys, is_good) in [
        (["p/a", "p/b"], true),
        (["p/b", "p/a"], false),
        (["p/a", "p/a"], false),
        (["p/a", "q"], false),
    ] {
        let server = Faulty::start(move |_, _| listing(keys)).await;
        let bucket = server.bucket("photos");
        for from in [ListFrom::Start, ListFrom::After("p/a"), ListFrom::Page("next")] {
            let listed = bucket.list("p/", from).await;
            match listed {
                Ok(page) => assert!(is_good && page.objects.len() == 2, "{keys:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), StorageErrorKind::InvalidResponse);
                    assert!(!is_good, "{error}");
                }
            }
        }
    }
}
