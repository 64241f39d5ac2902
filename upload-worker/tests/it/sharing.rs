//! Many workers on one session.

use crate::fixture::{World, eventually, shared};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn two_workers_share_a_session() {
    let world = shared().await;
    let mut place = world.place("sharing").await;
    place.source.write_many(6_000);
    // So that neither is done before the other begins.
    place.s3.set_latency(Duration::from_millis(20));
    let session = place.upload(json!({}), "completed").await;
    place.s3.set_latency(Duration::ZERO);
    place.assert_delivered(&session).await;

    let jobs = format!(
        "FROM jobs WHERE session_id = '{}' AND kind = 'upload'",
        session["id"].as_str().unwrap()
    );
    assert_eq!(
        world
            .count(&format!("SELECT count(DISTINCT worker_id) {jobs}"))
            .await,
        2
    );
    let files = format!("SELECT sum(last_number - first_number + 1) {jobs}");
    assert_eq!(
        world.count(&files).await,
        6_000,
        "ranges do not overlap and cover all"
    );
    let disturbed =
        format!("SELECT count(*) {jobs} AND (epoch <> 1 OR crashes + errors > 0 OR state <> 'done')");
    assert_eq!(world.count(&disturbed).await, 0, "each job was run once");
}

/// Two workers with room, and a company that may run one upload job at a time: it does, and loses none for it.
#[tokio::test]
async fn a_company_keeps_to_its_limit() {
    let world = World::start(2, 5).await;
    world.sql("UPDATE companies SET max_concurrent_jobs = 1").await;
    let mut place = world.place("limited").await;
    place.source.write_many(4_000);
    place.s3.set_latency(Duration::from_millis(10));
    let id = place.start(json!({})).await;
    let running = format!(
        "SELECT count(*) FROM jobs WHERE session_id = '{id}' AND kind = 'upload' AND state = 'running'"
    );
    let mut most = 0;
    eventually("the session to end", Duration::from_secs(120), async || {
        most = most.max(world.count(&running).await);
        let session = place.api.session(&id).await;
        (session["phase"] == "ended").then_some(())
    })
    .await;
    assert_eq!(most, 1);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    world.stack.stop().await;
}
