//! A receipt in the bucket that does not hold any more: none stays, whoever dies, freezes or wakes on the way.

use super::{place, settings};
use crate::crashes::{assert_settled, troubles};
use crate::fixture::{PREFIX, Place, World, assert_killed_at, eventually, until_held};
use dev_stack::s3::Trouble;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// The file whose object vanishes.
const LOST: &str = "000/00003.txt";
const NOTICED: &str = "the job is no longer this worker's";

/// Lets an object vanish, of which the next holder of the finish job doubts whether it is as it was recorded.
async fn lose_an_object(world: &World, place: &mut Place, id: &str) {
    let key = format!("{PREFIX}{LOST}");
    place.raw_bucket().delete(&key).await.unwrap();
    world
        .sql(&format!(
            "UPDATE jobs SET epoch = epoch + 1 WHERE session_id = '{id}' AND kind = 'upload'"
        ))
        .await;
    place.source.expected.remove(LOST);
}

/// A worker died with the receipt written; then a file that it calls delivered was lost.
async fn with_a_receipt_that_is_untrue(world: &mut World, name: &str) -> (Place, String) {
    let mut place = place(world, name).await;
    let id = place.start(settings()).await;
    let worker = world.armed_worker("finish.after_receipt=kill", None);
    assert_killed_at("finish.after_receipt", worker).await;
    assert_eq!(receipts(&place).await, 1);
    lose_an_object(world, &mut place, &id).await;
    (place, id)
}

async fn receipts(place: &Place) -> usize {
    place.testimony(&place.objects_below(PREFIX)).await.receipts.len()
}

/// What is recorded is there, and no receipt.
async fn assert_none(world: &World, place: &Place, session: &Value) {
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    testimony.assert_good();
    assert!(testimony.receipts.is_empty(), "{:?}", testimony.receipts);
    place.assert_agrees(session, &testimony).await;
    assert_settled(world, session).await;
}

#[tokio::test]
async fn a_session_that_is_cancelled_after_its_receipt_turned_out_untrue_leaves_none() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id) = with_a_receipt_that_is_untrue(&mut world, "untrue-cancelled").await;
    place
        .api
        .post(&format!("/api/sessions/{id}/cancel"), json!({}))
        .await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "cancelled").await;
    assert_eq!(session["error_code"], json!(null), "{session:#}");
    assert_none(&world, &place, &session).await;
    world.stack.stop().await;
}

#[tokio::test]
async fn a_receipt_that_cannot_be_replaced_by_a_true_one_is_withdrawn() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id) = with_a_receipt_that_is_untrue(&mut world, "untrue-unsigned").await;
    world
        .sql("UPDATE receipt_keys SET private_key_sealed = 'sealed elsewhere'")
        .await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed_with_errors").await;
    assert_eq!(session["error_code"], "receipt_missing", "{session:#}");
    let detail = session["error_detail"].as_str().unwrap();
    assert!(!detail.contains("still"), "{detail}");
    // There is none from the API either: it could not be signed.
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    testimony.assert_good();
    assert!(testimony.receipts.is_empty(), "{:?}", testimony.receipts);
    world.stack.stop().await;
}

/// A key that may not delete writes a note over it.
#[tokio::test]
async fn a_receipt_that_may_not_be_deleted_is_written_over() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id) = with_a_receipt_that_is_untrue(&mut world, "untrue-undeletable").await;
    place.s3.set_trouble(Trouble {
        undeletable_per_mille: 1_000,
        ..Trouble::default()
    });
    place
        .api
        .post(&format!("/api/sessions/{id}/cancel"), json!({}))
        .await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "cancelled").await;
    assert_eq!(session["error_code"], json!(null), "{session:#}");
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    let (_, note) = testimony.receipts.first_key_value().unwrap();
    let refused = receipts::read(note.as_bytes(), |_| true).unwrap_err();
    assert!(refused.to_string().contains("withdrawn"), "{refused}");
    world.stack.stop().await;
}

#[tokio::test]
async fn a_retry_that_is_cancelled_leaves_no_receipt_of_the_run_before() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id) = with_a_receipt_that_is_untrue(&mut world, "untrue-retried").await;
    let mut worker = world.armed_worker("", None);
    let session = place.api.ended_as(&id, "completed_with_errors").await;
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    place.assert_agrees(&session, &testimony).await;
    assert_eq!(testimony.receipts.len(), 1);
    worker.stop().await;
    for request in ["retry", "cancel"] {
        place
            .api
            .post(&format!("/api/sessions/{id}/{request}"), json!({}))
            .await;
    }
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "cancelled").await;
    assert_none(&world, &place, &session).await;
    world.stack.stop().await;
}

/// It asked whether it still has the job, and froze. What it completes when it wakes would be the older receipt.
#[tokio::test]
async fn a_worker_frozen_before_it_completes_its_receipt_completes_nothing() {
    let mut world = World::start(0, super::LEASE_S).await;
    let mut place = place(&world, "frozen-at-receipt").await;
    let id = place.start(settings()).await;
    let mut frozen = world.armed_worker("receipt.before_complete=1*stop", None);
    until_held("receipt.before_complete", "stop", &frozen).await;
    lose_an_object(&world, &mut place, &id).await;
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed_with_errors").await;
    place.assert_delivered(&session).await;
    wake_until_it_notices(&world, &mut frozen).await;
    assert_eq!(place.api.session(&id).await, session);
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}

/// It saw what an earlier worker had left open, and froze. What it closes when it wakes is that, and not what the next
/// worker has opened meanwhile; and what it opens then it closes.
#[tokio::test]
async fn a_worker_frozen_before_it_closes_an_earlier_receipt_closes_no_later_one() {
    let mut world = World::start(0, super::LEASE_S).await;
    let place = place(&world, "frozen-at-abort").await;
    let id = place.start(settings()).await;
    let killed = world.armed_worker("receipt.before_complete=kill", None);
    assert_killed_at("receipt.before_complete", killed).await;
    let mut frozen = world.armed_worker("receipt.before_abort=1*stop", None);
    until_held("receipt.before_abort", "stop", &frozen).await;
    let gate = world.gate("later");
    let later = world.armed_worker(&format!("receipt.before_complete={}", gate.hold()), None);
    until_held("receipt.before_complete", "hold", &later).await;
    wake_until_it_notices(&world, &mut frozen).await;
    gate.open();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(troubles(&world, &session).await.1, 0, "it was begun anew");
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}

/// No row names the upload of a receipt, so that it looks like a leftover to whoever closes all of them.
#[tokio::test]
async fn a_receipt_whose_upload_is_closed_is_begun_anew() {
    let mut world = World::start(0, super::LEASE_S).await;
    let place = place(&world, "closed-receipt").await;
    let id = place.start(settings()).await;
    let gate = world.gate("closed");
    let worker = world.armed_worker(&format!("receipt.before_complete=1*{}", gate.hold()), None);
    until_held("receipt.before_complete", "hold", &worker).await;
    let path = format!("/api/projects/{}/leftovers/abort", place.project_id);
    let closed = place.api.post(&path, json!({ "all": true })).await;
    assert_eq!(closed["aborted"], 1, "{closed:#}");
    gate.open();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(troubles(&world, &session).await.1, 1, "it was not begun anew");
    world.stack.stop().await;
}

async fn wake_until_it_notices(world: &World, frozen: &mut dev_stack::process::Server) {
    frozen.signal(Signal::CONT).unwrap();
    eventually("that it noticed", Duration::from_secs(60), async || {
        world.logs().contains(NOTICED).then_some(())
    })
    .await;
    assert_eq!(frozen.stop().await.code(), Some(0), "{}", frozen.log_tail());
}
