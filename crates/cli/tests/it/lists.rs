//! Projects, cycles, roots, sessions and files: what is asked of the server, what is shown, what is refused.

use crate::server::{Answer, FakeApi, problem};
use crate::{CYCLE, PROJECT, SESSION, User};
use serde_json::{Value, json};

fn page(items: &Value, next_cursor: Option<&str>) -> Answer {
    Answer::Json(200, json!({"items": items, "next_cursor": next_cursor}))
}

#[tokio::test]
async fn lists_follow_their_pages_up_to_the_limit() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        line if line.contains("cursor=two") => page(&json!([{"id": "3", "name": "c\nd"}]), None),
        _ => page(
            &json!([{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]),
            Some("two"),
        ),
    })
    .await;
    let user = User::signed_in(&api);
    let all = user
        .run(&["projects", "list", "--all", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let ran = user.run(&["projects", "list", "--limit", "2"]).await.exits(0);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    assert!(
        ran.stdout.starts_with("ID") && ran.stderr.contains("--all"),
        "{ran:?}"
    );
    assert_eq!(api.asked().last().unwrap().line, "GET /api/projects?limit=2");
    let ran = user.run(&["projects", "list"]).await.exits(0);
    assert!(ran.stdout.contains("c\\nd"), "{}", ran.stdout);
}

#[tokio::test]
async fn a_project_is_created_with_what_was_given() {
    let api = FakeApi::start(|_| Answer::Json(201, json!({"id": PROJECT, "name": "n", "bucket": "b"}))).await;
    let user = User::signed_in(&api);
    let args = [
        "projects",
        "create",
        "--name",
        "n",
        "--bucket",
        "b",
        "--endpoint-url",
        "http://s3",
        "--prefix",
        "p/",
        "--access-key-id",
        "AK",
        "--secret-access-key-stdin",
        "--json",
    ];
    let ran = user.run_with_stdin(&args, "s3cr3t\n").await.exits(0);
    assert_eq!(ran.json()["id"], PROJECT);
    let asked = &api.asked()[0];
    assert_eq!(asked.line, "POST /api/projects");
    assert_eq!(
        asked.body,
        json!({
            "name": "n", "bucket": "b", "endpoint_url": "http://s3", "prefix": "p/",
            "credentials": {"access_key_id": "AK", "secret_access_key": "s3cr3t"}
        })
    );
}

#[tokio::test]
async fn an_update_sends_changes_only_and_empty_clears() {
    let api = FakeApi::start(|_| Answer::Json(200, json!({"id": PROJECT}))).await;
    let user = User::signed_in(&api);
    let args = [
        "projects",
        "update",
        PROJECT,
        "--prefix",
        "",
        "--active",
        "false",
        "--clear-credentials",
    ];
    user.run(&args).await.exits(0);
    let asked = &api.asked()[0];
    assert_eq!(asked.line, format!("PATCH /api/projects/{PROJECT}"));
    assert_eq!(
        asked.body,
        json!({"prefix": null, "is_active": false, "credentials": null})
    );
    user.run(&["projects", "update", PROJECT]).await.exits(2);
}

#[tokio::test]
async fn cycles_are_named_within_their_project() {
    let api = FakeApi::start(|asked| match asked.line.split('?').next().unwrap() {
        "GET /api/projects" => page(&json!([{"id": PROJECT, "name": "Scans"}]), None),
        line if line == format!("GET /api/projects/{PROJECT}/cycles") => page(
            &json!([{"id": CYCLE, "cycle_name": "C2", "cycle_number": 2}]),
            None,
        ),
        line if line.starts_with("DELETE") => Answer::Json(204, json!(null)),
        _ => Answer::Json(200, json!({"id": CYCLE, "cycle_name": "C2"})),
    })
    .await;
    let user = User::signed_in(&api);
    user.run(&["cycles", "complete", "c2", "--project", "Scans"])
        .await
        .exits(0);
    assert_eq!(
        api.asked().last().unwrap().line,
        format!("POST /api/cycles/{CYCLE}/complete")
    );
    user.run(&[
        "cycles",
        "create",
        "--project",
        "scans",
        "--number",
        "2",
        "--description",
        "d",
    ])
    .await
    .exits(0);
    assert_eq!(
        api.asked().last().unwrap().body,
        json!({"cycle_number": 2, "description": "d"})
    );
    user.run(&["cycles", "delete", CYCLE]).await.exits(0);
    assert_eq!(
        api.asked().last().unwrap().line,
        format!("DELETE /api/cycles/{CYCLE}")
    );
    user.run(&["cycles", "show", "C2"]).await.exits(2);
    let ran = user
        .run(&["cycles", "show", "C9", "--project", "Scans"])
        .await
        .exits(1);
    assert!(ran.stderr.contains("no cycle \"C9\""), "{}", ran.stderr);
}

#[tokio::test]
async fn roots_are_browsed() {
    let api = FakeApi::start(|asked| match asked.line.split('?').next().unwrap() {
        "GET /api/source-roots" => Answer::Json(200, json!({"items": [{"name": "lab", "available": true}]})),
        _ => page(&json!([{"name": "a dir", "kind": "directory"}, {"name": "f", "kind": "file", "size_bytes": 2048}]), None),
    })
    .await;
    let user = User::signed_in(&api);
    assert_eq!(
        user.run(&["roots", "list"]).await.exits(0).stdout,
        "NAME  AVAILABLE\nlab   true\n"
    );
    let ran = user.run(&["roots", "ls", "lab", "x/y & z"]).await.exits(0);
    assert!(
        ran.stdout.contains("a dir/") && ran.stdout.contains("2.00 KiB"),
        "{}",
        ran.stdout
    );
    let line = api.asked().pop().unwrap().line;
    assert_eq!(
        line,
        "GET /api/source-roots/lab/entries?path=x%2Fy+%26+z&limit=50"
    );
}

#[tokio::test]
async fn the_queue_is_shown_with_its_reasons() {
    let queue = json!({
        "waiting_jobs": 7, "running_jobs": 2, "max_concurrent_jobs": 2, "running_upload_jobs": 2,
        "queue_available": true, "workers_alive": 3,
        "roots": [
            {"root": "lab", "state": "limit_reached", "waiting_jobs": 3, "delayed_jobs": 1, "paused_jobs": 1,
             "running_jobs": 2, "files_left": 1500, "bytes_left": 4096, "place_in_line": null,
             "companies_in_line": 2, "workers_alive": 3, "eta_s": 720},
            {"root": "media", "state": "no_worker", "waiting_jobs": 2, "delayed_jobs": 0, "paused_jobs": 0,
             "running_jobs": 0, "files_left": 0, "bytes_left": 0, "place_in_line": 2, "companies_in_line": 5,
             "workers_alive": 0, "eta_s": null}
        ]
    });
    let api = FakeApi::start({
        let queue = queue.clone();
        move |_| Answer::Json(200, queue.clone())
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["queue"]).await.exits(0);
    let lines: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines,
        [
            vec![
                "ROOT",
                "STATE",
                "WAITING",
                "RUNNING",
                "LEFT",
                "PLACE",
                "WORKERS",
                "TIME LEFT"
            ],
            vec![
                "lab",
                "limit reached",
                "5",
                "2",
                "1,500 files, 4.00 KiB",
                "-",
                "3",
                "12m 00s"
            ],
            vec!["media", "no worker", "2", "0", "-", "2 of 5", "0", "-"],
            vec!["your company runs 2 of at most 2 upload jobs"],
            vec!["lab: waiting: your company already runs 2 of at most 2 upload jobs"],
            vec!["media: waiting: no running worker serves the source root \"media\""],
        ]
    );
    assert_eq!(user.run(&["queue", "--json"]).await.exits(0).json(), queue);
    assert_eq!(api.asked().pop().unwrap().line, "GET /api/queue");
}

#[tokio::test]
async fn sessions_and_files_are_filtered_by_the_server() {
    let api = FakeApi::start(|asked| {
        if asked.line.contains("/files") {
            return page(
                &json!([{"path": "a\u{1b}[2J", "status": "failed", "size_bytes": 1, "attempts": 5,
                    "error_code": "read_error", "error_detail": "EIO"}]),
                None,
            );
        }
        page(
            &json!([{"id": SESSION, "status": "completed", "source": {"root": "lab", "path": "x"}}]),
            None,
        )
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user
        .run(&[
            "sessions",
            "list",
            "--cycle",
            CYCLE,
            "--status",
            "completed",
            "-q",
            "x",
        ])
        .await
        .exits(0);
    assert!(ran.stdout.contains("lab:/x"), "{}", ran.stdout);
    assert_eq!(
        api.asked().last().unwrap().line,
        format!("GET /api/sessions?sort=-created_at&cycle_id={CYCLE}&status=completed&q=x&limit=50")
    );
    let ran = user
        .run(&[
            "files",
            SESSION,
            "--status",
            "failed",
            "--error-code",
            "read_error",
        ])
        .await
        .exits(0);
    assert!(
        ran.stdout.contains("a\\u{1b}[2J") && ran.stdout.contains("read_error: EIO"),
        "{}",
        ran.stdout
    );
    assert_eq!(
        api.asked().last().unwrap().line,
        format!("GET /api/sessions/{SESSION}/files?status=failed&error_code=read_error&limit=50")
    );
    user.run(&["files", SESSION, "--status", "nonsense"])
        .await
        .exits(2);
    user.run(&["files", "not-an-id"]).await.exits(2);
}

#[tokio::test]
async fn refusals_are_explained_and_stdout_stays_clean() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        "POST /api/projects" => Answer::Json(
            422,
            json!({
                "title": "Validation failed", "status": 422, "detail": "1 field is not valid", "code": "validation_failed",
                "request_id": "r-1", "errors": [{"pointer": "/bucket", "code": "format", "detail": "is no bucket name"}]
            }),
        ),
        line if line.starts_with("GET /api/sessions?") => Answer::Text(502, "<html>"),
        _ => problem(404, "not_found", "Not found"),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user
        .run(&["projects", "create", "--name", "n", "--bucket", "B!", "--json"])
        .await
        .exits(1);
    assert_eq!(
        ran.stderr,
        "error: Validation failed: 1 field is not valid\n  /bucket: is no bucket name\nrequest id: r-1\n"
    );
    assert_eq!(ran.stdout, "");
    let ran = user.run(&["watch", SESSION]).await.exits(1);
    assert!(
        ran.stderr
            .starts_with("error: Not found\nrequest id: r-42\nhint: "),
        "{}",
        ran.stderr
    );
    let ran = user.run(&["sessions", "list"]).await.exits(1);
    assert!(ran.stderr.contains("the server answered 502"), "{}", ran.stderr);
    user.run(&["no-such-command"]).await.exits(2);
    user.run(&["--api-url", "not a url", "whoami"]).await.exits(2);
}
