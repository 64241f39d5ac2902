//! Open multipart uploads: listed over all projects, aborted one by one or all that nobody uses.

use crate::server::{Answer, FakeApi, problem};
use crate::{PROJECT, SESSION, User};
use serde_json::{Value, json};

const OTHER: &str = "0197f000-0000-7000-8000-0000000000b2";

fn items(items: &Value) -> Answer {
    Answer::Json(200, json!({"items": items, "next_cursor": null}))
}

/// Two projects: the first has an upload in use and one that nobody uses, the second has none, or cannot be asked.
async fn two_projects(second: fn() -> Answer) -> FakeApi {
    FakeApi::start(move |asked| {
        let line = asked.line.split('?').next().unwrap();
        if line == "GET /api/projects" {
            return items(&json!([{"id": PROJECT, "name": "Scans"}, {"id": OTHER, "name": "Other"}]));
        }
        if line == format!("GET /api/projects/{PROJECT}/leftovers") {
            return items(&json!([
                {"project_id": PROJECT, "key": "C1/a", "upload_id": "u1", "age_ms": 61_000, "parts": 2,
                 "size_bytes": 1024, "is_in_use": true, "session_id": SESSION, "session_status": "paused"},
                {"project_id": PROJECT, "key": "C1/b\n", "upload_id": "u2", "age_ms": null, "parts": 1,
                 "size_bytes": 2048, "is_in_use": false, "session_id": null, "session_status": null},
            ]));
        }
        if line.ends_with("/leftovers/abort") {
            return Answer::Json(200, json!({"aborted": 1, "in_use": 1, "failed": 0}));
        }
        second()
    })
    .await
}

#[tokio::test]
async fn open_uploads_of_all_projects_are_listed_with_who_uses_them() {
    let api = two_projects(|| items(&json!([]))).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["leftovers"]).await.exits(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    assert!(lines[0].starts_with("PROJECT") && lines[0].contains("IN USE BY"));
    for part in ["Scans", "1m 01s", "1.00 KiB", SESSION, "u1", "C1/a"] {
        assert!(lines[1].contains(part), "{part}: {}", lines[1]);
    }
    assert!(
        lines[2].contains("nobody") && lines[2].ends_with("C1/b\\n"),
        "{}",
        lines[2]
    );
    let all = user.run(&["leftovers", "--json"]).await.exits(0).json();
    assert_eq!(
        (all.as_array().unwrap().len(), &all[1]["upload_id"]),
        (2, &json!("u2"))
    );
    let ran = user.run(&["leftovers", "--limit", "1"]).await.exits(0);
    assert!(
        ran.stdout.lines().count() == 2 && ran.stderr.contains("--all"),
        "{ran:?}"
    );
    let ran = user.run(&["leftovers", "--project", OTHER]).await.exits(0);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.trim()),
        ("", "no multipart upload is open")
    );
}

#[tokio::test]
async fn a_project_that_cannot_be_asked_hides_no_other() {
    let api = two_projects(|| problem(503, "storage_unreachable", "The store cannot be reached")).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["leftovers"]).await.exits(1);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    assert!(
        ran.stderr.contains("project Other: The store cannot be reached"),
        "{}",
        ran.stderr
    );
    user.run(&["leftovers", "abort", "--all", "--yes"]).await.exits(1);
    assert_eq!(
        api.asked_for("POST").len(),
        1,
        "the other one was cleaned all the same"
    );
    let api = two_projects(|| problem(403, "permission_denied", "Permission denied")).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["leftovers"]).await.exits(1);
    assert_eq!(ran.stdout, "");
}

#[tokio::test]
async fn one_is_aborted_by_its_key_and_id() {
    let api = two_projects(|| items(&json!([]))).await;
    let user = User::signed_in(&api);
    let args = ["leftovers", "abort", "C1/b\n", "u2", "--project", "scans"];
    let ran = user.run(&args).await.exits(0);
    assert!(ran.stderr.contains("aborted"), "{}", ran.stderr);
    let asked = api.asked().pop().unwrap();
    assert_eq!(
        asked.line,
        format!("POST /api/projects/{PROJECT}/leftovers/abort")
    );
    assert_eq!(asked.body, json!({"key": "C1/b\n", "upload_id": "u2"}));
    for wrong in [
        ["leftovers", "abort", "C1/b", "u2"].as_slice(),
        &["leftovers", "abort", "C1/b", "--project", "scans"],
        &["leftovers", "abort", "--project", "scans"],
        &["leftovers", "abort", "C1/b", "u2", "--all", "--project", "scans"],
    ] {
        user.run(wrong).await.exits(2);
    }
    let api =
        FakeApi::start(|_| problem(409, "upload_in_use", "An unfinished session uses the upload")).await;
    let user = User::signed_in(&api);
    let ran = user
        .run(&["leftovers", "abort", "C1/a", "u1", "--project", PROJECT])
        .await
        .exits(1);
    assert!(
        ran.stderr.contains("An unfinished session uses the upload"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn all_are_aborted_when_that_is_said_plainly() {
    let api = two_projects(|| items(&json!([]))).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["leftovers", "abort", "--all"]).await.exits(2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    assert!(api.asked_for("POST").is_empty(), "nobody said yes");
    let ran = user.run(&["leftovers", "abort", "--all", "--yes"]).await.exits(0);
    assert!(ran.stderr.contains("1 aborted"), "{}", ran.stderr);
    let sent = api.asked_for("POST");
    assert_eq!(sent.len(), 1, "the other project has nothing that nobody uses");
    assert_eq!(sent[0].body, json!({"all": true}));
    let sums = user
        .run(&["leftovers", "abort", "--all", "--yes", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(sums, json!({"aborted": 1, "in_use": 1, "failed": 0}));
    let ran = user
        .run(&["leftovers", "abort", "--all", "--project", OTHER])
        .await
        .exits(0);
    assert!(ran.stderr.contains("nothing is left over"), "{}", ran.stderr);

    let api = FakeApi::start(|asked| match asked.line.starts_with("POST") {
        true => Answer::Json(200, json!({"aborted": 0, "in_use": 0, "failed": 1})),
        false => items(&json!([{"project_id": PROJECT, "key": "k", "upload_id": "u", "is_in_use": false}])),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user
        .run(&["leftovers", "abort", "--all", "--yes", "--project", PROJECT])
        .await
        .exits(1);
    assert!(ran.stderr.contains("1 stay open"), "{}", ran.stderr);
}
