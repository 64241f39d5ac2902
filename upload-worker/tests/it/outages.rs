//! Redis and Postgres come and go.

use crate::crashes::troubles;
use crate::fixture::{Place, World, eventually};
use dev_stack::fetch;
use reqwest::{Method, StatusCode};
use serde_json::json;
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
        told(&mut world, "FLUSHALL").await;
    }
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    let jobs = format!("SELECT coalesce(sum(crashes + errors), 0) FROM jobs WHERE session_id = '{id}'");
    assert_eq!(world.count(&jobs).await, 0);
    world.stack.stop().await;
}

async fn told(world: &mut World, command: &str) -> String {
    world.stack.redis().run(command).await.unwrap()
}

#[tokio::test]
async fn redis_may_be_full() {
    let mut world = World::start(1, LEASE_S).await;
    let (place, id) = running(&world, "full").await;
    told(&mut world, "CONFIG SET maxmemory 1 maxmemory-policy noeviction").await;
    let mut other = world.place("full-too").await;
    other.source.write_many(10);
    let other_id = other.start(json!({})).await;
    let (status, readiness) = place.api.call(Method::GET, "/health/ready", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        readiness["checks"]["redis"]["detail"],
        "is full and takes no writes"
    );
    eventually("that the sweeper says why", Duration::from_secs(30), async || {
        let logs = world.logs();
        let says = |line: &str| line.contains("cannot push what waits") && line.contains("Redis is full");
        logs.lines().any(says).then_some(())
    })
    .await;
    assert_eq!(other.api.session(&other_id).await["status"], "pending");
    told(&mut world, "CONFIG SET maxmemory 0").await;
    assert_unharmed(&world, &place, &id).await;
    assert_unharmed(&world, &other, &other_id).await;

    // One that evicts takes everything it holds for this, and would take more.
    let (place, id) = running(&world, "evicted").await;
    told(
        &mut world,
        "CONFIG SET maxmemory 1 maxmemory-policy allkeys-random",
    )
    .await;
    eventually("that keys vanish", Duration::from_secs(30), async || {
        let stats = told(&mut world, "INFO stats").await;
        (!stats.contains("evicted_keys:0\r\n")).then_some(())
    })
    .await;
    told(&mut world, "CONFIG SET maxmemory 0").await;
    assert_unharmed(&world, &place, &id).await;
    world.stack.stop().await;
}

/// A session that has begun, and is far from its end.
pub(crate) async fn running(world: &World, name: &str) -> (Place, String) {
    let mut place = world.place(name).await;
    place.source.write_many(4_000);
    place.s3.set_latency(Duration::from_millis(40));
    let id = place.start(json!({})).await;
    place.api.in_the_middle(&id, 100).await;
    (place, id)
}

/// It completes, nothing is missing, and no job was troubled by what happened.
pub(crate) async fn assert_unharmed(world: &World, place: &Place, id: &str) {
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(id, "completed").await;
    place.assert_delivered(&session).await;
    let troubles = troubles(world, &session).await;
    assert_eq!(troubles, (0, 0, 0), "crashes, errors, open jobs");
}

#[tokio::test]
async fn postgres_may_be_away() {
    let mut world = World::start(1, LEASE_S).await;
    in_the_middle_of_a_session(&mut world).await;
    with_no_connection_left(&mut world).await;
    crashed_in_each_phase(&mut world).await;
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

/// It runs, and lets nobody in.
async fn with_no_connection_left(world: &mut World) {
    let (place, id) = running(world, "no-connection").await;
    world.sql("ALTER ROLE uploader_app CONNECTION LIMIT 0").await;
    let end_all =
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'uploader_app'";
    assert!(world.count(end_all).await > 0);
    let full = Instant::now();
    let path = format!("/api/sessions/{id}");
    let (status, problem) = place.api.call(Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    let what = "three leases and a word about it";
    eventually(what, Duration::from_secs(30), async || {
        let says = world.logs().contains("too many connections for role");
        (says && full.elapsed() > Duration::from_secs(3 * u64::from(LEASE_S))).then_some(())
    })
    .await;
    world.sql("ALTER ROLE uploader_app CONNECTION LIMIT -1").await;
    assert_unharmed(world, &place, &id).await;
    assert_eq!(world.stack.casualty(), None);
}

/// Killed while it writes what the scan found, what became of files, and the end of the session; it recovers.
async fn crashed_in_each_phase(world: &mut World) {
    let mut place = world.place("crashing-postgres").await;
    place.source.write_many(1_500);
    place.s3.set_latency(Duration::from_millis(40));
    let phases = [
        "AFTER INSERT ON file_uploads FOR EACH STATEMENT",
        "AFTER UPDATE ON file_uploads FOR EACH STATEMENT",
        "AFTER UPDATE ON sync_sessions FOR EACH ROW WHEN (NEW.finished_at IS NOT NULL)",
    ];
    let mut id = String::new();
    for phase in phases {
        let trigger = format!(
            "DROP FUNCTION IF EXISTS be_slow CASCADE;
             CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
             CREATE TRIGGER be_slow {phase} EXECUTE FUNCTION be_slow()"
        );
        world.sql(&trigger).await;
        if id.is_empty() {
            id = place.start(json!({})).await;
        }
        eventually(phase, Duration::from_secs(60), async || {
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            (world.count(sleeping).await > 0).then_some(())
        })
        .await;
        world.stack.postgres().server().kill().await.unwrap();
        // Its processes notice one by one that it is gone, and it does not start beside them.
        eventually("the recovery", Duration::from_secs(60), async || {
            world.stack.postgres().start_again().await.ok()
        })
        .await;
    }
    world.sql("DROP FUNCTION be_slow CASCADE").await;
    assert_unharmed(world, &place, &id).await;
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
