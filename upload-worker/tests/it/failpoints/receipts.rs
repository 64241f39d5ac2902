//! Receipts that the store does not take, and what comes while they are written.

use super::{place, settings, until_count};
use crate::crashes::assert_settled;
use crate::fixture::{PREFIX, Place, STORE_PATIENCE_S, World, until_held};
use dev_stack::process::Server;
use dev_stack::s3::Trouble;
use serde_json::{Value, json};

/// A worker that holds with everything delivered and the receipt begun.
async fn before_the_receipt(world: &mut World, name: &str) -> (Place, String, crate::fixture::Gate, Server) {
    let place = place(world, name).await;
    let gate = world.gate(name);
    let worker = world.armed_worker(&format!("finish.before_receipt={}", gate.hold()), None);
    let id = place.start(settings()).await;
    until_held("finish.before_receipt", "hold", &worker).await;
    (place, id, gate, worker)
}

/// All is there, but for the receipt; the API has that.
async fn assert_delivered_without_receipt(place: &Place, session: &Value) {
    assert_eq!(session["error_code"], "receipt_missing", "{session:#}");
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    testimony.assert_good();
    assert!(testimony.receipts.is_empty(), "{:?}", testimony.receipts.keys());
    place.assert_agrees(session, &testimony).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_and_gets_the_receipt() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id, gate, _worker) = before_the_receipt(&mut world, "receipt-waits").await;
    place.s3.set_trouble(Trouble {
        failed_per_mille: 1_000,
        ..Trouble::default()
    });
    gate.open();
    let session = place
        .api
        .until(&id, "waiting for its receipt", |session| {
            session["error_code"] == "storage_unreachable"
        })
        .await;
    assert_eq!(
        (&session["status"], &session["phase"]),
        (&json!("in_progress"), &json!("finishing"))
    );
    place.s3.set_trouble(Trouble::default());
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(session["error_code"], json!(null), "{session:#}");
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}

#[tokio::test]
async fn a_store_that_never_takes_the_receipt_fails_nothing() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id, gate, _worker) = before_the_receipt(&mut world, "receipt-missing").await;
    place.s3.set_trouble(Trouble {
        failed_per_mille: 1_000,
        ..Trouble::default()
    });
    gate.open();
    let session = place.api.ended_as(&id, "completed").await;
    let waited = format!(
        "SELECT extract(epoch FROM finished_at - begun_at)::bigint FROM receipts JOIN sync_sessions ON id = session_id
         WHERE session_id = '{id}'"
    );
    assert!(world.count(&waited).await >= i64::from(STORE_PATIENCE_S) - 1);
    place.s3.set_trouble(Trouble::default());
    assert_delivered_without_receipt(&place, &session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_opened_fails_nothing_and_is_not_replaced() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id, gate, _worker) = before_the_receipt(&mut world, "receipt-key").await;
    world
        .sql(
            "INSERT INTO receipt_keys (id, company_id, public_key, private_key_sealed)
             SELECT gen_random_uuid(), id, decode(repeat('07', 32), 'hex'), 'sealed elsewhere' FROM companies",
        )
        .await;
    gate.open();
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(session["error_code"], "receipt_missing", "{session:#}");
    let (status, text) = place.api.receipt(&id).await;
    assert_eq!(status, 409, "{text}");
    until_count(&world, "one key", "SELECT count(*) FROM receipt_keys", 1).await;
    world.stack.stop().await;
}

#[tokio::test]
async fn a_cancellation_that_comes_after_the_receipt_was_begun_comes_too_late() {
    let mut world = World::start(0, super::LEASE_S).await;
    let (place, id, gate, _worker) = before_the_receipt(&mut world, "receipt-cancelled").await;
    place
        .api
        .post(&format!("/api/sessions/{id}/cancel"), json!({}))
        .await;
    gate.open();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_settled(&world, &session).await;
    world.stack.stop().await;
}
