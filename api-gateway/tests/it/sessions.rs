//! Sessions and their files.

use crate::fixture::{Client, Worker, World, eventually, session_in, text};
use dev_stack::Redis;
use domain::{FileErrorCode, SessionId};
use reqwest::Method;
use serde_json::{Value, json};

fn id_of(session: &Value) -> SessionId {
    text(session, "id").parse().unwrap()
}

fn path_of(session: &Value) -> String {
    format!("/api/sessions/{}", text(session, "id"))
}

#[tokio::test]
async fn a_session_is_made_queued_and_read() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let settings =
        json!({"concurrency": 4, "exclude": ["*.tmp"], "target_prefix": "day1/", "checksum": "sha256"});
    let body = json!({"cycle_id": cycle["id"], "source": {"root": "samples", "path": "batch/"}, "settings": settings});
    let answer = admin.post("/api/sessions", body).await;
    let location = answer.header("location").to_owned();
    let session = answer.created();
    assert_eq!(location, path_of(&session));
    let expected = [
        "active_files",
        "bytes",
        "created_at",
        "cycle_id",
        "dry_run",
        "duration_ms",
        "error_code",
        "error_detail",
        "eta_s",
        "files",
        "files_dropped_at",
        "finished_at",
        "id",
        "phase",
        "project_id",
        "rate_bytes_per_s",
        "repeats",
        "run",
        "scan_complete",
        "settings",
        "source",
        "started_at",
        "status",
        "user_id",
    ];
    assert_eq!(session.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    assert_eq!(
        (text(&session, "status"), text(&session, "phase")),
        ("pending", "queued")
    );
    assert_eq!(session["source"], json!({"root": "samples", "path": "batch"}));
    assert_eq!(
        (
            &session["settings"]["concurrency"],
            &session["settings"]["max_attempts"]
        ),
        (&json!(4), &json!(5))
    );
    assert_eq!(
        session["files"],
        json!({"total": 0, "uploaded": 0, "skipped": 0, "failed": 0, "cancelled": 0, "pending": 0})
    );
    assert_eq!(
        (&session["project_id"], &session["run"]),
        (&cycle["project_id"], &json!(1))
    );
    assert_eq!(admin.get(&location).await.ok(), session);
    assert_eq!(
        world
            .sql("SELECT kind || ' ' || state || ' ' || location FROM jobs")
            .await,
        "scan ready samples"
    );
    assert_eq!(
        world.sql("SELECT key_prefix FROM sync_sessions").await,
        "C1/day1/"
    );
}

#[tokio::test]
async fn bad_input_is_named() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let create = async |source: Value, settings: Value| {
        admin
            .post(
                "/api/sessions",
                json!({"cycle_id": cycle["id"], "source": source, "settings": settings}),
            )
            .await
    };
    let good = json!({"root": "samples", "path": ""});
    for (source, field) in [
        (json!({"root": "unknown", "path": ""}), "/source/root"),
        (json!({"root": "acme", "path": ""}), "/source/root"),
        (json!({"root": "samples", "path": "../x"}), "/source/path"),
        (json!({"root": "samples", "path": "/etc"}), "/source/path"),
        (json!({"root": "samples", "path": 3}), "/source/path"),
        (json!({"root": "samples", "path": "", "x": 1}), "/source/x"),
        (json!({}), "/source/root"),
    ] {
        assert_eq!(
            create(source.clone(), json!({})).await.bad_fields(),
            [field],
            "{source}"
        );
    }
    for (settings, field) in [
        (json!({"concurrency": 0}), "/settings/concurrency"),
        (json!({"concurrency": 70000}), "/settings/concurrency"),
        (json!({"max_attempts": 21}), "/settings/max_attempts"),
        (json!({"part_size_bytes": 1}), "/settings/part_size_bytes"),
        (json!({"include": ["["]}), "/settings/include/0"),
        (json!({"target_prefix": "/x"}), "/settings/target_prefix"),
        (json!({"checksum": "md5"}), "/settings/checksum"),
        (json!({"storage_class": "COLD"}), "/settings/storage_class"),
        (json!({"colour": "blue"}), "/settings/colour"),
    ] {
        assert_eq!(
            create(good.clone(), settings.clone()).await.bad_fields(),
            [field],
            "{settings}"
        );
    }
    let unknown = json!({"cycle_id": uuid::Uuid::now_v7(), "source": good});
    admin
        .post("/api/sessions", unknown)
        .await
        .problem(404, "not_found");
    let repeats = json!({"cycle_id": cycle["id"], "source": good, "repeats": uuid::Uuid::now_v7()});
    admin
        .post("/api/sessions", repeats)
        .await
        .problem(404, "not_found");
    assert_eq!(world.sql("SELECT count(*) FROM sync_sessions").await, "0");
}

#[tokio::test]
async fn the_same_key_gives_the_same_session() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let send = async |key: &str, body: Value| {
        let request = admin
            .request(Method::POST, "/api/sessions")
            .header("Idempotency-Key", key);
        Client::send(request.json(&body)).await
    };
    let first = send("k1", session_in(&cycle)).await.created();
    assert_eq!(send("k1", session_in(&cycle)).await.created()["id"], first["id"]);
    let mut other = session_in(&cycle);
    other["start"] = json!(false);
    send("k1", other).await.problem(409, "idempotency_key_reused");
    assert_eq!(
        send(&"k".repeat(256), session_in(&cycle)).await.bad_fields(),
        ["/Idempotency-Key"]
    );
    // Another person's key is another key: this one meets the busy cycle.
    let mia = world.person(&admin, "mia", "member").await;
    let request = mia
        .request(Method::POST, "/api/sessions")
        .header("Idempotency-Key", "k1");
    Client::send(request.json(&session_in(&cycle)))
        .await
        .problem(409, "cycle_busy");

    // Twins at the same moment.
    let cycle = admin.cycle(&json!({"id": cycle["project_id"]})).await;
    let twins = futures::future::join_all((0..6).map(|_| send("k2", session_in(&cycle)))).await;
    let ids: std::collections::BTreeSet<String> = twins
        .into_iter()
        .map(|answer| text(&answer.created(), "id").to_owned())
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn unfinished_sessions_of_a_cycle_do_not_overlap() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let with_prefix = |prefix: &str| {
        let mut body = session_in(&cycle);
        body["settings"] = json!({"target_prefix": prefix});
        body
    };
    let first = admin.post("/api/sessions", with_prefix("a/")).await.created();
    let busy = admin
        .post("/api/sessions", with_prefix("a/b/"))
        .await
        .problem(409, "cycle_busy");
    assert!(text(&busy, "detail").contains(text(&first, "id")), "{busy}");
    admin.post("/api/sessions", with_prefix("b/")).await.created();
    admin.act(&format!("{}/cancel", path_of(&first))).await;
    admin.post("/api/sessions", with_prefix("a/b/")).await.created();
}

#[tokio::test]
async fn a_session_waits_starts_is_cancelled_and_deleted() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let mut body = session_in(&cycle);
    body["start"] = json!(false);
    let session = admin.post("/api/sessions", body).await.created();
    let path = path_of(&session);
    assert_eq!(world.sql("SELECT count(*) FROM jobs").await, "0");
    admin.delete(&path).await.problem(409, "wrong_status");
    assert_eq!(admin.act(&format!("{path}/start")).await.status, 202);
    assert_eq!(world.sql("SELECT count(*) FROM jobs").await, "1");
    admin
        .act(&format!("{path}/start"))
        .await
        .problem(409, "wrong_status");
    admin
        .act(&format!("{path}/retry"))
        .await
        .problem(409, "wrong_status");
    let cancelled = admin.act(&format!("{path}/cancel")).await;
    assert_eq!(
        (cancelled.status.as_u16(), text(&cancelled.json(), "status")),
        (202, "cancelled")
    );
    admin
        .act(&format!("{path}/cancel"))
        .await
        .problem(409, "wrong_status");
    assert_eq!(admin.delete(&path).await.status, 204);
    admin.get(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_session_is_paused_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path()).await.unwrap();
    let world = World::with(&redis.url(), &[]).await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let mut body = session_in(&cycle);
    body["start"] = json!(false);
    let session = admin.post("/api/sessions", body).await.created();
    let (id, path) = (id_of(&session), path_of(&session));
    let refused = async |action: &str| {
        admin
            .act(&format!("{path}/{action}"))
            .await
            .problem(409, "wrong_status")
    };
    let moved = async |action: &str| {
        let answer = admin.act(&format!("{path}/{action}")).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        text(&answer.json(), "status").to_owned()
    };
    refused("pause").await;
    refused("resume").await;
    moved("start").await;
    refused("resume").await;

    let worker = Worker::of(&admin);
    worker.scan(&world, id, &[10, 20]).await;
    let queue = queue::Queue::connect(&redis.url()).await.unwrap();
    let mut told = queue.subscribe_stop();
    eventually("hints are heard", async || {
        queue.publish_stop(SessionId::new()).await.unwrap();
        told.try_recv().ok()
    })
    .await;
    assert_eq!(moved("pause").await, "paused");
    eventually("the workers are told", async || {
        told.try_recv().ok().filter(|of| *of == id)
    })
    .await;
    let paused = admin.get(&path).await.ok();
    assert_eq!(
        (text(&paused, "status"), text(&paused, "phase")),
        ("paused", "uploading")
    );
    let waiting = "SELECT count(*) FROM jobs WHERE state = 'ready' AND run_after = 'infinity'";
    assert_eq!(world.sql(waiting).await, "1");
    refused("pause").await;
    refused("start").await;
    refused("retry").await;
    admin.delete(&path).await.problem(409, "wrong_status");
    let listed = admin.get("/api/sessions?status=paused").await.ok();
    assert_eq!(text(&listed["items"][0], "id"), text(&session, "id"));

    let locations = ["samples".to_owned()];
    while queue.take(&locations).await.unwrap().is_some() {}
    assert_eq!(moved("resume").await, "in_progress");
    assert_eq!(world.sql(waiting).await, "0");
    let pushed = queue.take(&locations).await.unwrap().unwrap();
    let ready = world.sql("SELECT id FROM jobs WHERE state = 'ready'").await;
    assert_eq!(pushed.to_string(), ready);
    refused("resume").await;
    let claim = worker.upload(&world, id).await;
    for number in 1..=2 {
        worker.record(&claim, number, number * 10, None).await;
    }
    worker.finish(claim).await;
    assert_eq!(admin.get(&path).await.ok()["status"], "completed");
    refused("pause").await;
    refused("resume").await;
}

#[tokio::test]
async fn files_failures_and_retry() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("P").await;
    let (id, path) = (id_of(&session), path_of(&session));
    let worker = Worker::of(&admin);
    worker.scan(&world, id, &[10, 20, 30, 40]).await;
    let claim = worker.upload(&world, id).await;
    worker.record(&claim, 1, 10, None).await;
    worker
        .record(&claim, 2, 20, Some(FileErrorCode::PermissionDenied))
        .await;
    let running = admin.get(&path).await.ok();
    assert_eq!(
        (text(&running, "status"), text(&running, "phase")),
        ("in_progress", "uploading")
    );
    assert_eq!(running["files"]["pending"], 2);
    assert_eq!(
        running["bytes"],
        json!({"total": 100, "uploaded": 10, "skipped": 0, "failed": 20, "in_flight": 0})
    );
    worker
        .record(&claim, 3, 30, Some(FileErrorCode::FileVanished))
        .await;
    worker
        .record(&claim, 4, 40, Some(FileErrorCode::FileVanished))
        .await;
    worker.finish(claim).await;
    let ended = admin.get(&path).await.ok();
    assert_eq!(
        (text(&ended, "status"), text(&ended, "phase")),
        ("completed_with_errors", "ended")
    );
    assert!(ended["duration_ms"].is_number() && ended["finished_at"].is_string());

    let files = async |query: &str| -> Vec<i64> {
        let page = admin.get(&format!("{path}/files?{query}")).await.ok();
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["id"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(files("").await, [1, 2, 3, 4]);
    assert_eq!(files("status=failed").await, [2, 3, 4]);
    assert_eq!(files("error_code=file_vanished").await, [3, 4]);
    assert_eq!(files("q=FILE%201").await, [1]);
    let page = admin.get(&format!("{path}/files?limit=3")).await.ok();
    assert_eq!(
        files(&format!("cursor={}", text(&page, "next_cursor"))).await,
        [4]
    );
    assert_eq!(
        admin.get(&format!("{path}/files?status=lost")).await.bad_fields(),
        ["/status"]
    );
    let file = admin.get(&format!("{path}/files/2")).await.ok();
    assert_eq!(
        (text(&file, "path"), text(&file, "s3_key")),
        ("dir/file 2", "C1/dir/file 2")
    );
    assert_eq!(
        (text(&file, "status"), text(&file, "error_code")),
        ("failed", "permission_denied")
    );
    for missing in ["5", "x", "-1", "99999999999999999999"] {
        admin
            .get(&format!("{path}/files/{missing}"))
            .await
            .problem(404, "not_found");
    }

    let failures = admin.get(&format!("{path}/failures")).await.ok();
    assert!(failures["next_cursor"].is_null());
    assert_eq!(
        admin.get(&format!("{path}/failures?limit=1")).await.ok()["items"],
        json!([failures["items"][0]])
    );
    let bad = admin.get(&format!("{path}/failures?limit=201&cursor=x")).await;
    assert_eq!(bad.bad_fields(), ["/limit", "/cursor"]);
    let first = &failures["items"][0];
    assert_eq!(
        (text(first, "error_code"), &first["count"], &first["size_bytes"]),
        ("file_vanished", &json!(2), &json!(70))
    );
    assert_eq!(first["example_paths"], json!(["dir/file 3", "dir/file 4"]));
    assert!(text(first, "advice").len() > 20);

    let retry = format!("{path}/retry");
    admin
        .post(&retry, json!({"error_code": "timeout"}))
        .await
        .problem(409, "nothing_to_retry");
    assert_eq!(
        admin
            .post(&retry, json!({"error_code": "boredom"}))
            .await
            .bad_fields(),
        ["/error_code"]
    );
    let answer = admin.post(&retry, json!({"error_code": "file_vanished"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let again = answer.json();
    assert_eq!((text(&again, "status"), &again["run"]), ("pending", &json!(2)));
    assert_eq!(
        again["files"],
        json!({"total": 4, "uploaded": 1, "skipped": 0, "failed": 1, "cancelled": 0, "pending": 2})
    );
}

#[tokio::test]
async fn sessions_are_listed_and_filtered() {
    let world = World::new().await;
    let admin = world.admin().await;
    let mia = world.person(&admin, "mia", "member").await;
    let project = admin.project("P").await;
    let mut made = Vec::new();
    for client in [&admin, &mia, &admin] {
        let cycle = admin.cycle(&project).await;
        made.push(client.post("/api/sessions", session_in(&cycle)).await.created());
    }
    admin.act(&format!("{}/cancel", path_of(&made[0]))).await;
    let list = async |query: &str| -> Vec<String> {
        let page = admin.get(&format!("/api/sessions?{query}")).await.ok();
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|session| text(session, "id").to_owned())
            .collect()
    };
    let id = |index: usize| text(&made[index], "id").to_owned();
    assert_eq!(list("").await, [id(2), id(1), id(0)]);
    assert_eq!(list("sort=created_at").await, [id(0), id(1), id(2)]);
    assert_eq!(list("status=cancelled").await, [id(0)]);
    assert_eq!(
        list(&format!("user_id={}", text(&mia.tokens["user"], "id"))).await,
        [id(1)]
    );
    assert_eq!(
        list(&format!("cycle_id={}", text(&made[2], "cycle_id"))).await,
        [id(2)]
    );
    assert_eq!(
        list(&format!("project_id={}", text(&project, "id"))).await.len(),
        3
    );
    assert_eq!(list("q=BATCH").await.len(), 3);
    assert_eq!(list("q=other").await.len(), 0);
    let after = text(&made[1], "created_at").replace('+', "%2B");
    assert_eq!(list(&format!("from={after}")).await, [id(2), id(1)]);
    assert_eq!(list(&format!("to={after}")).await, [id(0)]);
    let page = admin.get("/api/sessions?limit=2").await.ok();
    assert_eq!(
        list(&format!("limit=2&cursor={}", text(&page, "next_cursor"))).await,
        [id(0)]
    );
    let out_of_range = admin
        .get("/api/sessions?from=%2B200000-01-01T00:00:00Z&to=-0001-01-01T00:00:00Z")
        .await;
    assert_eq!(out_of_range.bad_fields(), ["/from", "/to"]);
    let bad = admin
        .get("/api/sessions?user_id=x&from=yesterday&sort=size")
        .await
        .bad_fields();
    assert_eq!(bad, ["/user_id", "/from", "/sort"]);
}

#[tokio::test]
async fn sessions_are_made_without_redis_and_readiness_tells() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path()).await.unwrap();
    let world = World::with(&redis.url(), &[]).await;
    let admin = world.admin().await;
    assert_eq!(
        admin.get("/health/ready").await.ok()["checks"]["redis"]["ok"],
        true
    );
    redis.stop().await;
    let begun = std::time::Instant::now();
    let session = admin.session("P").await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(8));
    assert_eq!(text(&session, "status"), "pending");
    assert_eq!(world.sql("SELECT state FROM jobs").await, "ready");
    admin.get(&path_of(&session)).await.ok();
    let ready = admin.get("/health/ready").await;
    assert_eq!(ready.status, 503);
    let checks = ready.json()["checks"].clone();
    assert_eq!(
        (&checks["redis"]["ok"], &checks["postgres"]["ok"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(admin.get("/health/live").await.status, 200);
}

/// A worker of a later version may record a cause that this gateway does not know.
#[tokio::test]
async fn a_cause_of_a_later_version_is_shown_as_it_is() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("Later").await;
    let (id, path) = (id_of(&session), path_of(&session));
    let worker = Worker::of(&admin);
    worker.scan(&world, id, &[1, 2]).await;
    let claim = worker.upload(&world, id).await;
    worker.record(&claim, 1, 1, None).await;
    worker.record(&claim, 2, 2, Some(FileErrorCode::ReadError)).await;
    worker.finish(claim).await;
    world
        .sql(&format!(
            "UPDATE sync_sessions SET error_code = 'later_session_cause' WHERE id = '{id}';
             UPDATE file_uploads SET error_code = 'later_cause' WHERE session_id = '{id}' AND number = 2"
        ))
        .await;
    let seen = admin.get(&path).await.ok();
    assert_eq!(seen["error_code"], "later_session_cause");
    let listed = admin.get("/api/sessions").await.ok();
    assert_eq!(listed["items"][0]["error_code"], "later_session_cause");
    let files = admin.get(&format!("{path}/files")).await.ok();
    assert_eq!(files["items"][1]["error_code"], "later_cause");
    let file = admin.get(&format!("{path}/files/2")).await.ok();
    assert_eq!(file["error_code"], "later_cause");
    let failures = admin.get(&format!("{path}/failures")).await.ok();
    assert_eq!(failures["items"][0]["error_code"], "later_cause");
    assert!(!text(&failures["items"][0], "advice").is_empty());
    assert_eq!(admin.act(&format!("{path}/retry")).await.status, 202);
}
