//! Two companies and one worker: one has much queued and a store that answers late; the other's ten files do not wait
//! for it. Judged by what was done meanwhile, not by the time it took.

use crate::fixture::{Api, MIB, Place, World, eventually};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// When a slow store answers. The worker would wait for thirty seconds.
const SLOW: Duration = Duration::from_secs(20);
/// Files and parts of one company that a worker has in flight at most, of the 64 that it is made for.
const IN_FLIGHT: i64 = 60;
/// A worker takes no more jobs of a company that it has some of, while so many files wait, or so many jobs run.
const MAX_BACKLOG: i64 = 128;
const MAX_JOBS: i64 = 16;

/// How much was done for a session: jobs claimed, and files that have arrived.
async fn done(world: &World, id: &str) -> (i64, i64) {
    let claims = format!("SELECT sum(epoch) FROM jobs WHERE session_id = '{id}'");
    let arrived = format!("SELECT files_uploaded FROM sync_sessions WHERE id = '{id}'");
    (world.count(&claims).await, world.count(&arrived).await)
}

/// Starts a session of a company whose store answers late, and waits until so many of its requests are on their way,
/// the worker is full of its jobs, and more of them wait.
async fn fill(world: &World, large: &Place, requests: i64) -> String {
    large.s3.set_latency(SLOW);
    let id = large.start(json!({})).await;
    let of_jobs = async |what: &str, state: &str| {
        let jobs = format!("FROM jobs WHERE session_id = '{id}' AND kind = 'upload' AND state = '{state}'");
        world.count(&format!("SELECT {what} {jobs}")).await
    };
    eventually("the worker to be full", PATIENCE, async || {
        let sent = i64::try_from(large.s3.requests()).unwrap();
        let files = of_jobs("coalesce(sum(last_number - first_number + 1), 0)", "running").await;
        let is_full = files - sent >= MAX_BACKLOG || of_jobs("count(*)", "running").await >= MAX_JOBS;
        (is_full && sent >= requests && of_jobs("count(*)", "ready").await > 0).then_some(())
    })
    .await;
    id
}

/// Three deliveries of a small company while the session `id` of a large one fills the worker. From the first request
/// to the last end no job of the large one is begun, and no file of it arrives that was not on its way.
async fn deliver_beside(world: &World, small: &Arc<Api>, id: &str) {
    let before = done(world, id).await;
    for _ in 0..3 {
        let mut place = world.place_of(small, "small").await;
        place.source.write_many(10);
        let session = place.upload(json!({}), "completed").await;
        place.assert_delivered(&session).await;
    }
    let after = done(world, id).await;
    assert_eq!(after.0, before.0, "jobs that went before the other company's");
    let arrived = after.1 - before.1;
    assert!(
        arrived <= IN_FLIGHT,
        "{arrived} files went before the other company's"
    );
}

#[tokio::test]
async fn ten_files_do_not_wait_for_another_companys_thousands() {
    let world = World::start(1, 5).await;
    let small = Arc::new(world.api.of_company(&world.stack, "SMALL").await);
    let mut large = world.place("large").await;
    large.source.write_many(5_000);
    let id = fill(&world, &large, IN_FLIGHT).await;
    deliver_beside(&world, &small, &id).await;
    large.s3.set_latency(Duration::ZERO);
    let session = large.api.ended_as(&id, "completed").await;
    large.assert_delivered(&session).await;
    world.stack.stop().await;
}

/// Files that take all the memory, then files that are a job each and take every place for a job.
#[tokio::test]
async fn ten_files_do_not_wait_for_another_companys_large_ones() {
    let world = World::start(1, 5).await;
    let small = Arc::new(world.api.of_company(&world.stack, "SMALL").await);
    for (name, count, size_bytes, requests) in [
        ("memory", 600, 4 * MIB, IN_FLIGHT),
        ("jobs", 24, 1024 * MIB, MAX_JOBS),
    ] {
        let large = world.place(name).await;
        for number in 0..count {
            let path = format!("{number}.bin");
            let file = large.source.write_unexpected(path.as_bytes(), "");
            // Without a byte on the disk.
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_len(size_bytes).unwrap();
        }
        let id = fill(&world, &large, requests).await;
        deliver_beside(&world, &small, &id).await;
        large
            .api
            .post(&format!("/api/sessions/{id}/cancel"), json!({}))
            .await;
        large.s3.set_latency(Duration::ZERO);
        large.api.ended_as(&id, "cancelled").await;
    }
    world.stack.stop().await;
}
