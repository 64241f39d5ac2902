//! Files that go in one request, and what can be wrong with a file or a bucket.

use crate::ordinary_user;
use crate::proxy::Kind;
use crate::world::{PART, Recorder, World, open_bucket, planned};
use domain::object_key::PathText;
use domain::{ChecksumKind, FileErrorCode, OnExisting, SessionErrorCode, Symlinks};
use rustix::fs::{CWD, FileType, Mode};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use storage::{Hasher, WriteOptions};
use transfer::{Engine, Existing, Filter, PlannedFile, ScanEvent, ScanOptions, scan};

#[tokio::test]
async fn sizes_around_the_part_size_arrive() {
    let world = World::new().await;
    let sizes = [0, 1, PART - 1, PART, PART + 1];
    let contents: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| world.write(&format!("f{size}"), *size))
        .collect();
    let files = (0..)
        .zip(sizes)
        .map(|(n, size)| planned(n, &format!("f{size}"), size))
        .collect();
    let (summary, recorder) = world.upload(files).await;
    assert_eq!(summary, transfer::Summary::default());
    recorder.assert_uploaded(sizes.len());
    for (size, content) in sizes.iter().zip(&contents) {
        assert!(
            world.object(&format!("p/f{size}")).await.as_ref() == Some(content),
            "{size}"
        );
    }
    // Only the one above the part size goes in parts.
    assert_eq!(
        (
            world.proxy.count(Kind::Create).arrived,
            world.proxy.count(Kind::Part).arrived
        ),
        (1, 2)
    );
    assert_eq!(world.proxy.count(Kind::Put).arrived, 4);
    for outcome in &*recorder.outcomes.lock().unwrap() {
        let content = &contents[outcome.number as usize];
        let checksum = Hasher::of(ChecksumKind::Crc64nvme, content).to_string();
        assert_eq!(outcome.checksum.as_deref(), Some(checksum.as_str()));
        assert!(outcome.etag.is_some() && outcome.modified_at_ns.is_some());
        assert!(outcome.attempts >= 1 && outcome.started_at <= outcome.finished_at);
    }
    let object = world.bucket.head("p/f1").await.unwrap().unwrap();
    assert_eq!(object.token.as_deref(), Some("session/1"));
}

#[tokio::test]
async fn what_a_scan_finds_arrives_under_its_key() {
    let mut world = World::new().await;
    let names: [&[u8]; 8] = [
        b"a b",
        b"100%25",
        b"x+y#z?",
        b"\"q\"",
        "cafe\u{301}".as_bytes(),
        "🦀".as_bytes(),
        b"new\nline",
        b"l-\xe9",
    ];
    for name in names {
        std::fs::create_dir_all(world.path("d/.h")).unwrap();
        std::fs::write(world.path("d/.h").join(OsStr::from_bytes(name)), name).unwrap();
    }
    let options = ScanOptions {
        source_path: "d".into(),
        filter: Filter::compile(&[], &[]).unwrap(),
        symlinks: Symlinks::Skip,
        in_key_order: false,
    };
    let mut scan = scan(
        &world.plan().root,
        options,
        tokio_util::sync::CancellationToken::new(),
    );
    let mut files: Vec<PlannedFile> = Vec::new();
    while let Some(batch) = scan.events.recv().await {
        for event in batch {
            let ScanEvent::File(file) = event else {
                panic!("{event:?}")
            };
            files.push(PlannedFile {
                number: files.len() as i64,
                path: file.path,
                size_bytes: file.size_bytes,
                upload_id: None,
                multipart_part_size_bytes: None,
                attempts: 0,
                existing: None,
            });
        }
    }
    world.source_path = "d".into();
    world.upload(files).await.1.assert_uploaded(names.len());
    for name in names {
        let key = format!("p/.h/{}", PathText::from_bytes(name).text);
        // Another path of the same file may be encoded as a whole.
        let path = PathText::from_bytes(&[b".h/", name].concat()).text;
        assert_eq!(key, format!("p/{path}"));
        assert_eq!(world.object(&key).await.as_deref(), Some(name), "{key}");
    }
}

#[tokio::test]
async fn a_single_file_is_uploaded_under_its_name() {
    let mut world = World::new().await;
    let content = world.write("one", 10);
    world.source_path = "one".into();
    world
        .upload(vec![planned(1, "one", 10)])
        .await
        .1
        .assert_uploaded(1);
    assert_eq!(world.object("p/one").await, Some(content));
}

#[tokio::test]
async fn sizes_that_differ_from_the_scan_are_no_error() {
    let world = World::new().await;
    let small = world.write("grown", 100_000);
    let large = world.write("grown-large", 2 * PART + 1);
    let shrunk = world.write("shrunk", 3);
    world.write("emptied", 0);
    let files = vec![
        planned(0, "grown", 1),
        planned(1, "grown-large", 1),
        planned(2, "shrunk", 3 * PART),
        planned(3, "emptied", 3 * PART),
    ];
    let (_, recorder) = world.upload(files).await;
    recorder.assert_uploaded(4);
    let mut sizes: Vec<(i64, u64)> = recorder
        .outcomes
        .lock()
        .unwrap()
        .iter()
        .map(|outcome| (outcome.number, outcome.size_bytes))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [(0, 100_000), (1, 2 * PART as u64 + 1), (2, 3), (3, 0)]);
    assert_eq!(world.object("p/grown").await, Some(small));
    assert!(world.object("p/grown-large").await == Some(large));
    assert_eq!(world.object("p/shrunk").await, Some(shrunk));
    assert_eq!(world.object("p/emptied").await, Some(Vec::new()));
}

#[tokio::test]
async fn one_bad_file_fails_alone() {
    let world = World::new().await;
    std::fs::create_dir(world.path("folder")).unwrap();
    rustix::fs::mknodat(CWD, world.path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    world.write("good", 10);
    symlink("good", world.path("link")).unwrap();
    let long = "x".repeat(1100);
    let cases = [
        ("gone", FileErrorCode::FileVanished),
        ("good/below", FileErrorCode::FileVanished),
        ("folder", FileErrorCode::SpecialFile),
        ("fifo", FileErrorCode::SpecialFile),
        ("link", FileErrorCode::SymlinkNotFollowed),
        (long.as_str(), FileErrorCode::NameNotSupported),
        ("a/../b", FileErrorCode::NameNotSupported),
    ];
    let mut files: Vec<PlannedFile> = (0..)
        .zip(&cases)
        .map(|(n, case)| planned(n, case.0, 10))
        .collect();
    files.push(planned(cases.len() as i64, "good", 10));
    let (summary, recorder) = world.upload(files).await;
    assert_eq!(summary.fatal, None);
    let outcomes = recorder.outcomes.lock().unwrap();
    assert_eq!(outcomes.len(), cases.len() + 1);
    for outcome in &*outcomes {
        let expected = cases.get(outcome.number as usize).map(|case| case.1);
        assert_eq!(
            outcome.error.as_ref().map(|error| error.0),
            expected,
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn links_are_read_through_only_when_they_stay_inside() {
    let mut world = World::new().await;
    world.settings.symlinks = Symlinks::FollowInside;
    let content = world.write("good", 10);
    symlink("good", world.path("inside")).unwrap();
    symlink("/etc/passwd", world.path("outside")).unwrap();
    world
        .upload(vec![planned(1, "inside", 10)])
        .await
        .1
        .assert_uploaded(1);
    assert_eq!(world.object("p/inside").await, Some(content));
    let (_, recorder) = world.upload(vec![planned(2, "outside", 10)]).await;
    recorder.assert_failed(FileErrorCode::SymlinkRefused);
    assert_eq!(world.object("p/outside").await, None);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_left_alone_for_a_moment() {
    let world = World::new().await;
    world.write("busy", 10);
    let path = world.path("busy");
    let recorder = Arc::new(Recorder {
        // Just before it is read for the first time.
        on_start: Some(Box::new(move || std::fs::write(&path, "the last word").unwrap())),
        ..Recorder::default()
    });
    world
        .upload_to(vec![planned(1, "busy", 10)], Arc::clone(&recorder))
        .await;
    recorder.assert_uploaded(1);
    assert_eq!(
        world.object("p/busy").await.as_deref(),
        Some(b"the last word".as_slice())
    );
    let outcome = recorder.only();
    let waited = outcome.finished_at.duration_since(outcome.started_at).unwrap();
    assert!(waited >= std::time::Duration::from_millis(50), "{waited:?}");
}

#[tokio::test]
async fn a_file_without_permission_fails_alone() {
    if !ordinary_user::is_this_process("small_files::a_file_without_permission_fails_alone") {
        return;
    }
    let world = World::new().await;
    world.write("closed", 10);
    std::fs::set_permissions(world.path("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let (summary, recorder) = world.upload(vec![planned(1, "closed", 10)]).await;
    assert_eq!(summary.fatal, None);
    recorder.assert_failed(FileErrorCode::PermissionDenied);
}

#[tokio::test]
async fn what_is_wrong_with_the_bucket_ends_the_call_at_once() {
    let mut world = World::new().await;
    world.engine = Engine::new(1, 1 << 20);
    world.write("file", 10);
    let closed_port = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let cases = [
        (
            world.other_bucket("missing", None),
            SessionErrorCode::NoSuchBucket,
            Some(FileErrorCode::NoSuchBucket),
        ),
        (
            world.other_bucket("bucket", Some("wrong")),
            SessionErrorCode::AccessDenied,
            Some(FileErrorCode::AccessDenied),
        ),
        // That may pass, and is no failure of the file.
        (
            open_bucket(&closed_port, "bucket", "x"),
            SessionErrorCode::StorageUnreachable,
            None,
        ),
    ];
    for (bucket, session_code, file_code) in cases {
        world.bucket = bucket;
        let files: Vec<PlannedFile> = (0..10).map(|number| planned(number, "file", 10)).collect();
        let (summary, recorder) = world.upload(files).await;
        let fatal = summary.fatal.unwrap();
        assert_eq!(fatal.code, session_code, "{fatal:?}");
        match file_code {
            Some(code) => recorder.assert_failed(code),
            None => assert!(recorder.outcomes.lock().unwrap().is_empty()),
        }
        let first = i64::from(file_code.is_some());
        assert_eq!(summary.not_started, (first..10).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_is_there_is_not_overwritten_where_that_is_forbidden() {
    let mut world = World::new().await;
    world.settings.on_existing = OnExisting::Fail;
    let content = world.write("file", 10);
    let options = WriteOptions::new(Hasher::of(ChecksumKind::Crc64nvme, b"theirs"));
    world
        .bucket
        .put("p/file", b"theirs".as_slice().into(), &options)
        .await
        .unwrap();
    let (_, recorder) = world.upload(vec![planned(1, "file", 10)]).await;
    recorder.assert_failed(FileErrorCode::AlreadyExists);
    assert_eq!(
        world.object("p/file").await.as_deref(),
        Some(b"theirs".as_slice())
    );
    // What is there is ours, sent by a call that did not live to tell.
    world.bucket.delete("p/file").await.unwrap();
    for _ in 0..2 {
        world
            .upload(vec![planned(1, "file", 10)])
            .await
            .1
            .assert_uploaded(1);
    }
    assert_eq!(world.object("p/file").await, Some(content));
}

#[tokio::test]
async fn a_session_has_its_share_and_uses_it() {
    let mut world = World::new().await;
    world.engine = Engine::new(8, 1 << 20);
    world.settings.concurrency = Some(3);
    let files: Vec<PlannedFile> = (0..20)
        .map(|number| {
            world.write(&format!("f{number}"), 10);
            planned(number, &format!("f{number}"), 10)
        })
        .collect();
    let (one, other) = files.split_at(10);
    world.proxy.hold(Kind::Put);
    let held = async {
        world.proxy.arrived(Kind::Put, 3).await;
        assert_eq!(world.engine.free_slots(), 5);
        world.proxy.release();
    };
    // Two jobs of one session share what the session has.
    let (one, other, ()) = tokio::join!(
        world.upload_to(one.to_vec(), Arc::default()),
        world.upload_to(other.to_vec(), Arc::default()),
        held
    );
    assert_eq!((one.not_started.len(), other.not_started.len()), (0, 0));
    assert_eq!(world.proxy.count(Kind::Put).arrived, 20);
    assert_eq!(world.proxy.count(Kind::Put).most_in_flight, 3);
}

/// Only what is sent costs bandwidth, and whoever waits for it holds no place.
#[tokio::test]
async fn what_is_compared_is_charged_when_it_differs() {
    let mut world = World::new().await;
    world.settings.bandwidth_limit_bytes_per_s = Some(1 << 40);
    let sizes = [1000, 1001, PART + 7, PART + 8];
    let files = (0..).zip(sizes).map(|(number, size)| {
        let name = format!("f{size}");
        let content = world.write(&name, size);
        let recorded = if size % 2 == 0 { &content[..] } else { b"other" };
        PlannedFile {
            existing: Some(Existing {
                etag: None,
                checksum: Some(Hasher::of(ChecksumKind::Crc64nvme, recorded).to_string()),
            }),
            ..planned(number, &name, size)
        }
    });
    let recorder = Arc::new(Recorder {
        engine: Some(world.engine.clone()),
        ..Recorder::default()
    });
    let summary = world.upload_to(files.collect(), Arc::clone(&recorder)).await;
    assert_eq!(summary, transfer::Summary::default());
    let outcomes = recorder.outcomes.lock().unwrap();
    for outcome in &*outcomes {
        let is_same = outcome.size_bytes % 2 == 0;
        assert_eq!(
            outcome.status == domain::FileStatus::Skipped,
            is_same,
            "{outcome:?}"
        );
    }
    let mut charged = recorder.charged.lock().unwrap().clone();
    charged.retain(|bytes| *bytes > 0);
    charged.sort_unstable();
    assert_eq!(charged, [7, 1001, PART as u64]);
}
