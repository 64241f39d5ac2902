//! What a killed worker costs: the bytes of a large file that are sent again. The store counts what it is sent.

use crate::crashes::troubles;
use crate::fixture::{MIB, Place, World, eventually, pseudo_random};
use serde_json::json;
use std::time::Duration;

const PARTS: u64 = 60;
const PART_BYTES: u64 = 5 * MIB;
/// Parts that may be on their way at once.
const IN_FLIGHT: u64 = 4;

/// A session of one large file, at a store that answers slowly.
async fn start(world: &World, name: &str) -> (Place, String) {
    let mut place = world.place(name).await;
    place.source.write("large", pseudo_random(PARTS * PART_BYTES, 7));
    place.s3.set_latency(Duration::from_millis(150));
    let id = place
        .start(json!({ "part_size_bytes": PART_BYTES, "concurrency": IN_FLIGHT }))
        .await;
    (place, id)
}

/// Kills the worker that has the file, when the store was sent so many parts; gives its process's id.
async fn kill_holder(world: &mut World, place: &Place, id: &str, parts: u64) -> u32 {
    eventually("parts", Duration::from_secs(60), async || {
        (place.s3.received_bytes() >= parts * PART_BYTES).then_some(())
    })
    .await;
    let holder = format!(
        "SELECT worker_id FROM jobs WHERE session_id = '{id}' AND kind = 'upload' AND state = 'running'"
    );
    let holder = world.sql(&holder).await;
    let pid: u32 = holder.split('-').next().unwrap().parse().unwrap();
    let index = world.stack.worker_pids().iter().position(|worker| *worker == pid);
    world
        .stack
        .kill_worker(index.expect("the holder is one of ours"))
        .await
        .unwrap();
    pid
}

/// The file arrives whole, and what was sent again is at most what was on its way at each of the `kills`.
async fn assert_resumed(world: &World, place: &Place, id: &str, kills: u64) {
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(id, "completed").await;
    place.assert_delivered(&session).await;
    let (crashes, errors, open) = troubles(world, &session).await;
    assert_eq!((crashes, errors, open), (i64::try_from(kills).unwrap(), 0, 0));
    let again = place.s3.received_bytes() - PARTS * PART_BYTES;
    println!(
        "sent again after {kills} kills in the middle of {PARTS} parts of {PART_BYTES} bytes, {IN_FLIGHT} at a time: \
         {again} bytes"
    );
    let bound = kills * IN_FLIGHT * PART_BYTES;
    assert!(
        again <= bound,
        "{again} bytes were sent again, where {bound} may have been on their way"
    );
}

#[tokio::test]
async fn another_worker_sends_again_no_more_than_was_on_its_way() {
    let mut world = World::start(2, 2).await;
    let (place, id) = start(&world, "taken-over").await;
    let first = kill_holder(&mut world, &place, &id, PARTS / 4).await;
    // Half of what is left: only another worker can have sent that.
    let second = kill_holder(&mut world, &place, &id, PARTS / 2 + IN_FLIGHT).await;
    assert_ne!(first, second);
    world.stack.start_worker().unwrap();
    assert_resumed(&world, &place, &id, 2).await;
    world.stack.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_started_again_sends_again_no_more_than_was_on_its_way() {
    let mut world = World::start(1, 2).await;
    let (place, id) = start(&world, "started-again").await;
    kill_holder(&mut world, &place, &id, PARTS / 2).await;
    assert!(world.stack.worker_pids().is_empty());
    world.stack.start_worker().unwrap();
    assert_resumed(&world, &place, &id, 1).await;
    world.stack.stop().await;
}
