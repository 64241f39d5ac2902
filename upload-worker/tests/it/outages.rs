//! Redis and Postgres come and go.

use crate::fixture::{World, eventually};
use dev_stack::fetch;
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const LEASE_S: u32 = 2;

#[tokio::test]
async fn redis_may_be_away_or_forget_everything() {
    let mut world = World::start(1, LEASE_S).await;
    let mut place = world.place("no-redis").await;
    place.source.write_many(1_000);

    world.stack.stop_redis().await;
    let asked = Instant::now();
    let (status, session) = place
        .api
        .call(Method::POST, "/api/sessions", Some(place.request(&json!({}))))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{session}");
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        asked.elapsed()
    );
    let id = session["id"].as_str().unwrap();
    assert_eq!(place.api.session(id).await["status"], "pending");
    let ready = format!("{}/health/ready", world.stack.api_url());
    eventually("that it is not ready", Duration::from_secs(10), async || {
        (fetch::status(&ready).await.ok()?.as_u16() == 503).then_some(())
    })
    .await;
    world.stack.start_redis().await.unwrap();
    let session = place.api.ended_as(id, "completed").await;
    place.assert_delivered(&session).await;

    // Away and back in the middle, and emptied again and again.
    let mut place = world.place("forgetful").await;
    place.source.write_many(4_000);
    place.s3.set_latency(Duration::from_millis(40));
    let id = place.start(json!({})).await;
    place.api.in_the_middle(&id, 100).await;
    world.stack.stop_redis().await;
    world.stack.start_redis().await.unwrap();
    for uploaded in [400, 800, 1_200] {
        place.api.in_the_middle(&id, uploaded).await;
        flush_all(&world);
    }
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    let jobs = format!("SELECT coalesce(sum(crashes + errors), 0) FROM jobs WHERE session_id = '{id}'");
    assert_eq!(world.count(&jobs).await, 0);
    world.stack.stop().await;
}

/// Empties Redis, in its own protocol.
fn flush_all(world: &World) {
    let (_, url) = world
        .stack
        .env()
        .into_iter()
        .find(|(name, _)| *name == "REDIS_URL")
        .unwrap();
    let (login, address) = url
        .strip_prefix("redis://default:")
        .unwrap()
        .split_once('@')
        .unwrap();
    let mut stream = TcpStream::connect(address.trim_end_matches("/0")).unwrap();
    write!(stream, "AUTH {login}\r\nFLUSHALL\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+OK\r\n+OK\r\n+OK\r\n");
}

#[tokio::test]
async fn postgres_may_be_away() {
    let mut world = World::start(1, LEASE_S).await;
    in_the_middle_of_a_session(&mut world).await;
    when_everybody_starts(&mut world).await;
    world.stack.stop().await;
}

/// Longer than a lease: nobody is taken for dead, and nothing that was done is lost.
async fn in_the_middle_of_a_session(world: &mut World) {
    let mut place = world.place("no-postgres").await;
    place.source.write_many(3_000);
    place.s3.set_latency(Duration::from_millis(40));
    let id = place.start(json!({})).await;
    for uploaded in [100, 1_000] {
        place.api.in_the_middle(&id, uploaded).await;
        world.stack.postgres().stop().await;
        let away = Instant::now();
        let (status, problem) = place
            .api
            .call(Method::GET, &format!("/api/sessions/{id}"), None)
            .await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
        eventually(
            "three leases without a database",
            Duration::from_secs(30),
            async || (away.elapsed() > Duration::from_secs(3 * u64::from(LEASE_S))).then_some(()),
        )
        .await;
        world.stack.postgres().start_again().await.unwrap();
    }
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    let jobs = format!("SELECT coalesce(sum(crashes + errors), 0) FROM jobs WHERE session_id = '{id}'");
    assert_eq!(world.count(&jobs).await, 0, "an outage is no crash");
    assert_eq!(world.stack.casualty(), None);
}

/// They wait, say for what, and go on.
async fn when_everybody_starts(world: &mut World) {
    let mut place = world.place("late-postgres").await;
    place.source.write_many(10);
    world.stack.stop_worker(0).await.unwrap();
    world.stack.gateway().stop().await;
    world.stack.postgres().stop().await;
    let lines = world.logs().lines().count();
    world.stack.start_worker().unwrap();
    let mut gateway = world.stack.gateway().command().spawn().unwrap();
    eventually(
        "that they say what they wait for",
        Duration::from_secs(20),
        async || {
            let logs = world.logs();
            let new: Vec<&str> = logs.lines().skip(lines).collect();
            let complaints = new
                .iter()
                .filter(|line| line.contains("atabase") || line.contains("ostgres"));
            (complaints.count() >= 2).then_some(())
        },
    )
    .await;
    assert!(
        gateway.ended().is_none(),
        "the gateway gave up: {}",
        gateway.log_tail()
    );
    world.stack.postgres().start_again().await.unwrap();
    let ready = format!("{}/health/ready", world.stack.api_url());
    gateway
        .wait_ready(Duration::from_secs(30), async || {
            fetch::status(&ready)
                .await
                .is_ok_and(|status| status.as_u16() == 200)
        })
        .await
        .unwrap();
    let session = place.upload(json!({}), "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(gateway.stop().await.code(), Some(0), "SIGTERM ends it in order");
}
