//! Postgres commits, and the answer is lost: on the wire, between real processes. Nobody can know then whether what
//! was written is written; it is written again, and counts once.

use crate::crashes::troubles;
use crate::fixture::{MIB, Place, World, pseudo_random};
use dev_stack::{Losing, PostgresProxy};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const LEASE_S: u32 = 2;
const PART: u64 = 5 * MIB;

#[tokio::test]
async fn answers_to_commit_may_be_lost() {
    let world = World::start_with(2, LEASE_S, |options| options.postgres_proxy = true).await;
    the_first_of_each_kind(&world).await;
    one_in_five(&world).await;
    world.stack.stop().await;
}

fn proxy(world: &World) -> &PostgresProxy {
    world.stack.postgres_proxy().unwrap()
}

/// Every transaction that a session needs, from the request for it to its end, loses its answer once.
async fn the_first_of_each_kind(world: &World) {
    let mut place = world.place("each-kind").await;
    place.source.write_many(600);
    place.source.write("in parts", pseudo_random(11 * MIB, 1));
    place.s3.set_latency(Duration::from_millis(20));
    proxy(world).set_losing(Losing::FirstOfEachKind);
    let id = ask_until_answered(&place).await;
    let session = place.api.ended_as(&id, "completed").await;
    let lost = proxy(world).lost_kinds();
    proxy(world).set_losing(Losing::Nothing);
    for (what, statement) in [
        ("the session", "INSERT INTO sync_sessions"),
        ("a claim", "epoch = epoch + 1"),
        ("a batch", "INSERT INTO file_uploads"),
        ("outcomes", "UPDATE file_uploads"),
        ("a multipart upload", "upload_id = $3"),
        ("the end of a scan or another job", "WITH ended AS"),
        ("the beginning of a receipt", "INSERT INTO receipts "),
        (
            "the end of the session",
            "SET finished_at = now(), stop_flag = 'run'",
        ),
    ] {
        assert!(
            lost.iter().any(|sql| sql.contains(statement)),
            "no lost answer: {what} in {lost:#?}"
        );
    }
    assert_unharmed(world, &place, &session).await;
}

/// The same answer is asked for with the same key until there is one.
async fn ask_until_answered(place: &Place) -> String {
    let mut refusals = 0;
    loop {
        let request = place
            .api
            .request(Method::POST, "/api/sessions")
            .header("Idempotency-Key", place.source_path())
            .json(&place.request(&json!({ "part_size_bytes": PART })));
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        if status.is_success() {
            assert!(refusals > 0, "no answer was lost");
            return body["id"].as_str().unwrap().to_owned();
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert_eq!(body["code"], "database_unavailable");
        refusals += 1;
        assert!(refusals < 10, "{body}");
    }
}

async fn one_in_five(world: &World) {
    let mut place = world.place("one-in-five").await;
    place.source.write_many(3_000);
    for index in 0..3 {
        place
            .source
            .write(&format!("parts/{index}"), pseudo_random(11 * MIB, index));
    }
    place.s3.set_latency(Duration::from_millis(20));
    let id = place.start(json!({ "part_size_bytes": PART })).await;
    let before = proxy(world).lost();
    proxy(world).set_losing(Losing::PerMille(200));
    let session = place.api.ended_as(&id, "completed").await;
    proxy(world).set_losing(Losing::Nothing);
    let lost = proxy(world).lost() - before;
    assert!(lost >= 10, "{lost} answers were lost");
    assert_unharmed(world, &place, &session).await;
}

/// Everything has arrived and is recorded once, was sent once, and nobody counts as crashed.
async fn assert_unharmed(world: &World, place: &Place, session: &Value) {
    place.assert_delivered(session).await;
    let id = session["id"].as_str().unwrap();
    let said =
        format!("SELECT string_agg(kind || ': ' || last_error, ', ') FROM jobs WHERE session_id = '{id}'");
    assert_eq!(
        troubles(world, session).await,
        (0, 0, 0),
        "crashes, errors, open jobs: {}",
        world.sql(&said).await
    );
    let open = format!("SELECT open_jobs FROM sync_sessions WHERE id = '{id}'");
    assert_eq!(world.count(&open).await, 0);
    let sessions = format!(
        "SELECT count(*) FROM sync_sessions WHERE source_path = '{}'",
        place.source_path()
    );
    assert_eq!(world.count(&sessions).await, 1, "it was made twice");
    let path = format!("/api/sessions/{id}/receipt");
    let receipt = place.api.request(Method::GET, &path).send().await.unwrap();
    let receipt_bytes = receipt.error_for_status().unwrap().bytes().await.unwrap().len() as u64;
    let bytes = session["bytes"]["total"].as_u64().unwrap();
    // A receipt may be written again.
    let beside = place.s3.received_bytes() - bytes;
    assert!(
        beside > 0 && beside.is_multiple_of(receipt_bytes),
        "bytes were sent twice: {beside}"
    );
}
