//! Services that are away for longer than a minute.

use crate::crashes::troubles;
use crate::fixture::{World, eventually};
use crate::outages::{assert_unharmed, running};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

const LEASE_S: u32 = 2;
const LONG: Duration = Duration::from_secs(61);

async fn until_long_away(since: Instant) {
    eventually("more than a minute", 2 * LONG, async || {
        (since.elapsed() > LONG).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_may_be_away_for_longer_than_a_minute() {
    let mut world = World::start(2, LEASE_S).await;
    let (place, id) = running(&world, "running").await;
    world.stack.stop_redis().await;
    let away = Instant::now();
    let mut other = world.place("created").await;
    other.source.write_many(10);
    let other_id = other.start(json!({})).await;
    until_long_away(away).await;
    assert_eq!(other.api.session(&other_id).await["status"], "pending");
    world.stack.start_redis().await.unwrap();
    assert_unharmed(&world, &place, &id).await;
    assert_unharmed(&world, &other, &other_id).await;
    world.stack.stop().await;
}

/// One worker waits for it; one is told to stop meanwhile, one is killed.
#[tokio::test]
async fn postgres_may_be_away_for_longer_than_a_minute() {
    const GRACE_S: u32 = 2;
    let mut world = World::start_with(1, LEASE_S, |options| options.shutdown_grace_s = GRACE_S).await;
    let (place, id) = running(&world, "waiting").await;
    world.stack.postgres().stop().await;
    until_long_away(Instant::now()).await;
    let (status, _) = place
        .api
        .call(Method::GET, &format!("/api/sessions/{id}"), None)
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    world.stack.postgres().start_again().await.unwrap();
    assert_unharmed(&world, &place, &id).await;
    assert_eq!(world.stack.casualty(), None);
    with_workers_that_end(&mut world, Duration::from_secs(u64::from(GRACE_S) + 8)).await;
    world.stack.stop().await;
}

/// What they could not write any more is done by others, who are many crashes away from giving it up.
async fn with_workers_that_end(world: &mut World, patience: Duration) {
    world.stack.start_worker().unwrap();
    let mut place = world.place("ending").await;
    place.source.write_many(4_000);
    place.s3.set_latency(Duration::from_millis(200));
    let id = place.start(json!({})).await;
    place.api.in_the_middle(&id, 200).await;
    let both =
        format!("SELECT count(DISTINCT worker_id) FROM jobs WHERE session_id = '{id}' AND state = 'running'");
    eventually("both at work", Duration::from_secs(30), async || {
        (world.count(&both).await == 2).then_some(())
    })
    .await;
    world.stack.postgres().stop().await;
    let told = Instant::now();
    world.stack.workers()[0].signal(Signal::TERM).unwrap();
    let status = world.stack.workers()[0].wait().await;
    assert_eq!(
        status.code(),
        Some(0),
        "a worker that can give nothing back ends in order"
    );
    assert!(told.elapsed() < patience, "it took {:?}", told.elapsed());
    world.stack.workers().remove(0);
    world.stack.kill_worker(0).await.unwrap();
    world.stack.start_worker().unwrap();
    world.stack.postgres().start_again().await.unwrap();
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    let most = format!("SELECT max(crashes) FROM jobs WHERE session_id = '{id}'");
    assert_eq!(world.count(&most).await, 1, "each job that was held counts one");
    assert_eq!(troubles(world, &session).await.1, 0, "an outage is no error");
}
