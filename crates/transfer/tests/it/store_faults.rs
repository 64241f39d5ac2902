//! What becomes of files whose store fails in one way each: nothing is called uploaded that is not there, nothing is
//! lost, the cause is said, and when the store is mended another call brings the rest.

use crate::proxy::{Kind, refused};
use crate::world::{PART, Recorder, World, planned};
use dev_stack::s3::Trouble;
use domain::{FileErrorCode, FileStatus, SessionErrorCode};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use storage::BucketConfig;
use transfer::{Engine, PlannedFile, Summary};

const SMALL: usize = 1_000;

/// Twelve small files, and two that travel in parts.
async fn world() -> (World, Vec<PlannedFile>) {
    let world = World::new().await;
    let files = (0..14)
        .map(|number| {
            let size = if number % 7 == 3 { PART + SMALL } else { SMALL };
            let name = format!("f{number}");
            world.write(&name, size);
            planned(number, &name, size)
        })
        .collect();
    (world, files)
}

/// A store that stands still is given up within moments.
fn hasty(config: &mut BucketConfig) {
    config.timeouts.idle = Duration::from_millis(300);
    config.timeouts.whole = Duration::from_millis(900);
}

impl World {
    /// Those that are called uploaded are there, whole.
    async fn assert_true(&self, recorder: &Recorder) {
        let outcomes = recorder.outcomes.lock().unwrap().clone();
        for outcome in outcomes {
            if outcome.status == FileStatus::Uploaded {
                let name = format!("f{}", outcome.number);
                let object = self.object(&format!("p/{name}")).await;
                assert_eq!(object, Some(std::fs::read(self.path(&name)).unwrap()), "{name}");
            }
        }
    }

    /// Another call brings what the first left.
    async fn assert_mended(&self, files: Vec<PlannedFile>, first: &Recorder) {
        let uploaded: BTreeSet<i64> = first
            .outcomes
            .lock()
            .unwrap()
            .iter()
            .filter(|outcome| outcome.status == FileStatus::Uploaded)
            .map(|outcome| outcome.number)
            .collect();
        let opened = first.opened.lock().unwrap().clone();
        let rest: Vec<PlannedFile> = files
            .into_iter()
            .filter(|file| !uploaded.contains(&file.number))
            .map(|mut file| {
                if let Some((_, id, size)) = opened.iter().rfind(|(number, ..)| *number == file.number) {
                    (file.upload_id, file.multipart_part_size_bytes) = (Some(id.clone()), Some(*size));
                }
                file
            })
            .collect();
        let left = rest.len();
        let (summary, recorder) = self.upload(rest).await;
        assert_eq!(summary.fatal, None);
        recorder.assert_uploaded(left);
        self.assert_true(&recorder).await;
    }
}

/// The call ended without blaming a file, for a store that took nothing.
#[track_caller]
fn assert_away(summary: &Summary, recorder: &Recorder, why: &str) {
    let fatal = summary.fatal.as_ref().expect("the store is away");
    assert_eq!(fatal.code, SessionErrorCode::StorageUnreachable);
    assert!(fatal.detail.contains(why), "{fatal:?}");
    assert!(recorder.outcomes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_hangs_is_away() {
    let (mut world, files) = world().await;
    world.direct(hasty);
    world.server.set_trouble(Trouble {
        hung_per_mille: 1000,
        ..Trouble::default()
    });
    let (summary, recorder) = world.upload(files.clone()).await;
    assert_away(&summary, &recorder, "no progress for 0.3 s");
    world.server.set_trouble(Trouble::default());
    world.assert_mended(files, &recorder).await;
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn a_store_that_passes_a_byte_a_second_is_away() {
    let (mut world, files) = world().await;
    world.direct(hasty);
    world.server.set_trouble(Trouble {
        stalled_per_mille: 1000,
        ..Trouble::default()
    });
    let (summary, recorder) = world.upload(files.clone()).await;
    assert_away(&summary, &recorder, "timed out");
    world.server.set_trouble(Trouble::default());
    world.assert_mended(files, &recorder).await;
    // What it opened without saying so in time is for the end of the session to find.
    assert!(world.open_uploads().await <= 2 * 2);
}

#[tokio::test]
async fn a_wrong_checksum_in_the_answer_is_not_believed_and_the_file_is_sent_again() {
    let (mut world, files) = world().await;
    world.direct(|_| {});
    world.server.set_trouble(Trouble {
        corrupted_per_mille: 1000,
        ..Trouble::default()
    });
    let (summary, recorder) = world.upload(files.clone()).await;
    assert_eq!(summary.fatal, None);
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    assert_eq!(outcomes.len(), files.len());
    for outcome in outcomes {
        let code = outcome.error.as_ref().map(|error| error.0);
        assert_eq!(code, Some(FileErrorCode::ChecksumMismatch), "{outcome:?}");
        assert_eq!(outcome.attempts, 2, "{outcome:?}");
    }
    world.settings.max_attempts = 12;
    world.server.set_trouble(Trouble {
        corrupted_per_mille: 400,
        ..Trouble::default()
    });
    let (_, recorder) = world.upload(files.clone()).await;
    recorder.assert_uploaded(files.len());
    world.server.set_trouble(Trouble::default());
    world.assert_true(&recorder).await;
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn an_error_inside_a_good_answer_to_complete_is_no_upload() {
    let (mut world, files) = world().await;
    world.direct(|_| {});
    world.is_patient = true;
    world.server.set_trouble(Trouble {
        disguised_per_mille: 1000,
        ..Trouble::default()
    });
    let (summary, recorder) = world.upload(files.clone()).await;
    let fatal = summary.fatal.unwrap();
    assert!(fatal.detail.contains("InternalError (200)"), "{fatal:?}");
    recorder.assert_uploaded(12);
    world.server.set_trouble(Trouble::default());
    world.assert_true(&recorder).await;
    assert_eq!(world.object("p/f3").await, None);
    world.assert_mended(files, &recorder).await;
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn a_lost_answer_to_complete_costs_nothing() {
    let (world, files) = world().await;
    world.proxy.lose_answer(Kind::Complete);
    let (_, recorder) = world.upload(files.clone()).await;
    recorder.assert_uploaded(files.len());
    world.assert_true(&recorder).await;
    assert_eq!(world.proxy.count(Kind::Part).arrived, 4, "no part is sent twice");
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn resets_and_internal_errors_are_overcome() {
    let (mut world, files) = world().await;
    world.direct(|_| {});
    world.settings.max_attempts = 12;
    world.server.set_trouble(Trouble {
        failed_per_mille: 250,
        reset_per_mille: 150,
        lost_per_mille: 150,
        ..Trouble::default()
    });
    let (_, recorder) = world.upload(files.clone()).await;
    recorder.assert_uploaded(files.len());
    world.server.set_trouble(Trouble::default());
    world.assert_true(&recorder).await;
}

/// From the fourth small file on the store refuses everything with this code.
async fn refuses_midway(status: u16, code: &'static str, expected: SessionErrorCode) {
    let (mut world, files) = world().await;
    world.engine = Engine::new(1, 64 << 20);
    let puts = AtomicUsize::new(0);
    world.proxy.refuse(move |kind, _| {
        let before = puts.fetch_add(usize::from(kind == Kind::Put), Ordering::Relaxed);
        (before >= 3 && kind != Kind::Other).then(|| refused(status, code))
    });
    let (summary, recorder) = world.upload(files.clone()).await;
    let fatal = summary.fatal.unwrap();
    assert_eq!(fatal.code, expected);
    assert!(fatal.detail.contains(code), "{fatal:?}");
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    let uploaded = outcomes
        .iter()
        .filter(|outcome| outcome.status == FileStatus::Uploaded)
        .count();
    assert_eq!(uploaded, 3, "{outcomes:?}");
    let asked = world.proxy.count(Kind::Put).arrived + world.proxy.count(Kind::Create).arrived;
    assert!(asked <= 6, "it is not asked for every file: {asked}");
    world.proxy.accept();
    world.assert_true(&recorder).await;
    world.assert_mended(files, &recorder).await;
    assert_eq!(world.open_uploads().await, 0);
}

#[tokio::test]
async fn credentials_that_expire_midway_end_the_call_at_once() {
    refuses_midway(400, "ExpiredToken", SessionErrorCode::AccessDenied).await;
}

#[tokio::test]
async fn a_bucket_that_is_deleted_midway_ends_the_call_at_once() {
    refuses_midway(404, "NoSuchBucket", SessionErrorCode::NoSuchBucket).await;
}
