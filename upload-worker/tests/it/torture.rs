//! The oracle of `make torture` can tell when something is wrong. (The torture itself draws its faults at random
//! instants: it is for `make torture`, not for a test that must say the same twice.)

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// Runs `dev-stack torture` as it was built along with this test.
async fn torture(arguments: &[&str]) -> (Output, Value) {
    let program = dev_stack::bin_folder().unwrap().join("dev-stack");
    assert!(program.exists(), "build it first: cargo build -p dev-stack");
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let running = Command::new(program)
        .args(["torture", "--rounds", "1", "--seed", "7", "--json"])
        .arg(&figures)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(400), running)
        .await
        .expect("it does not end")
        .unwrap();
    let text = std::fs::read(&figures).unwrap_or_else(|_| panic!("no figures: {output:?}"));
    (output, serde_json::from_slice(&text).unwrap())
}

#[tokio::test]
async fn the_oracle_tells_what_is_wrong() {
    let (output, figures) = torture(&["--sabotage"]).await;
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let violations = figures["violations"].as_array().unwrap();
    let has = |kind: &str, part: &str| {
        violations.iter().any(|violation| {
            let violation = &violation["violation"];
            violation["kind"] == kind && violation["detail"].as_str().unwrap().contains(part)
        })
    };
    for (kind, part) in [
        ("lost", "'000/00001.dat' is not in the bucket"),
        ("lost", "'large-0.bin' has other bytes"),
        ("lost", "'000/00002.dat' has no row"),
        ("lost", "the receipt"),
        ("wrong_status", "the receipt states"),
        ("duplicated", "00003.dat.copy"),
        ("wrong_status", "'000/00004.dat' is failed"),
        ("stuck", "finish"),
        ("counter", "files_uploaded"),
        ("multipart_left", "large-0.bin"),
    ] {
        assert!(has(kind, part), "{kind} {part} was not seen: {told}");
    }
    let kept = told.rsplit_once("everything is kept in ").unwrap().1;
    let kept = kept.split(';').next().unwrap();
    std::fs::remove_dir_all(kept).unwrap();
    let sessions: BTreeSet<&str> = violations
        .iter()
        .filter_map(|violation| violation["violation"]["session"].as_str())
        .collect();
    assert_eq!(sessions.len(), 2, "the others are as they were: {told}");
}
