//! A cancellation that meets a session at each of its steps.

use super::{ON_THE_WAY, place, world_with_roots};
use crate::crashes::assert_settled;
use crate::fixture::{Place, World, until_held};
use serde_json::json;

/// Long enough for whoever is held: some are held while they renew their lease.
const HELD_LEASE_S: u32 = 300;

/// What the worker does that was at the point when the session was cancelled.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    GoesOn,
    IsKilled,
}

/// Each point has a session, and a worker of its own that waits there until the session is cancelled.
async fn cancelled_at_every_step(then: Then) {
    let mut world = world_with_roots(HELD_LEASE_S).await;
    let mut held = Vec::new();
    // Before a commit, the cancellation waits for it: that is the next point. After the last end, any worker may
    // finish the session, and it is too late.
    let points = ON_THE_WAY
        .iter()
        .filter(|passed| !passed.point.ends_with("before_commit") && !passed.point.starts_with("end."));
    for passed in points {
        let place = place(&world, passed.point).await;
        let gate = world.gate(&passed.root());
        let worker = world.armed_worker(&passed.schedule(&gate.hold()), Some(&passed.root()));
        let id = place.start_at(&passed.root()).await;
        held.push((passed, place, id, gate, worker));
    }
    let mut ending = Vec::new();
    for (passed, place, id, gate, mut worker) in held {
        until_held(passed.point, "hold", &worker).await;
        place
            .api
            .post(&format!("/api/sessions/{id}/cancel"), json!({}))
            .await;
        if then == Then::IsKilled {
            worker.kill().await.unwrap();
        }
        gate.open();
        ending.push((passed, place, id, worker));
    }
    if then == Then::IsKilled {
        // As if their leases were over.
        world
            .sql("UPDATE jobs SET lease_until = now() WHERE state = 'running'")
            .await;
        let lease_s = super::LEASE_S.to_string();
        world.stack.start_worker_with(&[("LEASE_S", lease_s)]).unwrap();
    }
    let mut sessions = Vec::new();
    for (_, place, id, _) in &ending {
        sessions.push(place.api.ended_as(id, "cancelled").await);
    }
    let places: Vec<&Place> = ending.iter().map(|(_, place, ..)| place).collect();
    let testimonies = Place::testimonies(&places).await;
    for ((passed, place, _, worker), (session, testimony)) in
        ending.iter().zip(sessions.iter().zip(testimonies))
    {
        place.assert_whole(session, &testimony).await;
        if then == Then::GoesOn {
            // Nobody vanished between sending and recording.
            place.assert_agrees(session, &testimony).await;
            let reached = worker.reached().unwrap();
            assert_eq!(reached, (passed.point.to_owned(), "go on".to_owned()));
        }
        assert_settled(&world, session).await;
    }
    for (_, _, _, mut worker) in ending {
        let code = worker.stop().await.code();
        assert!(
            then == Then::IsKilled || code == Some(0),
            "{}: {code:?}",
            worker.name()
        );
    }
    world.stack.stop().await;
}

#[tokio::test]
async fn a_session_cancelled_at_any_step_leaves_nothing_open() {
    cancelled_at_every_step(Then::GoesOn).await;
}

#[tokio::test]
async fn a_session_cancelled_at_any_step_whose_worker_is_killed_leaves_nothing_open() {
    cancelled_at_every_step(Then::IsKilled).await;
}

/// Nothing else can end a session: a finish job that is given back goes on elsewhere, whatever the session was told.
#[tokio::test]
async fn a_worker_that_stops_while_it_ends_a_cancelled_session_hands_it_on() {
    let mut world = World::start_with(0, super::LEASE_S, |options| options.shutdown_grace_s = 1).await;
    let place = place(&world, "stopped-at-the-end").await;
    let gate = world.gate("the end");
    let mut worker = world.armed_worker(&format!("finish.before_look={}", gate.hold()), None);
    let id = place.start(json!({})).await;
    until_held("finish.before_look", "hold", &worker).await;
    place
        .api
        .post(&format!("/api/sessions/{id}/cancel"), json!({}))
        .await;
    assert_eq!(worker.stop().await.code(), Some(0), "{}", worker.log_tail());
    gate.open();
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "cancelled").await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}
