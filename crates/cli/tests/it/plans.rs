//! Dry runs: their plan, and the upload that is started from it.

use crate::server::{Answer, FakeApi, event, problem};
use crate::{CYCLE, SESSION, User};
use serde_json::{Value, json};

const UPLOADED: &str = "0197f000-0000-7000-8000-000000000002";

fn session(id: &str, dry_run: bool) -> Value {
    json!({
        "id": id, "status": "completed", "phase": "ended", "run": 1, "dry_run": dry_run, "cycle_id": CYCLE,
        "source": {"root": "lab", "path": "run-42"},
        "settings": {"exclude": ["*.tmp"], "storage_class": "GLACIER_IR", "of_a_later_version": 7, "dry_run": dry_run},
        "files": {"total": 2, "skipped": 2}, "bytes": {"total": 10, "skipped": 10}
    })
}

fn plan() -> Value {
    json!({
        "session_id": SESSION, "run": 1, "send": {"files": 2, "size_bytes": 10}, "overwrite": null,
        "requests": {"put_object": 2}, "estimate": null, "no_estimate": "nothing_known"
    })
}

async fn api(plan: impl Fn() -> Answer + Send + Sync + 'static) -> FakeApi {
    FakeApi::start(move |asked| match asked.line.as_str() {
        "POST /api/sessions" if asked.body["repeats"] == SESSION => {
            Answer::Json(201, session(UPLOADED, false))
        }
        "POST /api/sessions" => Answer::Json(201, session(SESSION, true)),
        line if line.ends_with("/plan") => plan(),
        line if line.ends_with("/events") => {
            let id = line.split('/').nth(3).unwrap();
            let last = session(id, id == SESSION);
            Answer::Events(event(1, "session", &last) + &event(2, "end", &last))
        }
        line if line.starts_with("GET /api/sessions/") => {
            let id = line.split('/').nth(3).unwrap();
            Answer::Json(200, session(id, id == SESSION))
        }
        _ => problem(404, "not_found", "Not found"),
    })
    .await
}

#[tokio::test]
async fn a_plan_is_shown_at_the_end_of_its_dry_run_and_later() {
    let api = api(|| Answer::Json(200, plan())).await;
    let user = User::signed_in(&api);
    let upload = ["upload", "--cycle", CYCLE, "--root", "lab", "run-42", "--dry-run"];
    let ran = user.run(&upload).await.exits(0);
    let told = format!("Plan of dry run {SESSION}:\n  to send  2 files  10 B  ");
    assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    let ran = user.run(&["plan", SESSION]).await.exits(0);
    assert!(ran.stdout.starts_with(&told), "{}", ran.stdout);
    let next = format!("Next: `uploader upload --plan {SESSION}` does it.\n");
    assert!(ran.stdout.ends_with(&next), "{}", ran.stdout);
    let ran = user.run(&["plan", SESSION, "--json"]).await.exits(0);
    assert_eq!(ran.json(), plan());
    let ran = user.run(&[&upload[..], &["--json"]].concat()).await.exits(0);
    assert_eq!(*ran.json_lines().last().unwrap(), plan());
}

#[tokio::test]
async fn an_upload_from_a_plan_has_the_source_and_the_settings_of_the_dry_run() {
    let api = api(|| Answer::Json(200, plan())).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["upload", "--plan", SESSION]).await.exits(0);
    assert!(!ran.stdout.contains("Plan of"), "{}", ran.stdout);
    let started = &api.asked_for("POST /api/sessions")[0];
    assert_eq!(
        started.body,
        json!({
            "cycle_id": CYCLE, "source": {"root": "lab", "path": "run-42"}, "repeats": SESSION,
            "settings": {
                "exclude": ["*.tmp"], "storage_class": "GLACIER_IR", "of_a_later_version": 7, "dry_run": false
            }
        })
    );
}

#[tokio::test]
async fn what_is_not_in_the_plan_cannot_be_given_with_it() {
    let api = api(|| Answer::Json(200, plan())).await;
    let user = User::signed_in(&api);
    for (more, named) in [
        (&["--cycle", "C1"][..], "--cycle"),
        (&["--project", "Scans"], "--project"),
        (&["--root", "lab"], "--root"),
        (&["run-43"], "[PATH]"),
        (&["--exclude", "*.bak"], "--exclude"),
        (&["--storage-class", "STANDARD"], "--storage-class"),
        (&["--dry-run"], "--dry-run"),
    ] {
        let ran = user
            .run(&[&["upload", "--plan", SESSION], more].concat())
            .await
            .exits(2);
        assert!(
            ran.stderr.contains("--plan <SESSION>' cannot be used with") && ran.stderr.contains(named),
            "{more:?}: {}",
            ran.stderr
        );
    }
    let ran = user.run(&["upload", "run-42"]).await.exits(2);
    assert!(
        ran.stderr.contains("--cycle") && ran.stderr.contains("--root"),
        "{}",
        ran.stderr
    );
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn without_a_plan_nothing_is_started_from_it_and_a_dry_run_ends_as_it_does() {
    let api = api(|| problem(409, "no_plan", "The session has no plan")).await;
    let user = User::signed_in(&api);
    for command in [&["upload", "--plan", SESSION][..], &["plan", SESSION]] {
        let ran = user.run(command).await.exits(1);
        assert!(ran.stderr.contains("The session has no plan"), "{}", ran.stderr);
    }
    assert!(api.asked_for("POST").is_empty());
    let ran = user
        .run(&["upload", "--cycle", CYCLE, "--root", "lab", "--dry-run"])
        .await
        .exits(0);
    assert!(ran.stderr.contains("there is no plan"), "{}", ran.stderr);
}
