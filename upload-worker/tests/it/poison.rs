//! A file that makes workers vanish, whoever reads it.

use crate::fixture::{World, eventually};
use serde_json::json;
use std::time::Duration;

/// Waits for a row of the database to be as it should.
async fn until(world: &World, what: &str, query: &str, is_so: impl Fn(i64) -> bool) -> i64 {
    eventually(what, Duration::from_secs(60), async || {
        Some(world.count(query).await).filter(|count| is_so(*count))
    })
    .await
}

/// The test plays the poison: it kills the worker whenever it is at that file.
#[tokio::test]
async fn the_file_that_makes_workers_vanish_is_named_and_the_rest_arrives() {
    let mut world = World::start(1, 2).await;
    let mut place = world.place("poison").await;
    place.source.write_many(12);
    place.s3.set_latency(Duration::from_millis(400));
    let id = place.start(json!({ "concurrency": 1 })).await;
    let crashes = format!("SELECT coalesce(max(crashes), 0) FROM jobs WHERE session_id = '{id}'");
    let suspect = format!(
        "SELECT coalesce(max(suspect_file), 0) FROM jobs WHERE session_id = '{id}' AND state = 'running'"
    );
    let uploading = format!(
        "SELECT count(*) FROM jobs WHERE session_id = '{id}' AND kind = 'upload' AND state = 'running' AND crashes = "
    );
    for crash in 0..2 {
        until(
            &world,
            "the job to be claimed",
            &format!("{uploading}{crash}"),
            |count| count == 1,
        )
        .await;
        world.stack.kill_worker(0).await.unwrap();
        world.stack.start_worker().unwrap();
        until(&world, "the crash to be counted", &crashes, |count| {
            count == crash + 1
        })
        .await;
    }
    let poison = until(&world, "a file to be named", &suspect, |number| number > 0).await;
    world.stack.kill_worker(0).await.unwrap();
    let path = world
        .sql(&format!(
            "SELECT path FROM file_uploads WHERE session_id = '{id}' AND number = {poison}"
        ))
        .await;
    place.s3.set_latency(Duration::ZERO);
    world.stack.start_worker().unwrap();

    let session = place.api.ended_as(&id, "completed_with_errors").await;
    assert_eq!(session["files"]["failed"], 1, "{session:#}");
    assert_eq!(session["files"]["uploaded"], 11);
    let failures = place.api.get(&format!("/api/sessions/{id}/failures")).await;
    assert_eq!(
        failures["items"][0]["error_code"], "worker_crashed",
        "{failures:#}"
    );
    assert_eq!(failures["items"][0]["example_paths"], json!([path]));
    world.stack.stop().await;
}
