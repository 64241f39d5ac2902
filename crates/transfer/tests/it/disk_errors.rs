//! A disk that gives errors: the system calls of a process of our own fail by the names of the files.

use crate::ordinary_user::assert_passes;
use crate::world::{PART, World, planned};
use domain::{FileErrorCode, Symlinks};
use std::process::Command;
use tokio_util::sync::CancellationToken;
use transfer::{Filter, PlannedFile, ScanEvent, ScanOptions, scan};

const HERE: &str = "TEST_ON_A_FAULTY_DISK";

/// True when the disk gives this process errors. Otherwise runs the test `name` once more in a process to which it
/// does, asserts that it passes there, and returns false.
#[allow(
    clippy::disallowed_methods,
    reason = "no configuration: this process tells the next"
)]
fn is_faulty_for_this_process(name: &str) -> bool {
    if std::env::var_os(HERE).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    if let Some(launcher) = dev_stack::faulty_disk::launcher(folder.path()).unwrap() {
        let mut command = Command::new(launcher);
        command.arg(std::env::current_exe().unwrap()).env(HERE, "1");
        assert_passes(command, name);
    }
    false
}

#[tokio::test]
async fn a_file_that_the_disk_does_not_give_fails_alone() {
    if !is_faulty_for_this_process("disk_errors::a_file_that_the_disk_does_not_give_fails_alone") {
        return;
    }
    let world = World::new().await;
    let sizes = [
        ("small [eio]", 10),
        ("large [eio]", 2 * PART),
        ("large [eio-later]", 3 * PART),
        ("small", 10),
        ("large", 2 * PART),
    ];
    let files: Vec<PlannedFile> = (0..)
        .zip(sizes)
        .map(|(number, (name, size))| {
            world.write(name, size);
            planned(number, name, size)
        })
        .collect();
    let (summary, recorder) = world.upload(files).await;
    assert_eq!(summary, transfer::Summary::default());
    let mut found: Vec<(i64, Option<FileErrorCode>)> = recorder
        .outcomes
        .lock()
        .unwrap()
        .iter()
        .map(|outcome| (outcome.number, outcome.error.as_ref().map(|error| error.0)))
        .collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    let unreadable = Some(FileErrorCode::ReadError);
    assert_eq!(
        found,
        [
            (0, unreadable),
            (1, unreadable),
            (2, unreadable),
            (3, None),
            (4, None)
        ]
    );
    for (name, _) in &sizes[..3] {
        assert_eq!(world.object(&format!("p/{name}")).await, None);
    }
    assert_eq!(world.open_uploads().await, 0);
}

/// As when another client of a share puts a file in the place of the one that is being read.
#[tokio::test]
async fn a_stale_handle_is_opened_again() {
    if !is_faulty_for_this_process("disk_errors::a_stale_handle_is_opened_again") {
        return;
    }
    let world = World::new().await;
    for (name, size) in [("small [stale-once]", 10), ("large", 2 * PART)] {
        let content = world.write(name, size);
        let (_, recorder) = world.upload(vec![planned(1, name, size)]).await;
        recorder.assert_uploaded(1);
        assert!(world.object(&format!("p/{name}")).await == Some(content));
    }
}

#[tokio::test]
async fn a_folder_that_the_disk_does_not_list_is_a_failed_row_and_the_rest_goes_on() {
    let name = "disk_errors::a_folder_that_the_disk_does_not_list_is_a_failed_row_and_the_rest_goes_on";
    if !is_faulty_for_this_process(name) {
        return;
    }
    let world = World::new().await;
    for folder in ["a [eio]", "b [eio-later]", "c"] {
        std::fs::create_dir(world.path(folder)).unwrap();
        world.write(&format!("{folder}/file"), 1);
    }
    let walk = async |source_path: &str| {
        let options = ScanOptions {
            source_path: source_path.to_owned(),
            filter: Filter::compile(&[], &[]).unwrap(),
            symlinks: Symlinks::Skip,
            in_key_order: false,
        };
        let mut scan = scan(&world.plan().root, options, CancellationToken::new());
        let (mut files, mut failed) = (Vec::new(), Vec::new());
        while let Some(events) = scan.events.recv().await {
            for event in events {
                match event {
                    ScanEvent::File(file) => files.push(file.path.text),
                    ScanEvent::NotSendable {
                        path, code, skipped, ..
                    } => failed.push((path.text, code, skipped)),
                }
            }
        }
        (files, failed, scan.result.await.unwrap().unwrap())
    };
    let row = |path: &str| (path.to_owned(), FileErrorCode::ReadError, false);
    let (files, failed, totals) = walk("").await;
    // What was listed before the error is there.
    assert_eq!(files, ["b [eio-later]/file", "c/file"]);
    assert_eq!(failed, [row("a [eio]/"), row("b [eio-later]/")]);
    assert_eq!((totals.files, totals.failed), (2, 2));
    // The source itself has no name below itself.
    let (files, failed, _) = walk("a [eio]").await;
    assert_eq!((files, failed), (vec![], vec![row("/")]));
}
