//! A store that takes only so many requests at a time: how many are refused, how many are in flight, and who else is
//! held up. Everything is counted, nothing is timed.

use crate::proxy::{Kind, refused};
use crate::world::{Recorder, World, planned};
use dev_stack::s3::Trouble;
use domain::SessionErrorCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use transfer::{Engine, PlannedFile};

const CONCURRENCY: usize = 32;
/// What one company has of them: the rest is others'.
const ALONE: usize = CONCURRENCY - CONCURRENCY / 16;
/// What the store takes at a time.
const ROOM: u32 = 6;

async fn world_of(count: i64) -> (World, Vec<PlannedFile>) {
    let mut world = World::new().await;
    world.engine = Engine::new(CONCURRENCY, 64 << 20);
    world.settings.max_attempts = 20;
    let files = (0..count).map(|number| {
        let name = format!("f{number}");
        world.write(&name, 100);
        planned(number, &name, 100)
    });
    let files = files.collect();
    (world, files)
}

#[tokio::test]
async fn the_concurrency_settles_at_what_the_store_takes_and_rises_again() {
    const FILES: i64 = 600;
    let (mut world, files) = world_of(FILES).await;
    world.direct(|_| {});
    world.server.set_latency(Duration::from_millis(5));
    world.server.set_trouble(Trouble {
        in_flight_limit: Some(ROOM),
        ..Trouble::default()
    });
    let mut refused = Vec::new();
    for third in files.chunks(files.len() / 3) {
        let before = world.server.refused();
        let (summary, recorder) = world.upload(third.to_vec()).await;
        assert_eq!(summary.fatal, None);
        recorder.assert_uploaded(third.len());
        refused.push(world.server.refused() - before);
        // On a machine without the time for as many as may be in flight, a few more may be.
        let pace = world.bucket.pace().expect("it asked for less");
        assert!((1..CONCURRENCY / 2).contains(&pace), "{pace} of {ROOM}");
    }
    println!("of 200 files each, refused: {refused:?}");
    // Between half of the room and its end lie more than three rounds of good answers.
    assert!(refused[1] + refused[2] < 400 / 6, "{refused:?}");

    world.server.set_trouble(Trouble::default());
    let (_, recorder) = world.upload(files).await;
    recorder.assert_uploaded(600);
    let pace = world.bucket.pace().unwrap();
    assert!(
        pace >= CONCURRENCY,
        "600 good answers, and no more than {pace} at a time"
    );
}

#[tokio::test]
async fn a_store_that_is_busy_holds_up_nobody_who_sends_to_another() {
    let (world, files) = world_of(CONCURRENCY as i64).await;
    let world = Arc::new(world);
    let refusals = AtomicUsize::new(ALONE);
    world.proxy.refuse(move |kind, _| {
        let less = |left: usize| left.checked_sub(1);
        let is_refused = kind == Kind::Put
            && refusals
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok();
        is_refused.then(|| refused(503, "SlowDown"))
    });
    // All are in flight together, and all are refused.
    world.proxy.hold(Kind::Put);
    let first = tokio::spawn({
        let (world, files) = (Arc::clone(&world), files.clone());
        async move { world.upload(files).await.1 }
    });
    world.proxy.arrived(Kind::Put, ALONE).await;
    world.proxy.release();
    first.await.unwrap().assert_uploaded(CONCURRENCY);
    let pace = world.bucket.pace().unwrap();
    assert!(pace < CONCURRENCY * 3 / 4, "{pace}");

    // It stands still: the places that it does not get are others'.
    let before = world.proxy.count(Kind::Put).arrived;
    world.proxy.hold(Kind::Put);
    let second = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.upload(files).await.1 }
    });
    world.proxy.arrived(Kind::Put, before + pace).await;
    let (other, others) = world_of(50).await;
    let recorder = Arc::new(Recorder::default());
    let (plan, stop) = (Arc::new(other.plan()), other.stop.subscribe());
    let summary = world
        .engine
        .upload(plan, others, Arc::clone(&recorder), stop)
        .await;
    assert_eq!(summary.fatal, None);
    recorder.assert_uploaded(50);
    assert_eq!(other.bucket.pace(), None);
    assert_eq!(world.proxy.count(Kind::Put).in_flight, pace);
    assert_eq!(world.engine.free_slots(), CONCURRENCY - pace);
    world.proxy.release();
    second.await.unwrap().assert_uploaded(CONCURRENCY);
}

#[tokio::test]
async fn all_calls_share_the_budget_of_retries() {
    let (mut world, files) = world_of(CONCURRENCY as i64).await;
    world.direct(|config| config.retry.budget = 10);
    world.settings.max_attempts = 20;
    world.server.set_trouble(Trouble {
        failed_per_mille: 1000,
        ..Trouble::default()
    });
    let (one, other) = files.split_at(files.len() / 2);
    let upload = async |files: &[PlannedFile]| {
        let recorder = Arc::new(Recorder::default());
        (
            world.upload_to(files.to_vec(), Arc::clone(&recorder)).await,
            recorder,
        )
    };
    let (one, other) = tokio::join!(upload(one), upload(other));
    for (summary, recorder) in [one, other] {
        let fatal = summary.fatal.unwrap();
        assert_eq!(fatal.code, SessionErrorCode::StorageUnreachable);
        assert!(recorder.outcomes.lock().unwrap().is_empty());
    }
    // Each file once, ten times again, and a look at each that may have arrived: 20 attempts would have been 640.
    let requests = world.server.requests();
    assert!(requests <= 10 + 2 * files.len() as u64, "{requests}");
}
