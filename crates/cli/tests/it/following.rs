//! Starting uploads and following them to the end, through lost connections, restarts and missing streams.

use crate::server::{Answer, Asked, FakeApi, event, problem};
use crate::{CYCLE, PATIENCE, Ran, SESSION, User};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

fn session(status: &str, uploaded: u64) -> Value {
    let ended = !matches!(status, "pending" | "in_progress" | "paused");
    let failed = u64::from(status == "completed_with_errors");
    let phase = match status {
        "pending" => "queued",
        _ if ended => "ended",
        _ => "uploading",
    };
    json!({
        "id": SESSION, "status": status, "phase": phase, "run": 1,
        "scan_complete": true, "files": {"total": 4, "uploaded": uploaded, "skipped": 0, "failed": failed},
        "bytes": {"total": 4096, "uploaded": uploaded * 1024, "skipped": 0, "failed": failed * 1024},
        "duration_ms": if ended { json!(2000) } else { json!(null) }
    })
}

fn is_events(asked: &Asked) -> bool {
    asked.line.ends_with("/events")
}

/// An API with one session that ends in `status`, its events answered by `events`.
async fn api_ending(
    status: &'static str,
    events: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> FakeApi {
    FakeApi::start(move |asked| match asked.line.as_str() {
        "POST /api/sessions" => Answer::Json(201, session("pending", 0)),
        line if line.ends_with("/events") => events(asked),
        line if line.ends_with("/failures") => Answer::Json(
            200,
            json!({"items": [{"error_code": "read_error", "count": 1, "size_bytes": 1024,
                "example_paths": ["bad/file"], "advice": "Check the disk."}]}),
        ),
        line if line.ends_with("/retry") => Answer::Json(202, session("pending", 0)),
        _ => Answer::Json(200, session(status, if status == "completed" { 4 } else { 3 })),
    })
    .await
}

fn told(status: &'static str) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    move |_| {
        let failure = json!({"path": "bad/file", "error_code": "read_error", "error_detail": "EIO"});
        let mut text =
            event(1, "session", &session("pending", 0)) + &event(2, "session", &session("in_progress", 2));
        if status == "completed_with_errors" {
            text += &event(3, "file", &failure);
        }
        Answer::Events(text + &event(4, "session", &session(status, 3)) + &event(5, "end", &json!({})))
    }
}

const UPLOAD: [&str; 5] = ["upload", "--cycle", CYCLE, "--root", "lab"];

#[tokio::test]
async fn an_upload_is_followed_to_each_of_its_ends() {
    for (status, code) in [
        ("completed", 0),
        ("completed_with_errors", 3),
        ("failed", 1),
        ("cancelled", 1),
    ] {
        let api = api_ending(status, told(status)).await;
        let ran = User::signed_in(&api).run(&UPLOAD).await.exits(code);
        let said = format!("Upload {SESSION}: {}\n", status.replace('_', " "));
        assert!(ran.stdout.starts_with(&said), "{}", ran.stdout);
        assert_eq!(
            ran.stdout.contains("uploader retry"),
            ["completed_with_errors", "failed"].contains(&status),
            "{}",
            ran.stdout
        );
        assert_eq!(
            ran.stdout.contains("start a new upload"),
            status == "cancelled",
            "{}",
            ran.stdout
        );
        assert!(
            ran.stderr
                .contains("50%  2/4 files  2.00 KiB/4.00 KiB  uploading"),
            "{}",
            ran.stderr
        );
        if status == "completed_with_errors" {
            assert!(
                ran.stderr.contains("failed: bad/file: read_error: EIO"),
                "{}",
                ran.stderr
            );
            assert!(ran.stdout.contains("-> Check the disk."), "{}", ran.stdout);
        }
    }
}

#[tokio::test]
async fn json_is_a_line_for_each_change_and_the_last_is_the_end() {
    let api = api_ending("completed_with_errors", told("completed_with_errors")).await;
    let user = User::signed_in(&api);
    let args = [
        "--json",
        "--exclude",
        "*.tmp",
        "--part-size",
        "16MiB",
        "--idempotency-key",
        "k1",
        "x/y",
    ];
    let ran = user.run(&[&UPLOAD[..], &args].concat()).await.exits(3);
    let lines = ran.json_lines();
    let statuses: Vec<&str> = lines
        .iter()
        .map(|line| line["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["pending", "in_progress", "completed_with_errors"]);
    assert_eq!(*lines.last().unwrap(), session("completed_with_errors", 3));
    let started = &api.asked_for("POST /api/sessions")[0];
    assert_eq!(started.header("idempotency-key"), Some("k1"));
    assert_eq!(
        started.body,
        json!({
            "cycle_id": CYCLE, "source": {"root": "lab", "path": "x/y"},
            "settings": {"exclude": ["*.tmp"], "part_size_bytes": 16 << 20}
        })
    );
}

#[tokio::test]
async fn a_broken_stream_and_a_restarting_gateway_are_survived() {
    let asked_times = AtomicU32::new(0);
    let api = api_ending("completed", move |_| {
        match asked_times.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::EventsThenCut(event(7, "session", &session("in_progress", 1))),
            1 | 2 => problem(503, "unavailable", "Starting"),
            _ => Answer::Events(event(8, "session", &session("completed", 4)) + &event(9, "end", &json!({}))),
        }
    })
    .await;
    let ran = User::signed_in(&api).run(&["watch", SESSION]).await;
    let ran = ran.exits(0);
    assert_eq!(ran.stderr.matches("connection lost").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("connected again").count(), 1, "{}", ran.stderr);
    let asked: Vec<Asked> = api.asked().into_iter().filter(is_events).collect();
    let ids: Vec<Option<&str>> = asked.iter().map(|asked| asked.header("last-event-id")).collect();
    assert_eq!(ids, [None, Some("7"), Some("7"), Some("7")]);
}

#[tokio::test]
async fn a_stream_closed_at_the_end_of_the_token_goes_on_with_the_next_one() {
    let streams = AtomicU32::new(0);
    let api = FakeApi::start(move |asked| {
        if asked.line == "POST /api/auth/refresh" {
            return Answer::Json(
                200,
                json!({"access_token": "access-2", "refresh_token": "refresh-2"}),
            );
        }
        if !is_events(asked) {
            let status = if asked.is_authorized("access-1") {
                "in_progress"
            } else {
                "completed"
            };
            return Answer::Json(200, session(status, 4));
        }
        match streams.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Events(event(1, "session", &session("in_progress", 1))),
            _ if asked.is_authorized("access-2") => {
                Answer::Events(event(2, "session", &session("completed", 4)))
            }
            _ => problem(401, "unauthenticated", "Not signed in"),
        }
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["watch", SESSION]).await.exits(0);
    assert!(
        !ran.stderr.contains("connection"),
        "nothing went wrong: {}",
        ran.stderr
    );
    assert_eq!(user.config()["refresh_token"], "refresh-2");
}

#[tokio::test]
async fn without_a_stream_the_session_is_asked_for() {
    let polled = AtomicU32::new(0);
    let api = FakeApi::start(move |asked| {
        if is_events(asked) {
            return Answer::Text(200, "<html>a proxy's page</html>");
        }
        if asked.line == "GET /api/queue" {
            return problem(404, "not_found", "An older server");
        }
        match polled.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Answer::Json(200, session("in_progress", 1)),
            2 => problem(503, "unavailable", "Starting"),
            _ => Answer::Json(200, session("completed", 4)),
        }
    })
    .await;
    let ran = User::signed_in(&api)
        .run(&["watch", SESSION, "--json"])
        .await
        .exits(0);
    assert_eq!(
        ran.json_lines(),
        [session("in_progress", 1), session("completed", 4)]
    );
    assert!(ran.stderr.contains("connection lost"), "{}", ran.stderr);
}

#[tokio::test]
async fn silence_beyond_the_patience_ends_the_watch_and_says_that_the_upload_goes_on() {
    let first = AtomicU32::new(0);
    let api = FakeApi::start(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Json(200, session("in_progress", 1)),
        _ => problem(503, "unavailable", "Down"),
    })
    .await;
    let ran = User::signed_in(&api)
        .run(&["watch", SESSION, "--give-up-after-s", "1"])
        .await
        .exits(1);
    assert!(ran.stderr.contains("the upload goes on"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains(&format!("uploader watch {SESSION}")),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.matches("connection lost").count(), 1, "{}", ran.stderr);
}

#[tokio::test]
async fn ctrl_c_stops_the_watch_and_nothing_else() {
    let api = api_ending("completed", |_| {
        Answer::EventsThenSilence(event(
            1,
            "session",
            &json!({"id": SESSION, "status": "in_progress", "phase": "scanning", "run": 1}),
        ))
    })
    .await;
    let user = User::signed_in(&api);
    let mut child = user.spawn(&UPLOAD);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let seen = async {
        while stderr
            .next_line()
            .await
            .unwrap()
            .is_some_and(|line| !line.ends_with("scanning"))
        {}
    };
    timeout(PATIENCE, seen).await.unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ran = Ran::of(child).await.exits(130);
    assert_eq!(ran.stdout, "");
    let mut rest = String::new();
    while let Some(line) = stderr.next_line().await.unwrap() {
        rest.push_str(&line);
    }
    assert!(
        rest.contains("goes on") && rest.contains("uploader cancel"),
        "{rest}"
    );
    assert_eq!(
        api.asked_for("POST").len(),
        1,
        "only the upload itself was posted"
    );
}

#[tokio::test]
async fn an_answer_that_got_lost_makes_no_second_session() {
    let posted = AtomicU32::new(0);
    let api = FakeApi::start(move |_| match posted.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Text(502, "bad gateway"),
        _ => Answer::Json(201, session("pending", 0)),
    })
    .await;
    let ran = User::signed_in(&api)
        .run(&[&UPLOAD[..], &["--detach"]].concat())
        .await
        .exits(0);
    assert_eq!(ran.stdout, format!("{SESSION}\n"));
    assert!(ran.stderr.contains("uploader watch"), "{}", ran.stderr);
    let keys: Vec<_> = api
        .asked()
        .iter()
        .map(|asked| asked.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn wrong_settings_are_wrong_usage_and_nothing_is_asked() {
    let api = FakeApi::start(|_| Answer::Json(500, json!({}))).await;
    let user = User::signed_in(&api);
    for wrong in [
        ["--part-size", "1KiB"],
        ["--concurrency", "0"],
        ["--checksum", "md5"],
        ["--part-size", "many"],
    ] {
        user.run(&[&UPLOAD[..], &wrong].concat()).await.exits(2);
    }
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn cancel_and_retry_return_at_once() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        line if line.ends_with("/cancel") => Answer::Json(202, session("in_progress", 1)),
        _ => Answer::Json(202, session("pending", 0)),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["cancel", SESSION, "--json"]).await.exits(0);
    assert_eq!(ran.json(), session("in_progress", 1));
    let ran = user
        .run(&["retry", SESSION, "--error-code", "read_error"])
        .await
        .exits(0);
    assert_eq!(ran.stdout, format!("{SESSION}\n"));
    assert_eq!(
        api.asked().last().unwrap().body,
        json!({"error_code": "read_error"})
    );
}

#[tokio::test]
async fn pause_and_resume_return_at_once() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        line if line.ends_with("/pause") => Answer::Json(202, session("paused", 1)),
        line if line.ends_with("/resume") => Answer::Json(202, session("in_progress", 1)),
        _ => problem(404, "not_found", "Not found"),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["pause", SESSION]).await.exits(0);
    assert_eq!(ran.stdout, "25%  1/4 files  1.00 KiB/4.00 KiB  paused\n");
    assert!(
        ran.stderr.contains(&format!("uploader resume {SESSION}")),
        "{}",
        ran.stderr
    );
    let ran = user.run(&["pause", SESSION, "--json"]).await.exits(0);
    assert_eq!(ran.json(), session("paused", 1));
    let ran = user.run(&["resume", SESSION]).await.exits(0);
    assert_eq!(ran.stdout, format!("{SESSION}\n"));
    assert!(ran.stderr.contains("uploader watch"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_cannot_be_paused_is_refused_in_the_servers_words() {
    let api = FakeApi::start(|_| problem(409, "wrong_status", "Not possible in this status")).await;
    let user = User::signed_in(&api);
    for args in [&["pause", SESSION][..], &["resume", SESSION, "--watch"]] {
        let ran = user.run(args).await.exits(1);
        assert!(
            ran.stderr.contains("Not possible in this status"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout, "");
    }
}

#[tokio::test]
async fn a_paused_upload_is_watched_on_to_its_end() {
    let events = |_: &Asked| {
        Answer::Events(
            event(1, "session", &session("in_progress", 1))
                + &event(2, "session", &session("paused", 2))
                + &event(3, "session", &session("in_progress", 3))
                + &event(4, "session", &session("completed", 4))
                + &event(5, "end", &json!({})),
        )
    };
    let api = api_ending("completed", events).await;
    let user = User::signed_in(&api);
    let ran = user.run(&UPLOAD).await.exits(0);
    let lines = [
        "1/4 files  1.00 KiB/4.00 KiB  uploading",
        "2/4 files  2.00 KiB/4.00 KiB  paused",
        "3/4 files  3.00 KiB/4.00 KiB  uploading",
    ];
    let mut rest = ran.stderr.as_str();
    for line in lines {
        let (_, after) = rest
            .split_once(line)
            .unwrap_or_else(|| panic!("{line} in {}", ran.stderr));
        rest = after;
    }
    let ran = user.run(&[&UPLOAD[..], &["--json"]].concat()).await.exits(0);
    let statuses: Vec<Value> = ran
        .json_lines()
        .iter()
        .map(|line| line["status"].clone())
        .collect();
    assert_eq!(
        statuses,
        ["pending", "in_progress", "paused", "in_progress", "completed"]
    );
}

#[tokio::test]
async fn a_resumed_upload_is_watched_to_its_end() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        line if line.ends_with("/resume") => Answer::Json(202, session("in_progress", 2)),
        _ if is_events(asked) => {
            Answer::Events(event(1, "session", &session("completed", 4)) + &event(2, "end", &json!({})))
        }
        _ => Answer::Json(200, session("completed", 4)),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["resume", SESSION, "--watch"]).await.exits(0);
    assert!(
        ran.stdout.starts_with(&format!("Upload {SESSION}: completed\n")),
        "{}",
        ran.stdout
    );
    assert_eq!(api.asked_for("POST").len(), 1, "it was resumed once");
}

#[tokio::test]
async fn a_retry_that_is_watched_does_not_take_the_last_run_for_its_own() {
    let polled = AtomicU32::new(0);
    let of_run = |run: u64, status: &str| {
        let mut session = session(status, 4);
        session["run"] = json!(run);
        session
    };
    let api = FakeApi::start(move |asked| match asked.line.as_str() {
        line if line.ends_with("/retry") => Answer::Json(202, of_run(2, "pending")),
        _ if is_events(asked) => {
            Answer::Events(event(1, "session", &of_run(1, "failed")) + &event(2, "end", &json!({})))
        }
        _ => match polled.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Json(200, of_run(2, "in_progress")),
            _ => Answer::Json(200, of_run(2, "completed")),
        },
    })
    .await;
    User::signed_in(&api)
        .run(&["retry", SESSION, "--watch"])
        .await
        .exits(0);
}

/// What the queue says of the root `lab`.
fn queue_of_lab(state: &str, place: Option<u32>) -> Value {
    json!({
        "max_concurrent_jobs": null, "running_upload_jobs": 0, "workers_alive": 1,
        "roots": [
            {"root": "other", "state": "idle", "workers_alive": 1},
            {"root": "lab", "state": state, "waiting_jobs": 1, "place_in_line": place, "companies_in_line": 3,
             "workers_alive": 0, "files_left": 2, "bytes_left": 2048, "eta_s": null}
        ]
    })
}

fn waiting_in_lab() -> Value {
    let mut session = session("pending", 0);
    session["source"] = json!({"root": "lab", "path": ""});
    session
}

#[tokio::test]
async fn an_upload_that_does_not_begin_is_explained_once_for_each_cause() {
    let asked_times = AtomicU32::new(0);
    let states = [
        ("no_worker", None),
        ("no_worker", None),
        ("in_line", Some(3)),
        ("in_line", Some(1)),
    ];
    let api = FakeApi::start(move |asked| match asked.line.as_str() {
        "POST /api/sessions" => Answer::Json(201, waiting_in_lab()),
        "GET /api/queue" => {
            let (state, place) = states[asked_times.fetch_add(1, Ordering::SeqCst).min(3) as usize];
            Answer::Json(200, queue_of_lab(state, place))
        }
        _ if is_events(asked) => problem(404, "not_found", "No stream"),
        _ if asked_times.load(Ordering::SeqCst) < 4 => Answer::Json(200, waiting_in_lab()),
        _ => Answer::Json(200, session("completed", 4)),
    })
    .await;
    let ran = User::signed_in(&api).run(&UPLOAD).await.exits(0);
    let said: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("waiting"))
        .collect();
    assert_eq!(
        said,
        [
            "waiting: no running worker serves the source root \"lab\"",
            "waiting: 2 companies before yours",
            "waiting: your company is next, as soon as a worker has room",
        ]
    );
}

#[tokio::test]
async fn an_upload_that_does_not_begin_is_explained_while_its_stream_is_silent() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        "GET /api/queue" => Answer::Json(200, queue_of_lab("no_worker", None)),
        _ if is_events(asked) => Answer::EventsThenSilence(event(1, "session", &waiting_in_lab())),
        _ => Answer::Json(200, waiting_in_lab()),
    })
    .await;
    let user = User::signed_in(&api);
    let mut child = user.spawn(&["watch", SESSION]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = async {
        while let Some(line) = stderr.next_line().await.unwrap() {
            if line == "waiting: no running worker serves the source root \"lab\"" {
                return;
            }
        }
        panic!("it ended without a word");
    };
    timeout(PATIENCE, said).await.unwrap();
    assert!(
        api.asked_for("GET /api/queue")
            .iter()
            .all(|asked| asked.is_authorized("access-1"))
    );
    child.kill().await.unwrap();
}

#[tokio::test]
async fn failures_are_shown_by_cause() {
    let api = api_ending("completed_with_errors", told("completed_with_errors")).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["failures", SESSION]).await.exits(0);
    assert!(
        ran.stdout.contains("read_error: 1 file") && ran.stdout.contains("bad/file"),
        "{}",
        ran.stdout
    );
    let ran = user.run(&["failures", SESSION, "--json"]).await.exits(0);
    assert_eq!(ran.json()[0]["error_code"], "read_error");
}

#[tokio::test]
async fn what_a_running_upload_waits_for_is_said_once_each_time() {
    let asked_times = AtomicU32::new(0);
    let api = FakeApi::start(move |asked| match asked.line.as_str() {
        "POST /api/sessions" => Answer::Json(201, session("in_progress", 1)),
        "GET /api/queue" => problem(404, "not_found", "No queue"),
        _ if is_events(asked) => problem(404, "not_found", "No stream"),
        _ => {
            let time = asked_times.fetch_add(1, Ordering::SeqCst);
            let mut state = session(if time < 4 { "in_progress" } else { "completed" }, 1);
            if time != 2 && time < 4 {
                state["error_code"] = json!("storage_unreachable");
                state["error_detail"] = json!(format!("the store is asked again until {time}"));
            }
            Answer::Json(200, state)
        }
    })
    .await;
    let ran = User::signed_in(&api).run(&UPLOAD).await.exits(0);
    let said = ran.stderr.lines().filter(|line| line.starts_with("waiting"));
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            "waiting: the store is asked again until 0",
            "waiting: the store is asked again until 3",
        ]
    );
}
