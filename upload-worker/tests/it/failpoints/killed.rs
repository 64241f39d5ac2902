//! Workers that die at each point, once.

use super::{ON_THE_WAY, place, settings, until_count, world_with_roots};
use crate::crashes::{assert_settled, troubles};
use crate::fixture::{PREFIX, Place, World, assert_killed_at};
use serde_json::json;

/// Each point has a session, and a worker of its own that dies there; then others go on with all of them.
#[tokio::test]
async fn a_worker_killed_at_any_point_of_a_delivery_costs_nothing_but_time() {
    let mut world = world_with_roots(super::LEASE_S).await;
    let mut deliveries = Vec::new();
    for passed in &ON_THE_WAY {
        let place = place(&world, passed.point).await;
        let id = place.start_at(&passed.root()).await;
        let worker = world.armed_worker(&passed.schedule("kill"), Some(&passed.root()));
        deliveries.push((passed, place, id, worker));
    }
    let mut waiting = Vec::new();
    for (passed, place, id, worker) in deliveries {
        assert_killed_at(passed.point, worker).await;
        waiting.push((passed, place, id));
    }
    world.stack.start_worker().unwrap();
    world.stack.start_worker().unwrap();
    let mut delivered = Vec::new();
    for (passed, place, id) in &waiting {
        delivered.push((passed, place, place.api.ended_as(id, "completed").await));
    }
    let places: Vec<&Place> = waiting.iter().map(|(_, place, _)| place).collect();
    for ((passed, place, session), testimony) in delivered.into_iter().zip(Place::testimonies(&places).await)
    {
        testimony.assert_good();
        place.assert_agrees(&session, &testimony).await;
        assert_settled(&world, &session).await;
        let (crashes, errors, open) = troubles(&world, &session).await;
        assert_eq!((errors, open), (0, 0), "{}", passed.point);
        assert_eq!(crashes > 0, passed.has_job, "{}: {crashes} crashes", passed.point);
    }
    assert_eq!(world.stack.casualty(), None);
    world.stack.stop().await;
}

/// One session, in which a worker dies at each point of its end, and its sweeper before that.
#[tokio::test]
async fn workers_killed_while_a_session_ends_end_it_once() {
    let mut world = World::start(0, super::LEASE_S).await;
    let place = place(&world, "ending").await;
    let id = place.start(settings()).await;
    for point in [
        "put.before_record",
        "sweep.expired",
        "finish.before_look",
        "finish.before_receipt",
        "finish.after_receipt",
        "finish.before_commit",
        "finish.after_commit",
    ] {
        assert_eq!(
            place.api.session(&id).await["finished_at"],
            json!(null),
            "{point}"
        );
        let worker = world.armed_worker(&format!("{point}=kill"), None);
        assert_killed_at(point, worker).await;
    }
    // Whoever committed the end told nobody; it is the end all the same.
    let session = place.api.session(&id).await;
    assert_eq!(session["status"], "completed", "{session:#}");
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    let finishes = format!("SELECT count(*) FROM jobs WHERE session_id = '{id}' AND kind = 'finish'");
    assert_eq!(world.count(&finishes).await, 1);
    world.stack.stop().await;
}

/// Aborting what was left open is begun again where it was cut off.
#[tokio::test]
async fn a_worker_killed_between_aborts_leaves_no_upload_open() {
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = place(&world, "aborting").await;
    place.source.write("in parts, too", vec![7; 6 << 20]);
    let id = place.start(settings()).await;
    // Both files are sent at once, and both uploads are recorded when the second part arrives.
    let worker = world.armed_worker("part.arrived=1*off->kill", None);
    assert_killed_at("part.arrived", worker).await;
    let open = place
        .testimony(&std::collections::BTreeMap::new())
        .await
        .open_uploads;
    assert!(!open.is_empty(), "nothing is open that could be aborted");
    place
        .api
        .post(&format!("/api/sessions/{id}/cancel"), json!({}))
        .await;
    let worker = world.armed_worker("finish.aborted=kill", None);
    assert_killed_at("finish.aborted", worker).await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "cancelled").await;
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    place.assert_whole(&session, &testimony).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}

/// What a worker gives back it gives back once, or not at all.
#[tokio::test]
async fn workers_killed_while_they_give_jobs_back_lose_none() {
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = place(&world, "given-back").await;
    place.source.write_many(900);
    place.s3.set_latency(std::time::Duration::from_millis(20));
    let id = place.start(settings()).await;
    for point in ["release.before_commit", "release.after_commit"] {
        let worker = world.armed_worker(&format!("{point}=kill"), None);
        place
            .api
            .until(&id, "with a file sent", |session| {
                session["files"]["uploaded"].as_i64() > Some(0) && session["status"] == "in_progress"
            })
            .await;
        let has_job = format!(
            "SELECT least(1, count(*)) FROM jobs WHERE session_id = '{id}' AND state = 'running' AND kind = 'upload'
                 AND worker_id LIKE '{}-%'",
            worker.pid()
        );
        until_count(&world, "a job that can be given back", &has_job, 1).await;
        place
            .api
            .post(&format!("/api/sessions/{id}/pause"), json!({}))
            .await;
        assert_killed_at(point, worker).await;
        place
            .api
            .post(&format!("/api/sessions/{id}/resume"), json!({}))
            .await;
    }
    place.s3.set_latency(std::time::Duration::ZERO);
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}

/// A session that cannot go on ends with its cause, though nobody heard of its last job; a file that workers die
/// on is blamed alone.
#[tokio::test]
async fn workers_killed_while_they_fail_something_fail_it_once() {
    let mut world = World::start(0, super::LEASE_S).await;
    let place = place(&world, "failing").await;
    let aside = place.source.dir().with_extension("aside");
    std::fs::rename(place.source.dir(), &aside).unwrap();
    let id = place.start(settings()).await;
    let worker = world.armed_worker("fail.before_push=kill", None);
    assert_killed_at("fail.before_push", worker).await;
    std::fs::rename(&aside, place.source.dir()).unwrap();

    let mut worker = Some(world.armed_worker("put.before_request=kill", None));
    let session = place.api.ended_as(&id, "failed").await;
    assert_eq!(session["error_code"], "source_unreadable", "{session:#}");
    place
        .api
        .post(&format!("/api/sessions/{id}/retry"), json!({}))
        .await;
    // After two crashes the job is alone, and names each file before it sends it.
    for point in ["put.before_request", "put.before_request", "suspect.named"] {
        let worker = worker
            .take()
            .unwrap_or_else(|| world.armed_worker(&format!("{point}=kill"), None));
        assert_killed_at(point, worker).await;
    }
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed_with_errors").await;
    let files = place.assert_consistent(&session).await;
    let failed: Vec<_> = files.iter().filter(|file| file["status"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["error_code"], "worker_crashed");
    place
        .api
        .post(&format!("/api/sessions/{id}/retry"), json!({}))
        .await;
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}
