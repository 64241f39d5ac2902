//! Old sessions whose files are no longer recorded: from the worker's setting to what people are told.

use crate::command_line::Shell;
use crate::fixture::{Place, World, eventually, set_mode};
use reqwest::Method;
use serde_json::json;
use std::fs::File;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Uploads the source in a session that was made and ended five months ago; gives its id.
async fn upload_long_ago(world: &World, place: &Place) -> String {
    let mut request = place.request(&json!({}));
    request["start"] = json!(false);
    let made = place.api.post("/api/sessions", request).await;
    let made = made["id"].as_str().unwrap();
    let id = world
        .sql(&format!(
            "UPDATE sync_sessions SET id = (left(uuid7_floor(now() - interval '5 months')::text, 13) || right(id::text, 23))::uuid
             WHERE id = '{made}' RETURNING id"
        ))
        .await;
    let id = id.lines().next().unwrap().to_owned();
    place
        .api
        .post(&format!("/api/sessions/{id}/start"), json!({}))
        .await;
    let session = place.api.ended_as(&id, "completed_with_errors").await;
    assert_eq!(session["files_dropped_at"], json!(null));
    assert_eq!(place.api.receipt(&id).await.0, 200);
    world
        .sql(&format!(
            "UPDATE sync_sessions SET finished_at = finished_at - interval '5 months' WHERE id = '{id}'"
        ))
        .await;
    id
}

#[tokio::test]
async fn old_sessions_stay_without_their_files_and_say_so() {
    let mut world = World::start(1, 5).await;
    let mut place = world.place("long-ago").await;
    for path in ["a", "b", "c"] {
        place.source.write(path, "as it was");
    }
    let closed = place.source.dir().join("closed");
    std::fs::write(&closed, "closed").unwrap();
    set_mode(&closed, 0);
    let id = upload_long_ago(&world, &place).await;
    world
        .stack
        .start_worker_with(&[("FILE_RETENTION_MONTHS", "1".to_owned())])
        .unwrap();
    let session = eventually("that its files are dropped", LIMIT, async || {
        let session = place.api.session(&id).await;
        session["files_dropped_at"].is_string().then_some(session)
    })
    .await;
    assert_eq!(session["files"]["uploaded"], 3, "{session:#}");
    let rows = format!("SELECT count(*) FROM file_uploads WHERE session_id = '{id}'");
    assert_eq!(world.count(&rows).await, 0);

    let key = format!("deliveries/C1/.receipts/{id}.json");
    for (method, what) in [
        (Method::GET, "files"),
        (Method::GET, "files/1"),
        (Method::GET, "failures"),
        (Method::GET, "receipt"),
        (Method::POST, "retry"),
    ] {
        let path = format!("/api/sessions/{id}/{what}");
        let (status, problem) = place.api.call(method, &path, None).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (409, &json!("files_dropped")),
            "{what}: {problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        let advice = match what {
            "retry" => "start a new upload".to_owned(),
            _ => format!("is in the bucket {}, at {key}.", place.bucket),
        };
        assert!(detail.contains(&advice), "{what}: {detail}");
    }
    let testimony = place.testimony(&place.objects_below("deliveries/C1/")).await;
    let receipt = &testimony.receipts[&key];
    receipts::read(receipt.as_bytes(), |_| true)
        .unwrap()
        .check()
        .unwrap();

    let shell = Shell::new(&world, "retention");
    shell.sign_in(&world).await;
    let shown = shell.run(&["sessions", "show", &id]).await.succeeded();
    assert!(
        shown.stdout.contains("files no longer recorded since"),
        "{shown:?}"
    );
    assert_eq!(shown.stderr, "");

    // An older file with as many bytes, in the place of one that was sent: only a record could have told.
    std::fs::remove_file(&closed).unwrap();
    place.source.write("b", "before it");
    let file = File::options()
        .write(true)
        .open(place.source.dir().join("b"))
        .unwrap();
    let before = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(3600);
    file.set_modified(before).unwrap();
    let session = place
        .upload(json!({ "on_existing": "skip_unchanged" }), "completed")
        .await;
    place
        .testimony(&place.objects_below("deliveries/C1/"))
        .await
        .assert_good();
    assert_eq!(session["files"]["uploaded"], 3, "{session:#}");
    let session = place
        .upload(json!({ "on_existing": "skip_unchanged" }), "completed")
        .await;
    assert_eq!(
        session["files"]["skipped"], 3,
        "they are recorded again: {session:#}"
    );
    world.stack.stop().await;
}
