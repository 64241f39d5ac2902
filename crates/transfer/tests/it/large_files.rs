//! Files that go in parts: sent, resumed, started over.

use crate::proxy::{Kind, refused};
use crate::world::{PART, Recorder, World, planned};
use domain::{ChecksumKind, FileErrorCode};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::{Hasher, UploadId};
use transfer::{Engine, PlannedFile, Stop};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn parts_arrive_under_every_checksum() {
    let mut world = World::new().await;
    let content = world.write("large", 20 * MIB + 1);
    for kind in ChecksumKind::ALL {
        world.settings.checksum = *kind;
        let (_, recorder) = world.upload(vec![planned(7, "large", content.len())]).await;
        recorder.assert_uploaded(1);
        assert!(world.object("p/large").await.as_ref() == Some(&content), "{kind}");
        let checksum = recorder.only().checksum.unwrap();
        match kind {
            // Of SHA-256 there is only the hash of the parts' hashes.
            ChecksumKind::Sha256 => assert!(
                checksum.starts_with("sha256:") && checksum.ends_with("-5"),
                "{checksum}"
            ),
            _ => assert_eq!(checksum, Hasher::of(*kind, &content).to_string()),
        }
    }
    assert_eq!(world.proxy.count(Kind::Part).arrived, 3 * 5);
    assert!(
        world.proxy.count(Kind::Part).most_in_flight > 1,
        "parts go side by side"
    );
    assert_eq!(world.open_uploads().await, 0);
    let object = world.bucket.head("p/large").await.unwrap().unwrap();
    assert_eq!(object.token.as_deref(), Some("session/7"));
}

#[tokio::test]
async fn the_id_is_told_before_the_first_part_and_a_lost_job_sends_none() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    let recorder = Arc::new(Recorder {
        is_lost: true,
        ..Recorder::default()
    });
    let files = vec![planned(1, "large", 2 * PART), planned(2, "large", 2 * PART)];
    let summary = world.upload_to(files, Arc::clone(&recorder)).await;
    assert!(summary.lost);
    assert_eq!(summary.not_started, [1, 2]);
    assert_eq!(world.proxy.count(Kind::Part).arrived, 0);
    // Nobody else knows of what was opened.
    world.until_no_upload_is_open().await;
}

#[tokio::test]
async fn an_upload_that_is_being_opened_when_the_job_is_lost_does_not_stay_open() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    let recorder = Arc::new(Recorder {
        is_lost: true,
        ..Recorder::default()
    });
    world.proxy.hold(Kind::Create);
    let abandon = async {
        world.proxy.arrived(Kind::Create, 1).await;
        world.stop.send(Stop::Abandon).unwrap();
    };
    let files = vec![planned(1, "large", 2 * PART)];
    let (summary, ()) = tokio::join!(world.upload_to(files, Arc::clone(&recorder)), abandon);
    assert_eq!(summary.not_started, [1]);
    world.proxy.release();
    world.proxy.arrived(Kind::Abort, 1).await;
    world.until_no_upload_is_open().await;
}

#[tokio::test]
async fn memory_stays_within_its_budget() {
    let mut world = World::new().await;
    world.engine = Engine::new(8, 2 * PART as u64);
    let content = world.write("large", 6 * PART);
    world.proxy.hold(Kind::Part);
    let held = async {
        world.proxy.arrived(Kind::Part, 2).await;
        assert_eq!(world.engine.memory_in_use_bytes(), 2 * PART as u64);
        world.proxy.release();
    };
    let ((_, recorder), ()) = tokio::join!(world.upload(vec![planned(1, "large", content.len())]), held);
    recorder.assert_uploaded(1);
    assert_eq!(world.proxy.count(Kind::Part).most_in_flight, 2);
}

#[tokio::test]
async fn a_part_larger_than_the_budget_goes_alone() {
    let mut world = World::new().await;
    world.engine = Engine::new(4, MIB as u64);
    let content = world.write("large", 3 * PART);
    world.write("small", 3 * MIB);
    let files = vec![planned(1, "large", content.len()), planned(2, "small", 3 * MIB)];
    let (_, recorder) = world.upload(files).await;
    recorder.assert_uploaded(2);
    assert!(world.object("p/large").await == Some(content));
    assert_eq!(world.proxy.count(Kind::Part).most_in_flight, 1);
}

#[tokio::test]
async fn parts_take_a_quarter_of_the_memory_at_most() {
    let mut world = World::new().await;
    world.engine = Engine::new(4, 24 * MIB as u64);
    world.settings.part_size_bytes = 64 << 20;
    let content = world.write("large", 13 * MIB);
    let (_, recorder) = world.upload(vec![planned(1, "large", content.len())]).await;
    recorder.assert_uploaded(1);
    assert_eq!(recorder.opened.lock().unwrap()[0].2, 6 * MIB as u64);
    assert_eq!(world.proxy.count(Kind::Part).arrived, 3);
    assert!(world.object("p/large").await == Some(content));
}

#[tokio::test]
async fn parts_begun_with_more_memory_are_kept() {
    let mut world = World::new().await;
    world.settings.part_size_bytes = 7 << 20;
    let content = world.write("large", 15 * MIB);
    let file = interrupted(&mut world, "large", content.len()).await;
    assert_eq!(file.multipart_part_size_bytes, Some(7 << 20));
    world.engine = Engine::new(2, 20 * MIB as u64);
    world.upload(vec![file]).await.1.assert_uploaded(1);
    assert!(world.object("p/large").await == Some(content));
    assert_eq!(world.proxy.count(Kind::Part).arrived, 3, "none is sent twice");
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_sent_anew() {
    let mut world = World::new().await;
    // One part at a time, so that most are read after the change.
    world.engine = Engine::new(1, 64 << 20);
    let mut content = world.write("large", 3 * PART);
    world.proxy.hold(Kind::Part);
    let change = async {
        world.proxy.arrived(Kind::Part, 1).await;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(world.path("large"))
            .unwrap();
        file.write_all(b"more").unwrap();
        world.proxy.release();
    };
    let ((_, recorder), ()) = tokio::join!(world.upload(vec![planned(1, "large", content.len())]), change);
    content.extend_from_slice(b"more");
    recorder.assert_uploaded(1);
    assert_eq!(recorder.only().size_bytes, content.len() as u64);
    assert!(world.object("p/large").await == Some(content));
    assert_eq!(
        (
            world.proxy.count(Kind::Create).arrived,
            world.proxy.count(Kind::Abort).arrived
        ),
        (2, 1)
    );
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn a_file_that_never_rests_is_given_up() {
    let mut world = World::new().await;
    world.engine = Engine::new(1, 64 << 20);
    world.write("busy", 2 * PART);
    let path = world.path("busy");
    world.proxy.meanwhile(Kind::Part, move || {
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"more").unwrap();
    });
    let (_, recorder) = world.upload(vec![planned(1, "busy", 2 * PART)]).await;
    recorder.assert_failed(FileErrorCode::FileChanged);
    assert_eq!(recorder.only().attempts, 3);
    assert_eq!(
        (world.object("p/busy").await, world.open_uploads().await),
        (None, 0)
    );
}

/// Uploads until the first part is there, and stops so that the upload stays open.
async fn interrupted(world: &mut World, name: &str, size: usize) -> PlannedFile {
    world.engine = Engine::new(2, 64 << 20);
    world.proxy.hold(Kind::Part);
    let recorder = Arc::new(Recorder::default());
    let drain = async {
        world.proxy.arrived(Kind::Part, 2).await;
        world.stop.send(Stop::Drain).unwrap();
        world.proxy.release();
    };
    let file = planned(1, name, size);
    let (summary, ()) = tokio::join!(world.upload_to(vec![file.clone()], Arc::clone(&recorder)), drain);
    assert_eq!((summary.not_started, summary.fatal), (vec![1], None));
    assert_eq!(world.open_uploads().await, 1);
    world.stop.send_replace(Stop::Run);
    let (_, upload_id, part_size_bytes) = recorder.opened.lock().unwrap()[0].clone();
    let id = UploadId::new(upload_id.clone());
    assert_eq!(
        world
            .bucket
            .list_parts(&format!("p/{name}"), &id)
            .await
            .unwrap()
            .len(),
        2
    );
    PlannedFile {
        upload_id: Some(upload_id),
        multipart_part_size_bytes: Some(part_size_bytes),
        attempts: 1,
        ..file
    }
}

#[tokio::test]
async fn parts_that_are_there_are_kept() {
    let mut world = World::new().await;
    let content = world.write("large", 5 * PART);
    let file = interrupted(&mut world, "large", content.len()).await;
    // Another part size now: the parts keep the one they were begun with.
    world.settings.part_size_bytes = 8 << 20;
    let (_, recorder) = world.upload(vec![file]).await;
    recorder.assert_uploaded(1);
    assert_eq!(recorder.only().attempts, 2);
    assert!(world.object("p/large").await == Some(content));
    assert_eq!(world.proxy.count(Kind::Part).arrived, 5, "none is sent twice");
    assert_eq!(world.proxy.count(Kind::Create).arrived, 1);
}

#[tokio::test]
async fn parts_of_an_older_version_are_sent_again() {
    let mut world = World::new().await;
    let mut content = world.write("large", 5 * PART);
    let file = interrupted(&mut world, "large", content.len()).await;
    content[PART + 3] ^= 1;
    std::fs::write(world.path("large"), &content).unwrap();
    world.upload(vec![file]).await.1.assert_uploaded(1);
    assert!(world.object("p/large").await == Some(content));
    assert_eq!(
        world.proxy.count(Kind::Part).arrived,
        6,
        "the second part, which changed, is sent again"
    );
}

#[tokio::test]
async fn an_upload_that_was_aborted_elsewhere_starts_again() {
    let mut world = World::new().await;
    let content = world.write("large", 5 * PART);
    let file = interrupted(&mut world, "large", content.len()).await;
    let id = UploadId::new(file.upload_id.clone().unwrap());
    world.bucket.abort_multipart("p/large", &id).await.unwrap();
    let (_, recorder) = world.upload(vec![file]).await;
    recorder.assert_uploaded(1);
    assert!(world.object("p/large").await == Some(content));
    assert_eq!(recorder.opened.lock().unwrap().len(), 1, "the new id is told");
}

#[tokio::test]
async fn a_file_that_was_completed_and_not_recorded_is_not_sent_again() {
    let mut world = World::new().await;
    for kind in ChecksumKind::ALL {
        world.settings.checksum = *kind;
        let content = world.write("large", 3 * PART + 5);
        let (_, recorder) = world.upload(vec![planned(1, "large", content.len())]).await;
        let recorded = recorder.only();
        let (_, upload_id, part_size_bytes) = recorder.opened.lock().unwrap()[0].clone();
        let file = PlannedFile {
            upload_id: Some(upload_id),
            multipart_part_size_bytes: Some(part_size_bytes),
            ..planned(1, "large", content.len())
        };
        let parts = world.proxy.count(Kind::Part).arrived;
        let (_, recorder) = world.upload(vec![file.clone()]).await;
        recorder.assert_uploaded(1);
        assert_eq!(recorder.only().checksum, recorded.checksum);
        assert_eq!(world.proxy.count(Kind::Part).arrived, parts, "nothing is sent");
        // An object of somebody else with the same bytes is no proof that ours arrived.
        let (_, recorder) = world
            .upload(vec![PlannedFile {
                number: 2,
                ..file.clone()
            }])
            .await;
        recorder.assert_uploaded(1);
        assert_eq!(world.proxy.count(Kind::Part).arrived, parts + 4);
        world.bucket.delete("p/large").await.unwrap();
        world
            .upload(vec![planned(1, "large", content.len())])
            .await
            .1
            .assert_uploaded(1);
        // Our object, but the file is another now, of the same size.
        let mut other = content.clone();
        other[PART] ^= 1;
        std::fs::write(world.path("large"), &other).unwrap();
        world.upload(vec![file]).await.1.assert_uploaded(1);
        assert!(world.object("p/large").await == Some(other), "{kind}");
    }
}

#[tokio::test]
async fn a_failed_file_leaves_no_upload_open() {
    let mut world = World::new().await;
    // A source with nothing in it would be at fault itself.
    world.write("beside", 1);
    world.write("large", 5 * PART);
    let file = interrupted(&mut world, "large", 5 * PART).await;
    std::fs::remove_file(world.path("large")).unwrap();
    let (_, recorder) = world.upload(vec![file]).await;
    recorder.assert_failed(FileErrorCode::FileVanished);
    assert_eq!(world.open_uploads().await, 0);
}

/// Answers the first `times` requests of this kind like this.
fn refuse(world: &World, refused_kind: Kind, times: usize, status: u16, code: &'static str) {
    let left = AtomicUsize::new(times);
    world.proxy.refuse(move |kind, _| {
        let less = |left: usize| left.checked_sub(1);
        let is_refused = kind == refused_kind
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok();
        is_refused.then(|| refused(status, code))
    });
}

#[tokio::test]
async fn an_upload_that_is_gone_in_the_middle_or_at_its_end_starts_again() {
    for kind in [Kind::Part, Kind::Complete] {
        let world = World::new().await;
        let content = world.write("large", 2 * PART);
        refuse(&world, kind, 1, 404, "NoSuchUpload");
        let (_, recorder) = world.upload(vec![planned(1, "large", content.len())]).await;
        recorder.assert_uploaded(1);
        assert!(world.object("p/large").await == Some(content));
        assert_eq!(world.proxy.count(Kind::Create).arrived, 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_store_that_loses_every_upload_is_given_up() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    refuse(&world, Kind::Complete, usize::MAX, 404, "NoSuchUpload");
    let (_, recorder) = world.upload(vec![planned(1, "large", 2 * PART)]).await;
    recorder.assert_failed(FileErrorCode::StorageError);
    assert_eq!(recorder.only().attempts, 3);
    // It may have been written too shortly before to be read the first time.
    let created = world.proxy.count(Kind::Create).arrived;
    assert!((2..=3).contains(&created), "{created}");
    assert_eq!(recorder.progress.lock().unwrap()[&1], 0, "nothing counts as sent");
}

#[tokio::test]
async fn an_upload_that_the_store_refuses_to_complete_is_not_begun_anew() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    refuse(&world, Kind::Complete, usize::MAX, 400, "InvalidPart");
    let (_, recorder) = world.upload(vec![planned(1, "large", 2 * PART)]).await;
    recorder.assert_failed(FileErrorCode::StorageError);
    assert_eq!(world.proxy.count(Kind::Create).arrived, 1);
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn an_upload_whose_parts_cannot_be_listed_is_not_begun_anew() {
    let mut world = World::new().await;
    world.write("large", 5 * PART);
    let file = interrupted(&mut world, "large", 5 * PART).await;
    refuse(&world, Kind::ListParts, usize::MAX, 400, "InvalidArgument");
    let (_, recorder) = world.upload(vec![file]).await;
    recorder.assert_failed(FileErrorCode::StorageError);
    assert_eq!(world.proxy.count(Kind::Create).arrived, 1, "the one before");
}

/// What is recorded may be of another version of this program, or spoiled.
#[tokio::test]
async fn part_sizes_that_cannot_be_are_not_gone_on_with() {
    for (part_size_bytes, created) in [(0, 1), (1, 2)] {
        let mut world = World::new().await;
        let content = world.write("large", 5 * PART);
        let file = PlannedFile {
            multipart_part_size_bytes: Some(part_size_bytes),
            ..interrupted(&mut world, "large", content.len()).await
        };
        world.upload(vec![file]).await.1.assert_uploaded(1);
        assert!(world.object("p/large").await == Some(content));
        assert_eq!(
            world.proxy.count(Kind::Create).arrived,
            created,
            "{part_size_bytes}"
        );
        assert_eq!(world.open_uploads().await, 0);
    }
}
