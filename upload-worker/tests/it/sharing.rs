//! Many workers on one session.

use crate::fixture::{World, eventually, shared};
use reqwest::Method;
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

/// A company's limit keeps its second job waiting, and says so; once the limit is raised, the job goes while the first
/// one still runs.
#[tokio::test]
async fn a_raised_limit_lets_waiting_jobs_go() {
    let world = World::start(1, 5).await;
    let me = world.api.get("/api/auth/me").await;
    let company = format!("/api/companies/{}", me["company"]["id"].as_str().unwrap());
    let limit = async |limit: u32| {
        let body = json!({ "quota": { "max_concurrent_jobs": limit } });
        let (status, company) = world.api.call(Method::PATCH, &company, Some(body)).await;
        assert_eq!(status, 200, "{company}");
    };
    limit(1).await;
    let mut place = world.place("raised").await;
    place.source.write_many(1_100);
    // One file after the other: no job comes to its end for minutes.
    place.s3.set_latency(Duration::from_millis(300));
    let id = place.start(json!({ "concurrency": 1 })).await;
    let jobs = async |state: &str| {
        world
            .sql(&format!(
                "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM jobs
                 WHERE session_id = '{id}' AND kind = 'upload' AND state = '{state}'"
            ))
            .await
    };
    let patience = Duration::from_secs(120);
    let first = eventually("one job to run and one to wait", patience, async || {
        let (running, waiting) = (jobs("running").await, jobs("ready").await);
        (!running.is_empty() && !waiting.is_empty()).then_some(running)
    })
    .await;
    eventually("the limit to be said", patience, async || {
        let queue = world.api.get("/api/queue").await;
        let roots = queue["roots"].as_array().unwrap();
        roots
            .iter()
            .any(|root| root["state"] == "limit_reached")
            .then_some(())
    })
    .await;
    limit(2).await;
    let both = eventually("the second job to run as well", patience, async || {
        let running = jobs("running").await;
        running.contains(' ').then_some(running)
    })
    .await;
    assert!(both.split(' ').any(|id| id == first), "{first} of {both}");
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    world.stack.stop().await;
}
