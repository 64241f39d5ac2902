//! What becomes of files whose requests fail for causes that may pass.

use crate::proxy::{Kind, bad_gateway};
use crate::world::{PART, World, planned};
use domain::{FileErrorCode, FileStatus, SessionErrorCode};
use transfer::{Engine, PlannedFile};

#[tokio::test]
async fn with_patience_a_few_files_without_others_to_compare_with_have_no_outcome_yet() {
    let (mut world, mut files) = world_of((0..7).map(|number| format!("f{number}"))).await;
    world.is_patient = true;
    world.write("large", 2 * PART);
    files[3] = planned(3, "large", 2 * PART);
    world.proxy.refuse(|kind, path| {
        (matches!(kind, Kind::Part | Kind::Put) && !path.contains("f1")).then(bad_gateway)
    });
    let (summary, recorder) = world.upload(files).await;
    assert_eq!(
        summary.fatal.map(|fatal| fatal.code),
        Some(SessionErrorCode::StorageUnreachable)
    );
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    let ended: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome.number, outcome.status))
        .collect();
    // One file failed before another arrived.
    assert_eq!(ended, [(1, FileStatus::Uploaded), (0, FileStatus::Failed)]);
    assert_eq!(summary.not_started, [2, 3, 4, 5, 6]);
    assert_eq!(world.open_uploads().await, 1, "another call goes on with it");
}

/// One file after the other, each of ten bytes.
async fn world_of(names: impl Iterator<Item = String>) -> (World, Vec<PlannedFile>) {
    let mut world = World::new().await;
    world.engine = Engine::new(1, 64 << 20);
    let files = (0..).zip(names).map(|(number, name)| {
        world.write(&name, 10);
        planned(number, &name, 10)
    });
    let files = files.collect();
    (world, files)
}

#[tokio::test]
async fn a_store_that_answers_nothing_but_errors_fails_no_file() {
    let (world, mut files) = world_of((0..20).map(|number| format!("f{number}"))).await;
    world.write("large", 2 * PART);
    files[3] = planned(3, "large", 2 * PART);
    world
        .proxy
        .refuse(|kind, _| matches!(kind, Kind::Part | Kind::Put).then(bad_gateway));
    let (summary, recorder) = world.upload(files.clone()).await;
    let fatal = summary.fatal.unwrap();
    assert_eq!(fatal.code, SessionErrorCode::StorageUnreachable);
    assert!(fatal.detail.contains("502"), "{fatal:?}");
    assert!(recorder.outcomes.lock().unwrap().is_empty());
    assert_eq!(summary.not_started, (0..20).collect::<Vec<_>>());
    assert_eq!(
        recorder.started.lock().unwrap().len(),
        8,
        "the others are not tried"
    );
    assert_eq!(world.open_uploads().await, 1, "another call goes on with it");
    world.proxy.accept();
    world.upload(files).await.1.assert_uploaded(20);
}

#[tokio::test]
async fn files_that_fail_while_others_arrive_fail_alone() {
    // Seven in a row, thrice.
    let name = |number| format!("{}{number}", if number % 8 == 7 { "good" } else { "bad" });
    let (world, files) = world_of((0..24).map(name)).await;
    world
        .proxy
        .refuse(|kind, path| (kind == Kind::Put && path.contains("bad")).then(bad_gateway));
    let (summary, recorder) = world.upload(files).await;
    assert_eq!(summary.fatal, None);
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    for outcome in &outcomes {
        let expected = if outcome.number % 8 == 7 {
            (FileStatus::Uploaded, None, 1)
        } else {
            (FileStatus::Failed, Some(FileErrorCode::StorageError), 2)
        };
        let code = outcome.error.as_ref().map(|error| error.0);
        assert_eq!((outcome.status, code, outcome.attempts), expected, "{outcome:?}");
    }
    assert_eq!(outcomes.len(), 24);
}

#[tokio::test]
async fn a_few_files_that_fail_with_none_to_compare_with_have_failed() {
    let (world, mut files) = world_of((0..7).map(|number| format!("f{number}"))).await;
    world.write("large", 2 * PART);
    files[3] = planned(3, "large", 2 * PART);
    world
        .proxy
        .refuse(|kind, _| matches!(kind, Kind::Part | Kind::Put).then(bad_gateway));
    let (summary, recorder) = world.upload(files).await;
    assert_eq!(summary.fatal, None);
    let outcomes = recorder.outcomes.lock().unwrap().clone();
    assert_eq!(outcomes.len(), 7);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == FileStatus::Failed),
        "{outcomes:?}"
    );
    assert_eq!(world.open_uploads().await, 0);
}
