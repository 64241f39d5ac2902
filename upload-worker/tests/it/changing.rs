//! A source that changes while it is uploaded.

use crate::fixture::{MIB, World, pseudo_random, set_mode, shared};
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn a_file_that_vanishes_is_reported_and_one_that_changes_arrives_whole() {
    let mut place = shared().await.place("changing").await;
    place.source.write_many(40);
    place.s3.set_latency(Duration::from_millis(100));
    let id = place.start(json!({ "concurrency": 1 })).await;
    place
        .api
        .until(&id, "scanned", |session| session["scan_complete"] == true)
        .await;
    place.api.in_the_middle(&id, 1).await;
    // One at a time in the order of their numbers: the last ones are far from being read.
    let files = place.api.files(&id).await;
    let path = |from_end: usize| files[files.len() - from_end]["path"].as_str().unwrap().to_owned();
    let (vanishing, changing, growing) = (path(1), path(2), path(3));
    assert!(
        files.iter().rev().take(3).all(|file| file["status"] == "pending"),
        "too late"
    );
    fs::remove_file(place.source.dir().join(&vanishing)).unwrap();
    let removed = place.source.expected.remove(&vanishing).unwrap();
    place.source.write(&changing, "!");
    place
        .source
        .write(&growing, "much more than was there when the directory was walked");

    let session = place.api.ended_as(&id, "completed_with_errors").await;
    place.s3.set_latency(Duration::ZERO);
    place.assert_delivered(&session).await;
    let failed = failed(&place.api.files(&id).await);
    assert_eq!(failed, [(vanishing.clone(), "file_vanished".to_owned())]);
    let groups = place.api.get(&format!("/api/sessions/{id}/failures")).await;
    assert_eq!(groups["items"][0]["error_code"], "file_vanished", "{groups}");
    assert_eq!(
        groups["items"][0]["example_paths"],
        json!([vanishing]),
        "{groups}"
    );

    fs::write(&removed, "it is back").unwrap();
    place.source.expected.insert(vanishing, removed);
    let before = place.s3.requests();
    let body = json!({ "error_code": "file_vanished" });
    let session = place.api.post(&format!("/api/sessions/{id}/retry"), body).await;
    assert_eq!(session["run"], 2);
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(
        (&session["run"], &session["files"]["uploaded"]),
        (&json!(2), &json!(40))
    );
    assert!(
        place.s3.requests() - before < 10,
        "only what failed is sent again"
    );
    place.assert_delivered(&session).await;
}

/// Between the walk and their turn.
#[tokio::test]
async fn what_takes_a_files_place_is_named_and_the_rest_arrives() {
    // One job after the other, one file at a time: those of the last folder are read last.
    let world = World::start(1, 5).await;
    world.sql("UPDATE companies SET max_concurrent_jobs = 1").await;
    let mut place = world.place("replaced").await;
    place.source.write_many(100);
    let changed = [
        "a folder",
        "a fifo",
        "a link",
        "closed",
        "gone",
        "moved/inside",
        "swapped/inside",
        "emptied",
        "renamed",
        "rewritten",
    ];
    for name in changed {
        place.source.write(&format!("z/{name}"), "0123456789");
    }
    place.s3.set_latency(Duration::from_millis(200));
    let id = place.start(json!({ "concurrency": 1 })).await;
    place
        .api
        .until(&id, "scanned", |session| session["scan_complete"] == true)
        .await;
    place.api.in_the_middle(&id, 1).await;
    let files = place.api.files(&id).await;
    let is_to_come = |file: &&Value| {
        let path = file["path"].as_str().unwrap();
        path.starts_with("z/") && file["status"] == "pending"
    };
    assert_eq!(files.iter().filter(is_to_come).count(), changed.len(), "too late");

    let z = place.source.dir().join("z");
    let at = |name: &str| z.join(name);
    for name in ["a folder", "a fifo", "a link", "gone"] {
        fs::remove_file(at(name)).unwrap();
    }
    fs::create_dir(at("a folder")).unwrap();
    rustix::fs::mknodat(CWD, at("a fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", at("a link")).unwrap();
    set_mode(at("closed"), 0o000);
    fs::rename(at("moved"), at("moved away")).unwrap();
    fs::rename(at("swapped"), at("swapped away")).unwrap();
    std::os::unix::fs::symlink("swapped away", at("swapped")).unwrap();
    fs::write(at("emptied"), "").unwrap();
    fs::write(at("new"), "9876543210").unwrap();
    fs::rename(at("new"), at("renamed")).unwrap();
    let modified = at("rewritten").metadata().unwrap().modified().unwrap();
    fs::write(at("rewritten"), "9876543210").unwrap();
    fs::File::options()
        .write(true)
        .open(at("rewritten"))
        .unwrap()
        .set_modified(modified)
        .unwrap();

    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed_with_errors").await;
    let expected = BTreeMap::from(
        [
            ("a folder", "special_file"),
            ("a fifo", "special_file"),
            ("a link", "symlink_not_followed"),
            ("closed", "permission_denied"),
            ("gone", "file_vanished"),
            ("moved/inside", "file_vanished"),
            ("swapped/inside", "symlink_not_followed"),
        ]
        .map(|(name, code)| (format!("z/{name}"), code.to_owned())),
    );
    let found: BTreeMap<String, String> = failed(&place.api.files(&id).await).into_iter().collect();
    assert_eq!(found, expected);
    for path in expected.keys() {
        place.source.expected.remove(path).unwrap();
    }
    place.assert_delivered(&session).await;
    world.stack.stop().await;
}

/// As when a share is unmounted.
#[tokio::test]
async fn a_source_that_goes_away_fails_the_session_until_it_is_back() {
    let mut place = shared().await.place("away").await;
    place.source.write_many(400);
    place.source.write("zz-large", pseudo_random(11 * MIB, 1));
    place.s3.set_latency(Duration::from_millis(300));
    let settings = json!({ "concurrency": 2, "part_size_bytes": 5 * MIB });
    let id = place.start(settings).await;
    place.api.in_the_middle(&id, 50).await;
    let (dir, away) = (
        place.source.dir().to_owned(),
        place.source.dir().with_extension("away"),
    );
    fs::rename(&dir, &away).unwrap();
    let session = place.api.ended_as(&id, "failed").await;
    place.s3.set_latency(Duration::ZERO);
    assert_eq!(session["error_code"], "source_unreadable", "{session:#}");
    assert_eq!(session["files"]["failed"], 0, "no file is to blame: {session:#}");
    let uploaded = session["files"]["uploaded"].as_i64().unwrap();
    assert!((50..401).contains(&uploaded), "{session:#}");

    fs::rename(&away, &dir).unwrap();
    let before = place.s3.requests();
    place
        .api
        .post(&format!("/api/sessions/{id}/retry"), json!({}))
        .await;
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(session["files"]["uploaded"], 401);
    let sent = i64::try_from(place.s3.requests() - before).unwrap();
    assert!(
        sent < 401 - uploaded + 40,
        "{sent} requests: what arrived is not sent again"
    );
    place.assert_delivered(&session).await;
}

/// The workers' reads fail by the names of the files.
#[tokio::test]
async fn what_the_disk_does_not_give_is_named_and_the_rest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let Some(launcher) = dev_stack::faulty_disk::launcher(folder.path()).unwrap() else {
        return;
    };
    let bin = folder.path().join("bin");
    let world = World::start_with(1, 5, |options| {
        let healthy = options.bin_dir.replace(bin.clone()).unwrap();
        put_before_worker(&launcher, &healthy, &bin);
    })
    .await;
    let mut place = world.place("faulty").await;
    place.source.write_many(300);
    place.source.write("large", pseudo_random(12 * MIB, 1));
    let source = &place.source;
    source.write_unexpected(b"small [eio]", "0123456789");
    source.write_unexpected(b"large [eio-later]", pseudo_random(12 * MIB, 2));
    source.write_unexpected(b"folder [eio]/inside", "0123456789");
    let session = place
        .upload(json!({ "part_size_bytes": 5 * MIB }), "completed_with_errors")
        .await;
    place.assert_delivered(&session).await;
    let found: BTreeMap<String, String> = failed(&place.api.files(session["id"].as_str().unwrap()).await)
        .into_iter()
        .collect();
    let expected = ["folder [eio]/", "large [eio-later]", "small [eio]"]
        .map(|path| (path.to_owned(), "read_error".to_owned()));
    assert_eq!(found, BTreeMap::from(expected));
    world.stack.stop().await;
}

/// Fills `bin` with the programs of `healthy`, the worker started by `launcher`.
fn put_before_worker(launcher: &Path, healthy: &Path, bin: &Path) {
    fs::create_dir(bin).unwrap();
    for program in ["api-gateway", "uploader"] {
        std::os::unix::fs::symlink(healthy.join(program), bin.join(program)).unwrap();
    }
    let worker = bin.join("upload-worker");
    let healthy = healthy.join("upload-worker");
    let script = format!(
        "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
        launcher.display(),
        healthy.display()
    );
    fs::write(&worker, script).unwrap();
    set_mode(worker, 0o755);
}

fn failed(files: &[Value]) -> Vec<(String, String)> {
    let text = |file: &Value, field: &str| file[field].as_str().unwrap().to_owned();
    files
        .iter()
        .filter(|file| file["status"] == "failed")
        .map(|file| (text(file, "path"), text(file, "error_code")))
        .collect()
}
