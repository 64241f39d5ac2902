//! Sessions that people let rest, and let go on.

use crate::crashes::troubles;
use crate::fixture::{MIB, Place, Testimony, World, eventually, pseudo_random, shared};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is in flight at a pause takes a few answers of the store, however slow it is here.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Parts that may be on their way at once.
const IN_FLIGHT: u64 = 4;
const PARTS: u64 = 40;

impl Place {
    async fn act(&self, id: &str, action: &str) -> (StatusCode, Value) {
        let path = format!("/api/sessions/{id}/{action}");
        self.api.call(Method::POST, &path, None).await
    }

    async fn acts(&self, id: &str, action: &str, status: &str) {
        let (answered, session) = self.act(id, action).await;
        assert_eq!(
            (answered, &session["status"]),
            (StatusCode::ACCEPTED, &json!(status)),
            "{action}: {session:#}"
        );
    }

    async fn is_refused(&self, id: &str, action: &str) {
        let (answered, problem) = self.act(id, action).await;
        assert_eq!(
            (answered, &problem["code"]),
            (StatusCode::CONFLICT, &json!("wrong_status")),
            "{action}: {problem:#}"
        );
    }

    /// Pauses, and waits until no worker has anything of it any more.
    async fn pause(&self, world: &World, id: &str) {
        self.acts(id, "pause", "paused").await;
        let running = format!("SELECT count(*) FROM jobs WHERE session_id = '{id}' AND state = 'running'");
        eventually("no running job", DRAIN_LIMIT, async || {
            (world.count(&running).await == 0).then_some(())
        })
        .await;
    }

    /// What is in the bucket, whatever there should be.
    async fn listing(&self) -> Testimony {
        self.testimony(&BTreeMap::new()).await
    }

    async fn until_multipart(&self, world: &World, id: &str) {
        let open =
            format!("SELECT count(*) FROM file_uploads WHERE session_id = '{id}' AND status = 'uploading'");
        eventually("a file in parts", Duration::from_secs(60), async || {
            (world.count(&open).await > 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_paused_session_rests_and_goes_on() {
    let world = shared().await;
    let mut place = world.place("paused").await;
    place.source.write_many(2_500);
    for index in 0..2 {
        let bytes = pseudo_random(20 * 5 * MIB, index);
        // After the first few hundred in the order of the walk.
        place.source.write(&format!("001 large/{index}"), bytes);
    }
    place.s3.set_latency(Duration::from_millis(150));
    let id = place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": IN_FLIGHT }))
        .await;
    place.api.in_the_middle(&id, 10).await;
    place.until_multipart(world, &id).await;
    place.pause(world, &id).await;
    place.is_refused(&id, "pause").await;
    place.s3.set_latency(Duration::ZERO);

    // What was in flight has arrived and is recorded; what was sent in parts is kept.
    let files = place.api.files(&id).await;
    let of = |status: &str| -> BTreeSet<String> {
        let files = files.iter().filter(|file| file["status"] == status);
        files
            .map(|file| file["s3_key"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = place.listing().await;
    let session = place.api.session(&id).await;
    assert_eq!(
        before.objects.keys().cloned().collect::<BTreeSet<_>>(),
        of("uploaded")
    );
    assert_eq!(session["files"]["uploaded"], before.objects.len());
    let open: BTreeSet<String> = before.open_uploads.iter().cloned().collect();
    assert!(!open.is_empty(), "no multipart upload was under way: too late");
    assert_eq!(open, of("uploading"));
    assert!(session["files"]["pending"].as_u64() > Some(0), "{session:#}");

    // The workers are free for others, and nothing of this one moves meanwhile.
    let asked = place.s3.requests();
    let mut other = world.place("meanwhile").await;
    other.source.write_many(1_200);
    let done = other.upload(json!({}), "completed").await;
    other.assert_delivered(&done).await;
    assert_eq!(
        place.s3.requests(),
        asked,
        "something was sent while it was paused"
    );
    let after = place.listing().await;
    assert_eq!(before.keys(), after.keys());
    assert_eq!(before.open_parts, after.open_parts);
    let still = place.api.session(&id).await;
    assert_eq!(
        (&still["status"], &still["files"], &still["bytes"]),
        (&json!("paused"), &session["files"], &session["bytes"])
    );

    place.acts(&id, "resume", "in_progress").await;
    place.is_refused(&id, "resume").await;
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(troubles(world, &session).await, (0, 0, 0));
    place.is_refused(&id, "pause").await;
}

#[tokio::test]
async fn parts_that_were_sent_before_a_pause_are_not_sent_again() {
    let world = shared().await;
    let (place, id, sent) = paused_in_a_large_file(world, "paused-parts").await;
    let asked = place.s3.requests();
    place.acts(&id, "resume", "in_progress").await;
    let session = place.api.ended_as(&id, "completed").await;
    // Beside the parts: their list, the completion, and the look of the job that finishes.
    let (asked, rest) = (place.s3.requests() - asked, PARTS - sent);
    assert!(
        (rest..=rest + 8).contains(&asked),
        "{asked} requests after the pause, where {rest} parts were missing"
    );
    place.assert_delivered(&session).await;
    assert_eq!(troubles(world, &session).await, (0, 0, 0));
}

#[tokio::test]
async fn a_session_that_is_cancelled_while_paused_leaves_nothing_open() {
    let world = shared().await;
    let (place, id, _) = paused_in_a_large_file(world, "paused-cancelled").await;
    let (answered, session) = place.act(&id, "cancel").await;
    assert_eq!(answered, StatusCode::ACCEPTED, "{session:#}");
    let session = place.api.ended_as(&id, "cancelled").await;
    place.assert_consistent(&session).await;
    assert_eq!(session["files"]["cancelled"], 1);
    let testimony = place.listing().await;
    testimony.assert_good();
    assert!(testimony.objects.is_empty());
    place.is_refused(&id, "resume").await;
}

/// A session paused in the middle of its only file; tells how many parts of it the store has.
async fn paused_in_a_large_file(world: &World, name: &str) -> (Place, String, u64) {
    let mut place = world.place(name).await;
    place.source.write("large", pseudo_random(PARTS * 5 * MIB, 7));
    place.s3.set_latency(Duration::from_millis(150));
    let id = place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": IN_FLIGHT }))
        .await;
    eventually("a third of the parts", Duration::from_secs(60), async || {
        (place.s3.requests() > PARTS / 3).then_some(())
    })
    .await;
    place.pause(world, &id).await;
    place.s3.set_latency(Duration::ZERO);
    let testimony = place.listing().await;
    assert_eq!(testimony.open_uploads.len(), 1, "{testimony:?}");
    let sent = *testimony.open_parts.values().next().unwrap();
    assert!(
        (PARTS / 3 - IN_FLIGHT..PARTS).contains(&sent),
        "{sent} parts at the pause"
    );
    (place, id, sent)
}

#[tokio::test]
async fn pauses_that_end_at_once_cost_nothing() {
    let world = shared().await;
    let mut place = world.place("hesitating").await;
    place.source.write_many(1_500);
    place.source.write("large", pseudo_random(20 * 5 * MIB, 9));
    place.s3.set_latency(Duration::from_millis(100));
    let id = place
        .start(json!({ "part_size_bytes": 5 * MIB, "concurrency": 8 }))
        .await;
    for round in 1..=8 {
        place.api.in_the_middle(&id, round * 20).await;
        place.acts(&id, "pause", "paused").await;
        place.acts(&id, "resume", "in_progress").await;
    }
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(troubles(world, &session).await, (0, 0, 0));
}

/// The walk stops, too, and goes on in another worker with what is new.
#[tokio::test]
async fn a_scan_that_is_paused_goes_on_in_another_worker() {
    let mut world = World::start(1, 5).await;
    let mut place = world.place("paused-scan").await;
    place.source.write_many(5_000);
    // Each batch takes a while, so that there is a middle.
    world
        .sql(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
             CREATE TRIGGER be_slow AFTER INSERT ON file_uploads FOR EACH STATEMENT EXECUTE FUNCTION be_slow()",
        )
        .await;
    let id = place.start(json!({})).await;
    place
        .api
        .until(&id, "with some files", |session| {
            session["files"]["total"].as_i64() >= Some(1)
        })
        .await;
    place.pause(&world, &id).await;
    world.sql("DROP FUNCTION be_slow CASCADE").await;
    let paused = place.api.session(&id).await;
    assert_eq!(
        (&paused["status"], &paused["scan_complete"]),
        (&json!("paused"), &json!(false)),
        "{paused:#}"
    );

    world.stack.kill_worker(0).await.unwrap();
    world.stack.start_worker().unwrap();
    place.acts(&id, "resume", "in_progress").await;
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(session["files"]["total"], 5_000);
    place.assert_delivered(&session).await;
    assert_eq!(troubles(&world, &session).await, (0, 0, 0));
    world.stack.stop().await;
}
