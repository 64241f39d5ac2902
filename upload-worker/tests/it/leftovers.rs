//! Multipart uploads that were left open: what workers close by themselves, and what they leave alone.

use crate::crashes::troubles;
use crate::fixture::{MIB, Place, World, eventually, pseudo_random};
use domain::ChecksumKind;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use storage::{Bucket, Hasher, WriteOptions};

/// How long a clean-up may take to come.
const LIMIT: Duration = Duration::from_secs(60);
/// Older than the clean-up asks for.
const OLD: Duration = Duration::from_secs(3 * 3600);

/// Opens a multipart upload that nothing records, as a worker does that is killed right after.
async fn orphan(bucket: &Bucket, key: &str) -> String {
    let options = WriteOptions::new(Hasher::new(ChecksumKind::Crc64nvme).finish());
    bucket.create_multipart(key, &options).await.unwrap().to_string()
}

/// The uploads that are open.
async fn open(bucket: &Bucket) -> BTreeSet<String> {
    let open = bucket.list_multipart_uploads("").await.unwrap();
    open.into_iter()
        .map(|upload| upload.upload_id.to_string())
        .collect()
}

/// The upload that is recorded for a session's only file, once there is one.
async fn recorded(world: &World, session: &str) -> String {
    let query =
        format!("SELECT coalesce(max(upload_id), '') FROM file_uploads WHERE session_id = '{session}'");
    eventually("a file in parts", LIMIT, async || {
        Some(world.sql(&query).await).filter(|id| !id.is_empty())
    })
    .await
}

/// Waits until the bucket of a project was looked through so many times more.
async fn looked_through(world: &World, place: &Place, times: usize) {
    let query = format!(
        "SELECT leftovers_checked_at FROM projects WHERE id = '{}'",
        place.project_id
    );
    let mut last = world.sql(&query).await;
    for _ in 0..times {
        last = eventually("another look", LIMIT, async || {
            Some(world.sql(&query).await).filter(|at| *at != last)
        })
        .await;
    }
}

async fn start(place: &Place, name: &str) -> String {
    place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": 1, "target_prefix": format!("{name}/") }))
        .await
}

/// What no row refers to goes, and what an ended session left; not what a running or a paused session goes on with, nor
/// what is young or not ours.
#[tokio::test]
async fn what_nobody_uses_is_closed_and_nothing_else() {
    const PARTS: u64 = 30;
    // A lease that nobody waits for: the running session is to stay with a worker that stands still.
    let mut world = World::start(1, 3600).await;
    let mut place = world.place("leftovers").await;
    let bucket = place.raw_bucket();
    place.source.write("large", pseudo_random(5 * MIB + 1, 1));
    let ended = start(&place, "ended").await;
    place.api.ended_as(&ended, "completed").await;
    place.source.write("large", pseudo_random(PARTS * 5 * MIB, 2));
    place.s3.set_latency(Duration::from_millis(150));
    let paused = start(&place, "paused").await;
    let of_paused = recorded(&world, &paused).await;
    place
        .api
        .post(&format!("/api/sessions/{paused}/pause"), json!({}))
        .await;
    let running_jobs = "SELECT count(*) FROM jobs WHERE state = 'running'";
    eventually("a rest", LIMIT, async || {
        (world.count(running_jobs).await == 0).then_some(())
    })
    .await;
    let running = start(&place, "running").await;
    let of_running = recorded(&world, &running).await;
    world.stack.workers()[0].signal(Signal::STOP).unwrap();
    place.s3.set_latency(Duration::ZERO);

    let of_killed = orphan(&bucket, "deliveries/C1/running/large").await;
    let of_ended = orphan(&bucket, "deliveries/C1/ended/large").await;
    world
        .sql(&format!(
            "UPDATE file_uploads SET upload_id = '{of_ended}' WHERE session_id = '{ended}'"
        ))
        .await;
    let foreign = orphan(&bucket, "elsewhere/large").await;
    place.s3.age_uploads(&place.bucket, OLD).unwrap();
    let young = orphan(&bucket, "deliveries/C1/running/young").await;
    let all = [&of_paused, &of_running, &of_killed, &of_ended, &foreign, &young];
    assert_eq!(open(&bucket).await, all.map(Clone::clone).into());

    world
        .stack
        .start_worker_with(&[("LEFTOVERS_EVERY_S", "1".to_owned())])
        .unwrap();
    eventually("that both are closed", LIMIT, async || {
        let open = open(&bucket).await;
        (!open.contains(&of_killed) && !open.contains(&of_ended)).then_some(())
    })
    .await;
    let forgotten =
        format!("SELECT count(*) FROM file_uploads WHERE session_id = '{ended}' AND upload_id IS NOT NULL");
    eventually("that it is forgotten", LIMIT, async || {
        (world.count(&forgotten).await == 0).then_some(())
    })
    .await;
    looked_through(&world, &place, 3).await;
    let kept = [&of_paused, &of_running, &foreign, &young];
    assert_eq!(open(&bucket).await, kept.map(Clone::clone).into());

    // And both go on with what they have.
    world.stack.workers()[0].signal(Signal::CONT).unwrap();
    place
        .api
        .post(&format!("/api/sessions/{paused}/resume"), json!({}))
        .await;
    for id in [&running, &paused] {
        let session = place.api.ended_as(id, "completed").await;
        place.assert_consistent(&session).await;
        assert_eq!(troubles(&world, &session).await, (0, 0, 0));
    }
    let sent_once = 2 * PARTS * 5 * MIB + 5 * MIB + 1;
    let again = place.s3.received_bytes() - sent_once;
    assert!(
        again <= 5 * MIB,
        "{again} bytes were sent again, where one part may have been on its way"
    );
    assert_eq!(open(&bucket).await, [foreign, young].into());
    world.stack.stop().await;
}

/// A worker is killed exactly between opening an upload and recording it, and its session rests, so that no end of it
/// closes what is left.
#[tokio::test]
async fn what_a_killed_worker_could_not_record_is_closed() {
    let mut world = World::start(1, 2).await;
    world.stack.kill_worker(0).await.unwrap();
    let mut place = world.place("unrecorded").await;
    let bucket = place.raw_bucket();
    place.source.write("large", pseudo_random(12 * MIB, 1));
    let killed = ("FAILPOINTS", "multipart.before_record=kill".to_owned());
    world.stack.start_worker_with(&[killed]).unwrap();
    let id = place.start(json!({ "part_size_bytes": 5 * MIB })).await;
    eventually("its end", LIMIT, async || {
        world.stack.worker_pids().is_empty().then_some(())
    })
    .await;
    let recorded = format!("SELECT count(upload_id) FROM file_uploads WHERE session_id = '{id}'");
    assert_eq!(world.count(&recorded).await, 0);
    assert_eq!(open(&bucket).await.len(), 1);
    place
        .api
        .post(&format!("/api/sessions/{id}/pause"), json!({}))
        .await;
    place.s3.age_uploads(&place.bucket, OLD).unwrap();

    let cleaner = ("LEFTOVERS_EVERY_S", "1".to_owned());
    world.stack.start_worker_with(&[cleaner]).unwrap();
    eventually("that it is closed", LIMIT, async || {
        open(&bucket).await.is_empty().then_some(())
    })
    .await;
    place
        .api
        .post(&format!("/api/sessions/{id}/resume"), json!({}))
        .await;
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(troubles(&world, &session).await, (1, 0, 0));
    world.stack.stop().await;
}

/// A store that refuses is said once, and the other projects are looked through all the same.
#[tokio::test]
async fn a_bucket_that_cannot_be_looked_through_is_said_once() {
    let mut world = World::start(1, 5).await;
    let refused = world.place("refused").await;
    let wrong = json!({ "credentials": { "access_key_id": "nobody", "secret_access_key": "wrong" } });
    let path = format!("/api/projects/{}", refused.project_id);
    let (status, answer) = refused.api.call(reqwest::Method::PATCH, &path, Some(wrong)).await;
    assert!(status.is_success(), "{answer}");
    let place = world.place("beside").await;
    let bucket = place.raw_bucket();
    let left = orphan(&bucket, "deliveries/C1/large").await;
    place.s3.age_uploads(&place.bucket, OLD).unwrap();
    world
        .stack
        .start_worker_with(&[("LEFTOVERS_EVERY_S", "1".to_owned())])
        .unwrap();
    eventually("that it is closed", LIMIT, async || {
        (!open(&bucket).await.contains(&left)).then_some(())
    })
    .await;
    looked_through(&world, &refused, 4).await;
    let logs = world.logs();
    let said = logs
        .lines()
        .filter(|line| line.contains(&refused.project_id) && line.contains("stay so"));
    assert_eq!(said.clone().count(), 1, "{:#?}", said.collect::<Vec<_>>());
    let said: Value = json!(logs.contains("InvalidAccessKeyId"));
    assert_eq!(said, true, "the cause is told");
    world.stack.stop().await;
}
