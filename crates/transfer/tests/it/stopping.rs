//! What becomes of files and multipart uploads when a call is stopped.

use crate::proxy::{Kind, busy};
use crate::world::{PART, Recorder, World, planned};
use domain::FileStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use transfer::{Engine, PlannedFile, Stop, Summary};

/// Two places; one large file takes both, small ones wait behind it.
async fn stopped(world: &World, stop: Stop) -> (Summary, Arc<Recorder>) {
    world.write("large", 6 * PART);
    world.write("small", 10);
    let files = vec![
        planned(1, "large", 6 * PART),
        planned(2, "small", 10),
        planned(3, "small", 10),
    ];
    let recorder = Arc::new(Recorder::default());
    world.proxy.hold(Kind::Part);
    let tell = async {
        world.proxy.arrived(Kind::Part, 2).await;
        world.stop.send(stop).unwrap();
        if stop != Stop::Abandon {
            world.proxy.release();
        }
    };
    let (summary, ()) = tokio::join!(world.upload_to(files, Arc::clone(&recorder)), tell);
    (summary, recorder)
}

#[tokio::test]
async fn cancel_ends_what_is_in_flight_and_aborts() {
    let mut world = World::new().await;
    world.engine = Engine::new(2, 64 << 20);
    let (summary, recorder) = stopped(&world, Stop::Cancel).await;
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    let cancelled: Vec<i64> = outcomes
        .iter()
        .filter(|outcome| outcome.status == FileStatus::Cancelled)
        .map(|outcome| outcome.number)
        .collect();
    assert_eq!(cancelled, [1]);
    assert_eq!(outcomes.len() + summary.not_started.len(), 3);
    assert_eq!(world.open_uploads().await, 0);
    assert!(world.proxy.count(Kind::Part).arrived < 6);
    assert_eq!(world.object("p/large").await, None);
}

#[tokio::test]
async fn cancel_aborts_what_an_earlier_call_left_of_files_it_does_not_start() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    let checksum = storage::Hasher::of(world.settings.checksum, b"");
    let options = storage::WriteOptions::new(checksum);
    let id = world.bucket.create_multipart("p/large", &options).await.unwrap();
    world.stop.send_replace(Stop::Cancel);
    let file = PlannedFile {
        upload_id: Some(id.as_str().to_owned()),
        ..planned(1, "large", 2 * PART)
    };
    let (summary, recorder) = world.upload(vec![file]).await;
    assert_eq!(summary.not_started, [1]);
    assert!(recorder.started.lock().unwrap().is_empty());
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn drain_keeps_the_upload_open() {
    let mut world = World::new().await;
    world.engine = Engine::new(2, 64 << 20);
    let (summary, recorder) = stopped(&world, Stop::Drain).await;
    assert!(summary.not_started.contains(&1));
    assert!(
        recorder
            .outcomes
            .lock()
            .unwrap()
            .iter()
            .all(|outcome| outcome.status == FileStatus::Uploaded)
    );
    assert_eq!(world.open_uploads().await, 1);
    assert_eq!(world.proxy.count(Kind::Abort).arrived, 0);
}

#[tokio::test]
async fn abandon_returns_at_once_and_sends_nothing_more() {
    let mut world = World::new().await;
    world.engine = Engine::new(2, 64 << 20);
    // The parts are never let go: only a call that drops them can return.
    let (summary, recorder) = stopped(&world, Stop::Abandon).await;
    assert!(summary.not_started.contains(&1));
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == FileStatus::Uploaded),
        "{outcomes:?}"
    );
    let count = |kind| world.proxy.count(kind).arrived;
    assert_eq!(
        (count(Kind::Part), count(Kind::Abort), count(Kind::Complete)),
        (2, 0, 0)
    );
    assert_eq!(world.engine.free_slots(), 2);
}

#[tokio::test]
async fn small_files_in_flight_end_when_drained() {
    let mut world = World::new().await;
    world.engine = Engine::new(2, 1 << 20);
    let files: Vec<PlannedFile> = (0..10)
        .map(|number| {
            world.write(&format!("f{number}"), 10);
            planned(number, &format!("f{number}"), 10)
        })
        .collect();
    world.proxy.hold(Kind::Put);
    let tell = async {
        world.proxy.arrived(Kind::Put, 2).await;
        world.stop.send(Stop::Drain).unwrap();
        world.proxy.release();
    };
    let recorder = Arc::new(Recorder::default());
    let (summary, ()) = tokio::join!(world.upload_to(files, Arc::clone(&recorder)), tell);
    recorder.assert_uploaded(2);
    assert_eq!(summary.not_started.len(), 8);
    assert_eq!(world.proxy.count(Kind::Put).arrived, 2);
}

/// A large file and a small one whose requests wait for half a minute before each of their other attempts.
async fn stopped_while_waiting(world: &mut World, stop: Stop) -> (Summary, Arc<Recorder>) {
    world.settings.max_attempts = 20;
    world.write("large", 2 * PART);
    world.write("small", 10);
    let files = vec![planned(1, "large", 2 * PART), planned(2, "small", 10)];
    let recorder = Arc::new(Recorder::default());
    world
        .proxy
        .refuse(|kind, _| matches!(kind, Kind::Part | Kind::Put).then(busy));
    // All are on their way before the first is told that there are too many.
    world.proxy.hold(Kind::Part);
    world.proxy.hold(Kind::Put);
    let tell = async {
        world.proxy.arrived(Kind::Part, 2).await;
        world.proxy.arrived(Kind::Put, 1).await;
        world.proxy.release();
        world.proxy.answered(Kind::Part, 2).await;
        world.proxy.answered(Kind::Put, 1).await;
        world.stop.send(stop).unwrap();
    };
    let (summary, ()) = tokio::join!(world.upload_to(files, Arc::clone(&recorder)), tell);
    assert_eq!(summary.fatal, None);
    let count = |kind| world.proxy.count(kind).arrived;
    assert_eq!((count(Kind::Part), count(Kind::Put)), (2, 1));
    (summary, recorder)
}

#[tokio::test]
async fn drain_ends_the_waits_for_other_attempts() {
    let mut world = World::new().await;
    let (summary, recorder) = stopped_while_waiting(&mut world, Stop::Drain).await;
    assert_eq!(summary.not_started, [1, 2]);
    assert!(recorder.outcomes.lock().unwrap().is_empty());
    assert_eq!(world.open_uploads().await, 1);
    assert_eq!(world.proxy.count(Kind::Abort).arrived, 0);
}

#[tokio::test]
async fn cancel_ends_the_waits_for_other_attempts() {
    let mut world = World::new().await;
    let (summary, recorder) = stopped_while_waiting(&mut world, Stop::Cancel).await;
    assert!(summary.not_started.is_empty());
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == FileStatus::Cancelled),
        "{outcomes:?}"
    );
    assert_eq!(world.open_uploads().await, 0);
}

/// A worker that was frozen wakes with files in all stages.
#[tokio::test]
async fn nothing_is_sent_once_the_job_is_anothers() {
    let mut world = World::new().await;
    world.engine = Engine::new(2, 64 << 20);
    world.write("large", 2 * PART);
    world.write("small", 10);
    let recorder = Arc::new(Recorder::default());
    recorder.is_anothers.store(true, Ordering::SeqCst);
    let files = vec![planned(1, "large", 2 * PART), planned(2, "small", 10)];
    let summary = world.upload_to(files, Arc::clone(&recorder)).await;
    assert_eq!(summary.not_started, [1, 2]);
    assert!(recorder.started.lock().unwrap().is_empty());
    assert_eq!(world.proxy.writes(), 0);
}

/// The last of two parts arrives when the job is another's: that one completes the upload.
#[tokio::test]
async fn a_job_that_is_anothers_completes_and_aborts_nothing() {
    for stop in [Stop::Run, Stop::Cancel] {
        let world = World::new().await;
        world.write("large", 2 * PART);
        let recorder = Arc::new(Recorder::default());
        world.proxy.hold(Kind::Part);
        let take = async {
            world.proxy.arrived(Kind::Part, 2).await;
            recorder.is_anothers.store(true, Ordering::SeqCst);
            world.stop.send_replace(stop);
            world.proxy.release();
        };
        let files = vec![planned(1, "large", 2 * PART)];
        let (_, ()) = tokio::join!(world.upload_to(files, Arc::clone(&recorder)), take);
        assert_eq!(world.proxy.count(Kind::Complete).arrived, 0, "{stop:?}");
        assert_eq!(world.proxy.count(Kind::Abort).arrived, 0, "{stop:?}");
        assert_eq!(world.open_uploads().await, 1, "{stop:?}");
    }
}

/// The job is lost while a small file is being read and a large one is about to be opened in the store.
#[tokio::test]
async fn what_was_begun_is_not_sent_once_the_job_is_anothers() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    world.write("small", 10);
    let is_anothers = Arc::new(AtomicBool::new(false));
    let recorder = Arc::new(Recorder {
        is_anothers: Arc::clone(&is_anothers),
        on_start: Some(Box::new(move || is_anothers.store(true, Ordering::SeqCst))),
        ..Recorder::default()
    });
    for (number, path, size) in [(1, "large", 2 * PART), (2, "small", 10)] {
        recorder.is_anothers.store(false, Ordering::SeqCst);
        let summary = world
            .upload_to(vec![planned(number, path, size)], Arc::clone(&recorder))
            .await;
        assert_eq!(summary.not_started, [number]);
    }
    assert_eq!(*recorder.started.lock().unwrap(), [1, 2]);
    assert_eq!(world.proxy.writes(), 0);
}

/// A cancel that comes when the last parts are on their way.
#[tokio::test]
async fn a_cancelled_file_is_not_completed() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    let recorder = Arc::new(Recorder::default());
    world.proxy.hold(Kind::Part);
    let cancel = async {
        world.proxy.arrived(Kind::Part, 2).await;
        world.stop.send_replace(Stop::Cancel);
        world.proxy.release();
    };
    let files = vec![planned(1, "large", 2 * PART)];
    let (_, ()) = tokio::join!(world.upload_to(files, Arc::clone(&recorder)), cancel);
    assert_eq!(recorder.only().status, FileStatus::Cancelled);
    assert_eq!(world.proxy.count(Kind::Complete).arrived, 0);
    assert_eq!(
        (world.object("p/large").await, world.open_uploads().await),
        (None, 0)
    );
}

/// The job is lost while the call finds out what became of an earlier upload.
#[tokio::test]
async fn no_upload_is_opened_once_the_job_is_anothers() {
    let world = World::new().await;
    world.write("large", 2 * PART);
    let recorder = Arc::new(Recorder::default());
    let is_anothers = Arc::clone(&recorder.is_anothers);
    world
        .proxy
        .meanwhile(Kind::ListParts, move || is_anothers.store(true, Ordering::SeqCst));
    let file = PlannedFile {
        upload_id: Some("gone".to_owned()),
        multipart_part_size_bytes: Some(PART as u64),
        ..planned(1, "large", 2 * PART)
    };
    let summary = world.upload_to(vec![file], Arc::clone(&recorder)).await;
    assert_eq!(summary.not_started, [1]);
    assert_eq!(world.proxy.count(Kind::ListParts).arrived, 1);
    assert_eq!(world.proxy.writes(), 0);
}
