//! Sessions that people stop.

use crate::fixture::{MIB, World, pseudo_random, shared};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_cancelled_session_leaves_nothing_open() {
    let mut place = shared().await.place("cancelled").await;
    place.source.write("a large one", pseudo_random(150 * MIB, 3));
    place.source.write_many(300);
    place.s3.set_latency(Duration::from_millis(120));
    let id = place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": 3 }))
        .await;
    place.api.in_the_middle(&id, 5).await;
    place
        .api
        .until(&id, "with parts under way", |session| {
            let active = session["active_files"].as_array().unwrap();
            active.iter().any(|file| file["sent_bytes"].as_u64() > Some(0))
        })
        .await;
    let asked = Instant::now();
    let (status, _) = place
        .api
        .call(Method::POST, &format!("/api/sessions/{id}/cancel"), None)
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let session = place.api.ended_as(&id, "cancelled").await;
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        asked.elapsed()
    );

    let files = place.assert_consistent(&session).await;
    assert!(
        session["files"]["uploaded"].as_i64() > Some(0) && session["files"]["cancelled"].as_i64() > Some(0)
    );
    assert_eq!(session["files"]["failed"], 0);
    let of_large: Vec<&Value> = files
        .iter()
        .filter(|file| file["path"] == "a large one")
        .collect();
    assert_eq!(of_large[0]["status"], "cancelled");
    place.s3.set_latency(Duration::ZERO);
    // What arrived before is there, whole; what was under way is gone.
    let arrived: BTreeMap<String, PathBuf> = files
        .iter()
        .filter(|file| file["status"] == "uploaded")
        .map(|file| {
            let path = place.source.dir().join(file["path"].as_str().unwrap());
            (file["s3_key"].as_str().unwrap().to_owned(), path)
        })
        .collect();
    let testimony = place.testimony(&arrived).await;
    testimony.assert_good();
    place.assert_agrees(&session, &testimony).await;

    let (status, problem) = place
        .api
        .call(Method::POST, &format!("/api/sessions/{id}/cancel"), None)
        .await;
    assert_eq!(
        (status, problem["code"].is_string()),
        (StatusCode::CONFLICT, true),
        "{problem}"
    );
}

#[tokio::test]
async fn a_session_that_no_worker_has_begun_is_cancelled_at_once() {
    let mut world = World::start(0, 2).await;
    let mut place = world.place("unbegun").await;
    place.source.write("a", "a");
    let id = place.start(json!({})).await;
    let session = place.api.session(&id).await;
    assert_eq!(
        (&session["status"], &session["phase"]),
        (&json!("pending"), &json!("queued"))
    );
    let busy = place
        .api
        .call(Method::POST, "/api/sessions", Some(place.request(&json!({}))))
        .await;
    assert_eq!(
        (busy.0, &busy.1["code"]),
        (StatusCode::CONFLICT, &json!("cycle_busy"))
    );
    place
        .api
        .post(&format!("/api/sessions/{id}/cancel"), json!({}))
        .await;
    let session = place.api.session(&id).await;
    assert_eq!(session["status"], "cancelled", "{session:#}");

    // Nothing of it is left to be run, and the cycle is free.
    let next = place.start(json!({})).await;
    world.stack.start_worker().unwrap();
    let delivered = place.api.ended_as(&next, "completed").await;
    place.assert_delivered(&delivered).await;
    assert_eq!(place.api.session(&id).await["status"], "cancelled");
    assert!(place.api.files(&id).await.is_empty());
    world.stack.stop().await;
}
