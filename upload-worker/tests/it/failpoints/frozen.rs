//! S3 knows no fence: what a worker still sends that was frozen past its lease, and what becomes of it.

use super::{PART_BYTES, place, settings};
use crate::crashes::{assert_settled, troubles};
use crate::fixture::{PREFIX, Place, World, eventually, pseudo_random, until_held};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

const NOTICED: &str = "the job is no longer this worker's";

/// Lets a worker freeze at `point`, and another bring the session to its end. Then wakes the frozen one, which shall
/// not notice at a flush before it has sent something, and gives the number of requests that it still sends. It may
/// notice otherwise: it was just recording an upload.
async fn late_requests(world: &mut World, place: &Place, point: &str) -> u64 {
    let unaware = world.gate("unaware");
    let id = place.start(settings()).await;
    let schedule = format!("{point}=1*stop;flush.before_write={}", unaware.hold());
    let mut frozen = world.armed_worker(&schedule, None);
    until_held(point, "stop", &frozen).await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    assert!(troubles(world, &session).await.0 >= 1, "nobody noticed");

    let asleep = place.s3.requests();
    frozen.signal(Signal::CONT).unwrap();
    eventually("a late request", Duration::from_secs(20), async || {
        (place.s3.requests() > asleep || world.logs().contains(NOTICED)).then_some(())
    })
    .await;
    unaware.open();
    eventually("that it noticed", Duration::from_secs(20), async || {
        world.logs().contains(NOTICED).then_some(())
    })
    .await;
    assert_eq!(frozen.stop().await.code(), Some(0), "{}", frozen.log_tail());
    let late = place.s3.requests() - asleep;

    assert_eq!(place.api.session(&id).await, session);
    place.assert_delivered(&session).await;
    assert_settled(world, &session).await;
    late
}

/// What was on its way: one file, and an upload that it was just opening, which it closes itself. It changes nothing:
/// the bytes are the same.
#[tokio::test]
async fn a_worker_frozen_before_a_put_sends_no_more_than_was_on_its_way() {
    const ON_THEIR_WAY: u64 = 3;
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = place(&world, "frozen-at-put").await;
    place.source.write_many(300);
    let late = late_requests(&mut world, &place, "put.before_request").await;
    assert!(late <= ON_THEIR_WAY, "{late} late requests");
    world.stack.stop().await;
}

/// The request to open an upload was on its way; the session ends before the store has it. The worker closes what it
/// opened, and nothing is left to the hourly clean-up.
#[tokio::test]
async fn a_worker_frozen_before_it_opens_an_upload_leaves_none_open() {
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = world.place("frozen-at-opening").await;
    place.source.write("in parts", pseudo_random(PART_BYTES + 7, 3));
    let late = late_requests(&mut world, &place, "multipart.before_request").await;
    assert_eq!(late, 2, "one that opens, one that aborts");
    world.stack.stop().await;
}

/// The upload that it would complete was completed by another: the store refuses, and it opens no new one.
#[tokio::test]
async fn a_worker_frozen_before_complete_completes_nothing() {
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = world.place("frozen-at-complete").await;
    place.source.write("in parts", pseudo_random(PART_BYTES + 7, 3));
    let late = late_requests(&mut world, &place, "complete.before_request").await;
    // What it was about to send, and a look at the object: it may be its own.
    assert!(late <= 2, "{late} late requests");
    world.stack.stop().await;
}

/// The one thing that no fence can keep away: an older version of a file that is written after the newer one was
/// recorded. The last look before the end of the session sees it, and a retry sends the file again.
#[tokio::test]
async fn an_older_version_that_a_frozen_worker_writes_late_is_found_and_sent_again() {
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = world.place("late").await;
    place.source.write("report", "the older version");
    // It must not notice before it has written.
    let (unaware, last_look) = (world.gate("unaware"), world.gate("last look"));
    let schedule = format!("put.before_request=1*stop;flush.before_write={}", unaware.hold());
    let id = place.start(json!({ "concurrency": 1 })).await;
    let mut frozen = world.armed_worker(&schedule, None);
    until_held("put.before_request", "stop", &frozen).await;

    place.source.write("report", "the newer version, which is longer");
    let other = world.armed_worker(&format!("finish.before_look={}", last_look.hold()), None);
    until_held("finish.before_look", "hold", &other).await;
    let session = place.api.session(&id).await;
    assert_eq!(session["files"]["uploaded"], 1, "{session:#}");
    place.testimony(&place.objects_below(PREFIX)).await.assert_good();

    frozen.signal(Signal::CONT).unwrap();
    let objects = place.s3.options().dir.join(&place.bucket).join("objects");
    let object = objects.join(PREFIX).join("report");
    eventually("the late write", Duration::from_secs(20), async || {
        (std::fs::read(&object).unwrap() == b"the older version").then_some(())
    })
    .await;
    last_look.open();

    let session = place.api.ended_as(&id, "completed_with_errors").await;
    let files = place.assert_consistent(&session).await;
    let failed: Vec<_> = files.iter().filter(|file| file["status"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["error_code"], "checksum_mismatch", "{failed:#?}");
    unaware.open();
    drop(frozen);

    world.stack.start_worker().unwrap();
    place
        .api
        .post(&format!("/api/sessions/{id}/retry"), json!({}))
        .await;
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}
