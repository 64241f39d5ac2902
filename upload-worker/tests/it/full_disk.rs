//! The disk of Postgres is full.

use crate::fixture::{Place, World, eventually, set_mode};
use crate::outages::{assert_unharmed, running};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const LEASE_S: u32 = 2;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_disk_of_postgres_may_be_full() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let Some(launcher) = dev_stack::faulty_disk::launcher(folder.path()).unwrap() else {
        return;
    };
    let mut world = World::start_with(1, LEASE_S, |options| options.postgres_disk = Some(launcher)).await;
    tables_cannot_grow(&mut world).await;
    the_journal_cannot_grow(&mut world).await;
    world.stack.stop().await;
}

/// Statements fail; who waits says why, keeps what it has done, and goes on when there is room.
async fn tables_cannot_grow(world: &mut World) {
    let other = world.place("full-too").await;
    let (place, id) = running(world, "full").await;
    world.stack.postgres().set_disk_full(true).unwrap();
    eventually("that a worker says so", LIMIT, async || {
        let says = "waiting for the database: the disk of the database is full";
        world.logs().contains(says).then_some(())
    })
    .await;
    // There is room for a few rows in the pages that are there.
    let problem = eventually("that a request is refused", LIMIT, async || refused(&other).await).await;
    assert_eq!(problem["code"], "database_unavailable");
    assert!(
        problem["detail"].as_str().unwrap().contains("disk is full"),
        "{problem}"
    );
    world.stack.postgres().set_disk_full(false).unwrap();
    assert_unharmed(world, &place, &id).await;
}

/// Asks for a session and cancels it; gives what is said where either is refused.
async fn refused(place: &Place) -> Option<Value> {
    let mut path = "/api/sessions".to_owned();
    let mut body = Some(place.request(&json!({})));
    for accepted in [StatusCode::CREATED, StatusCode::ACCEPTED] {
        let (status, answer) = place.api.call(Method::POST, &path, body.take()).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Some(answer);
        }
        // The one before has not ended yet.
        if status == StatusCode::CONFLICT {
            return None;
        }
        assert_eq!(status, accepted, "{answer}");
        path = format!("/api/sessions/{}/cancel", answer["id"].as_str().unwrap());
    }
    None
}

/// The server gives up; somebody makes room and starts it again.
async fn the_journal_cannot_grow(world: &mut World) {
    let (place, id) = running(world, "no-journal").await;
    world.stack.postgres().set_disk_full(true).unwrap();
    // The next segment is needed at once.
    let _ = world
        .stack
        .run_sql("SELECT pg_switch_wal(); CREATE TABLE filler AS SELECT generate_series(1, 1000) AS n")
        .await;
    eventually("the end of the server", LIMIT, async || {
        let _ = world.stack.run_sql("SELECT pg_switch_wal()").await;
        world.stack.postgres().server().ended().map(drop)
    })
    .await;
    let (status, _) = place
        .api
        .call(Method::GET, &format!("/api/sessions/{id}"), None)
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    world.stack.postgres().set_disk_full(false).unwrap();
    world.stack.postgres().start_again().await.unwrap();
    assert_unharmed(world, &place, &id).await;
}
