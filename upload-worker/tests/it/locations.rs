//! Workers that serve different source roots: each session is done by one that can reach its root, and waits for one
//! where there is none.

use crate::fixture::{Api, Place, ROOT, World, eventually};
use dev_stack::StackOptions;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A stack without workers, where `roots` lead to the folder that sources are in.
async fn world(roots: &[&str]) -> World {
    World::start_with(0, 2, |options: &mut StackOptions| {
        let files = options.dir.with_file_name(ROOT);
        let roots = roots.iter().map(|root| format!("{root}={}", files.display()));
        options.source_roots = Some(roots.collect::<Vec<_>>().join(","));
    })
    .await
}

/// Starts a worker that serves this root alone; gives what its id begins with.
fn start_worker(world: &mut World, root: &str) -> String {
    let files = world.folder().join(ROOT);
    let roots = format!("{root}={}", files.display());
    world.stack.start_worker_with(&[("SOURCE_ROOTS", roots)]).unwrap();
    format!("{}-", world.stack.worker_pids().last().unwrap())
}

/// Starts a session of the place's source, as the root of that name sees it.
async fn start(place: &Place, root: &str) -> String {
    let mut request = place.request(&json!({}));
    request["source"]["root"] = json!(root);
    let session = place.api.post("/api/sessions", request).await;
    assert_eq!(session["source"]["root"], root);
    session["id"].as_str().unwrap().to_owned()
}

/// Waits until `/api/queue` says this of a root, in these fields.
async fn until(api: &Api, root: &str, fields: &[&str], expected: Value) {
    let what = format!("{fields:?} of {root} to be {expected}");
    eventually(&what, PATIENCE, async || {
        let queue = api.get("/api/queue").await;
        let mut roots = queue["roots"].as_array().unwrap().iter();
        let found = roots.find(|entry| entry["root"] == root).unwrap();
        let seen: Value = fields.iter().map(|field| found[*field].clone()).collect();
        (seen == expected).then_some(())
    })
    .await;
}

/// The workers that had jobs of a session which only those can do that reach its root.
async fn workers_of(world: &World, id: &str) -> Vec<String> {
    let ids = world
        .sql(&format!(
            "SELECT DISTINCT worker_id FROM jobs WHERE session_id = '{id}' AND kind <> 'finish'"
        ))
        .await;
    ids.lines().map(str::to_owned).collect()
}

/// It ended well, by that worker alone.
async fn assert_done_by(world: &World, place: &Place, id: &str, worker: &str) {
    let session = place.api.ended_as(id, "completed").await;
    place.assert_delivered(&session).await;
    let workers = workers_of(world, id).await;
    assert!(
        workers.len() == 1 && workers[0].starts_with(worker),
        "{workers:?}, not {worker}"
    );
}

#[tokio::test]
async fn each_session_is_done_where_its_root_is_and_waits_for_a_worker_that_has_it() {
    let mut world = world(&["left", "right", "lost"]).await;
    let mut places = Vec::new();
    for name in ["left", "right", "lost"] {
        let mut place = world.place(name).await;
        place.source.write_many(120);
        places.push(place);
    }
    let mut ids = Vec::new();
    for (place, root) in places.iter().zip(["left", "right", "lost"]) {
        ids.push(start(place, root).await);
    }
    let served = ["state", "waiting_jobs", "workers_alive"];
    for root in ["left", "right", "lost"] {
        until(&world.api, root, &served, json!(["no_worker", 1, 0])).await;
    }
    let left = start_worker(&mut world, "left");
    let right = start_worker(&mut world, "right");
    assert_done_by(&world, &places[0], &ids[0], &left).await;
    assert_done_by(&world, &places[1], &ids[1], &right).await;

    // Nobody touched the third, and it is said why.
    let place = ["state", "waiting_jobs", "place_in_line", "companies_in_line"];
    until(&world.api, "lost", &place, json!(["no_worker", 1, 1, 1])).await;
    let session = world.api.session(&ids[2]).await;
    assert_eq!(
        (&session["status"], &session["phase"]),
        (&json!("pending"), &json!("queued"))
    );
    assert!(workers_of(&world, &ids[2]).await.iter().all(String::is_empty));
    let lost = start_worker(&mut world, "lost");
    assert_done_by(&world, &places[2], &ids[2], &lost).await;
    until(&world.api, "lost", &served, json!(["idle", 0, 1])).await;

    // A worker that is told to stop serves its root no longer.
    world.stack.stop_worker(2).await.unwrap();
    until(&world.api, "lost", &served, json!(["idle", 0, 0])).await;
    world.stack.stop().await;
}

/// Two companies call a root of their own the same. A worker that has one company's takes nothing of the other's,
/// which it could not open.
#[tokio::test]
async fn a_root_of_one_company_is_no_place_for_another_companys_jobs() {
    let mut world = world(&["data@DEFAULT", "data@OTHER"]).await;
    let other: Arc<Api> = Arc::new(world.api.of_company(&world.stack, "OTHER").await);
    let (mut ours, mut theirs) = (world.place("ours").await, world.place_of(&other, "theirs").await);
    ours.source.write("a.txt", "ours");
    theirs.source.write("a.txt", "theirs");
    let our_worker = start_worker(&mut world, "data@DEFAULT");
    let their_id = start(&theirs, "data").await;
    let place = ["state", "place_in_line", "companies_in_line"];
    until(&other, "data", &place, json!(["no_worker", 1, 1])).await;
    // Pushed before ours, it would have been taken by now.
    let our_id = start(&ours, "data").await;
    assert_done_by(&world, &ours, &our_id, &our_worker).await;
    assert_eq!(other.session(&their_id).await["status"], "pending");

    let their_worker = start_worker(&mut world, "data@OTHER");
    assert_done_by(&world, &theirs, &their_id, &their_worker).await;
    world.stack.stop().await;
}
