//! Workers that vanish, and workers that are told to stop.

use crate::fixture::{MIB, Place, World, eventually, pseudo_random};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// The sums over a session's jobs: crashes, errors, and those that are still open.
pub(crate) async fn troubles(world: &World, session: &Value) -> (i64, i64, i64) {
    let id = session["id"].as_str().unwrap();
    let sum = async |what: &str| {
        world
            .count(&format!("SELECT {what} FROM jobs WHERE session_id = '{id}'"))
            .await
    };
    (
        sum("coalesce(sum(crashes), 0)").await,
        sum("coalesce(sum(errors), 0)").await,
        sum("count(*) FILTER (WHERE state IN ('ready', 'running'))").await,
    )
}

pub(crate) async fn assert_settled(world: &World, session: &Value) {
    let id = session["id"].as_str().unwrap();
    let open = world
        .count(&format!("SELECT open_jobs FROM sync_sessions WHERE id = '{id}'"))
        .await;
    assert_eq!(open, 0);
    let paths = format!("SELECT count(*) - count(DISTINCT path) FROM file_uploads WHERE session_id = '{id}'");
    assert_eq!(world.count(&paths).await, 0, "a file is recorded twice");
}

/// A place with many small files and some in parts, whose store answers slowly.
async fn slow_place(world: &World, name: &str) -> Place {
    let mut place = world.place(name).await;
    place.source.write_many(2_500);
    for index in 0..4 {
        place
            .source
            .write(&format!("parts/{index}"), pseudo_random(12 * MIB, index));
    }
    place.s3.set_latency(Duration::from_millis(60));
    place
}

#[tokio::test]
async fn killed_workers_cost_nothing_but_time() {
    let mut world = World::start(2, 2).await;
    let place = slow_place(&world, "killed").await;
    let id = place.start(json!({ "part_size_bytes": 5 * MIB })).await;
    for uploaded in [150, 600] {
        place.api.in_the_middle(&id, uploaded).await;
        world.stack.kill_worker(0).await.unwrap();
        world.stack.start_worker().unwrap();
    }
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    let (crashes, errors, open) = troubles(&world, &session).await;
    assert!(crashes >= 1, "nobody noticed");
    assert_eq!((errors, open), (0, 0));
    killed_in_the_middle_of_a_large_file(&mut world).await;
    killed_while_it_scans(&mut world).await;
    world.stack.stop().await;
}

/// What the store has of a large file is not sent again.
async fn killed_in_the_middle_of_a_large_file(world: &mut World) {
    const PARTS: u64 = 40;
    let mut place = world.place("large").await;
    place.source.write("large", pseudo_random(PARTS * 5 * MIB, 7));
    place.s3.set_latency(Duration::from_millis(150));
    let id = place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": 4 }))
        .await;
    eventually("half of the parts", Duration::from_secs(60), async || {
        (place.s3.requests() > PARTS / 2).then_some(())
    })
    .await;
    assert_eq!(place.api.session(&id).await["files"]["uploaded"], 0, "too late");
    let before = place.s3.requests();
    while !world.stack.worker_pids().is_empty() {
        world.stack.kill_worker(0).await.unwrap();
    }
    world.stack.start_worker().unwrap();
    world.stack.start_worker().unwrap();
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    let after = place.s3.requests() - before;
    // Four parts may have been on their way, and there are a few requests beside the parts.
    let rest = PARTS - PARTS / 2 + 4 + 8;
    assert!(
        after <= rest,
        "{after} requests after the crash, where {rest} are enough"
    );
    place.assert_delivered(&session).await;
    assert_settled(world, &session).await;
    assert!(troubles(world, &session).await.0 >= 1);
}

/// A scan that starts again goes on with what is new.
async fn killed_while_it_scans(world: &mut World) {
    let mut place = world.place("scanning").await;
    place.source.write_many(5_000);
    // Each batch takes a while, so that there is a middle.
    world
        .sql(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
             CREATE TRIGGER be_slow AFTER INSERT ON file_uploads FOR EACH STATEMENT EXECUTE FUNCTION be_slow()",
        )
        .await;
    let id = place.start(json!({ "dry_run": true })).await;
    place
        .api
        .until(&id, "with some files", |session| {
            session["files"]["total"].as_i64() >= Some(1)
        })
        .await;
    while !world.stack.worker_pids().is_empty() {
        world.stack.kill_worker(0).await.unwrap();
    }
    let seen = place.api.session(&id).await;
    assert_eq!(
        seen["scan_complete"], false,
        "it was scanned before anybody was dead"
    );
    world.sql("DROP FUNCTION be_slow CASCADE").await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(session["files"]["total"], 5_000);
    place.assert_consistent(&session).await;
    assert_settled(world, &session).await;
    assert_eq!(troubles(world, &session).await.0, 1);
}

/// The fence: another worker has its job now, and what it still holds is not sent.
#[tokio::test]
async fn a_worker_that_sleeps_past_its_lease_sends_nothing_more() {
    const IN_FLIGHT: u64 = 8;
    let mut world = World::start(1, 2).await;
    let mut place = world.place("asleep").await;
    place.source.write_many(900);
    place.source.write("in parts", pseudo_random(11 * MIB, 5));
    place.s3.set_latency(Duration::from_millis(100));
    let id = place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": IN_FLIGHT }))
        .await;
    place.api.in_the_middle(&id, 50).await;
    world.stack.workers()[0].signal(Signal::STOP).unwrap();
    let asleep = place.s3.requests();
    world.stack.start_worker().unwrap();
    let taken = format!(
        "SELECT count(*) FROM jobs WHERE session_id = '{id}' AND kind = 'upload' AND state = 'running' AND epoch = 2"
    );
    eventually(
        "another worker with the job",
        Duration::from_secs(30),
        async || (world.count(&taken).await > 0 && place.s3.requests() > asleep + IN_FLIGHT).then_some(()),
    )
    .await;
    world.stack.workers()[0].signal(Signal::CONT).unwrap();
    eventually("that it noticed", Duration::from_secs(3), async || {
        world
            .logs()
            .contains("the job is no longer this worker's")
            .then_some(())
    })
    .await;
    let session = place.api.session(&id).await;
    assert!(
        session["files"]["pending"].as_i64() > Some(300),
        "too late: {session:#}"
    );
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    assert!(troubles(&world, &session).await.0 >= 1);
    assert_eq!(world.stack.casualty(), None);
    world.stack.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_hands_over() {
    let mut world = World::start(2, 2).await;
    let place = slow_place(&world, "stopped").await;
    let id = place.start(json!({ "part_size_bytes": 5 * MIB })).await;
    place.api.in_the_middle(&id, 150).await;
    let status = tokio::time::timeout(Duration::from_secs(20), world.stack.stop_worker(0))
        .await
        .expect("it does not end")
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let session = place.api.session(&id).await;
    assert_eq!(session["status"], "in_progress", "too late: {session:#}");
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    assert_eq!(
        troubles(&world, &session).await,
        (0, 0, 0),
        "crashes, errors, open jobs"
    );
    world.stack.stop().await;
}

/// Requests that take longer than the grace: what they were about is given back, and counts as no crash.
#[tokio::test]
async fn a_worker_whose_grace_is_over_gives_its_jobs_back() {
    let mut world = World::start_with(1, 30, |options| options.shutdown_grace_s = 1).await;
    let place = slow_place(&world, "impatient").await;
    let id = place.start(json!({ "part_size_bytes": 5 * MIB })).await;
    place.api.in_the_middle(&id, 150).await;
    place.s3.set_latency(Duration::from_secs(3600));
    let status = tokio::time::timeout(Duration::from_secs(15), world.stack.stop_worker(0))
        .await
        .expect("it does not end")
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let session = place.api.session(&id).await;
    let running = world
        .count(&format!(
            "SELECT count(*) FROM jobs WHERE session_id = '{id}' AND state = 'running'"
        ))
        .await;
    assert_eq!(running, 0, "nothing waits for its lease: {session:#}");
    place.s3.set_latency(Duration::ZERO);
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(
        troubles(&world, &session).await,
        (0, 0, 0),
        "crashes, errors, open jobs"
    );
    world.stack.stop().await;
}
