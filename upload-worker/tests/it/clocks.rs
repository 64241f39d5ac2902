//! A worker whose clock is an hour ahead, another whose clock is an hour behind: what they do is right all the same.

use crate::crashes::troubles;
use crate::fixture::{MIB, Place, World, eventually, pseudo_random, set_mode};
use dev_stack::shifted_clock;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const LEASE_S: u32 = 2;
const HOUR_S: i64 = 3_600;

#[tokio::test]
async fn the_clock_of_a_worker_may_be_off_by_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let library = shifted_clock::library(folder.path()).unwrap();
    let mut world = World::start(0, LEASE_S).await;
    for ahead_s in [HOUR_S, -HOUR_S] {
        let shifted = shifted_clock::variables(&library, ahead_s);
        world.stack.start_worker_with(&shifted).unwrap();
        let mut place = world.place("shifted").await;
        place.source.write_many(600);
        place.source.write("in parts", pseudo_random(11 * MIB, 1));
        place.s3.set_latency(Duration::from_millis(20));
        delivers(&world, &place).await;
        world.stack.stop_worker(0).await.unwrap();
    }
    with_a_right_clock_beside_it(&mut world, &library).await;
    world.stack.stop().await;
}

async fn delivers(world: &World, place: &Place) {
    let session = place
        .upload(json!({ "part_size_bytes": 5 * MIB }), "completed")
        .await;
    place.assert_delivered(&session).await;
    assert_eq!(
        troubles(world, &session).await,
        (0, 0, 0),
        "crashes, errors, open jobs"
    );
    let id = session["id"].as_str().unwrap();
    let off = format!(
        "SELECT count(*) FROM file_uploads WHERE session_id = '{id}'
         AND (finished_at NOT BETWEEN now() - interval '10 min' AND now() + interval '1 min' OR started_at > finished_at)"
    );
    assert_eq!(world.count(&off).await, 0, "times that no clock of ours had");
    let logs = world.logs();
    let warning = "the store's clock differs from this machine's";
    assert!(logs.contains(warning), "nobody says that the clock is wrong");
}

/// Whoever's clock is wrong takes nothing from one that works, and keeps nothing when it is killed.
async fn with_a_right_clock_beside_it(world: &mut World, library: &Path) {
    let shifted = shifted_clock::variables(library, HOUR_S);
    world.stack.start_worker_with(&shifted).unwrap();
    world.stack.start_worker().unwrap();
    let mut place = world.place("beside").await;
    place.source.write_many(3_000);
    place.s3.set_latency(Duration::from_millis(200));
    let id = place.start(json!({})).await;
    place.api.in_the_middle(&id, 200).await;
    let running =
        format!("SELECT count(DISTINCT worker_id) FROM jobs WHERE session_id = '{id}' AND state = 'running'");
    eventually("both at work", Duration::from_secs(30), async || {
        (world.count(&running).await == 2).then_some(())
    })
    .await;
    world.stack.kill_worker(0).await.unwrap();
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    let (crashes, errors, open) = troubles(world, &session).await;
    assert!(crashes >= 1, "nobody took over");
    assert_eq!((errors, open), (0, 0));
}
