//! Gateways that die between the commit of what they were asked and telling anybody.

use super::{place, settings};
use crate::crashes::assert_settled;
use crate::fixture::{PREFIX, Place, World, assert_killed_at, eventually, set_mode};
use serde_json::json;
use std::time::Duration;

/// What a person asks of a session through a gateway that dies of it.
struct Asked {
    place: Place,
    id: String,
}

/// Asks for `action` through a gateway that dies at `point`; the answer never comes.
async fn ask_the_dying(world: &mut World, point: &str, place: &Place, path: &str, body: serde_json::Value) {
    let (gateway, url) = world.armed_gateway(&format!("{point}=kill")).await;
    let api = place.api.through(url);
    let request = api
        .request(reqwest::Method::POST, path)
        .header("Idempotency-Key", "once")
        .json(&body);
    let answer = request.send().await;
    assert!(answer.is_err(), "{point}: {answer:?}");
    assert_killed_at(point, gateway).await;
}

impl Asked {
    async fn act(&self, world: &mut World, action: &str, moment: &str) {
        let point = format!("gateway.{action}.{moment}");
        let path = format!("/api/sessions/{}/{action}", self.id);
        ask_the_dying(world, &point, &self.place, &path, json!({})).await;
    }

    async fn ends(&self, world: &World, status: &str) {
        let session = self.place.api.ended_as(&self.id, status).await;
        if status == "completed" {
            self.place.assert_delivered(&session).await;
        } else {
            let testimony = self.place.testimony(&self.place.objects_below(PREFIX)).await;
            self.place.assert_whole(&session, &testimony).await;
        }
        assert_settled(world, &session).await;
    }
}

#[tokio::test]
async fn what_a_gateway_committed_before_it_died_is_done() {
    let mut world = World::start(1, super::LEASE_S).await;

    // Made: once, also when it is asked for again.
    let made = place(&world, "made").await;
    let request = made.request(&settings());
    ask_the_dying(
        &mut world,
        "gateway.create.before_push",
        &made,
        "/api/sessions",
        request.clone(),
    )
    .await;
    let again = made.api.request(reqwest::Method::POST, "/api/sessions");
    let again = again
        .header("Idempotency-Key", "once")
        .json(&request)
        .send()
        .await
        .unwrap();
    let again: serde_json::Value = again.json().await.unwrap();
    let made = Asked {
        id: again["id"].as_str().unwrap().to_owned(),
        place: made,
    };
    let sessions = format!(
        "SELECT count(*) FROM sync_sessions WHERE cycle_id = '{}'",
        made.place.cycle_id
    );
    assert_eq!(world.count(&sessions).await, 1);

    // Started.
    let started = place(&world, "started").await;
    let mut request = started.request(&settings());
    request["start"] = json!(false);
    let session = started.api.post("/api/sessions", request).await;
    let started = Asked {
        id: session["id"].as_str().unwrap().to_owned(),
        place: started,
    };
    started.act(&mut world, "start", "before_push").await;

    // Retried.
    let mut retried = place(&world, "retried").await;
    retried.source.write("not to be read", "yet");
    let file = retried.source.dir().join("not to be read");
    set_mode(&file, 0o000);
    let id = retried.start(settings()).await;
    retried.api.ended_as(&id, "completed_with_errors").await;
    set_mode(&file, 0o644);
    let retried = Asked { id, place: retried };
    retried.act(&mut world, "retry", "before_push").await;

    for asked in [&made, &started, &retried] {
        asked.ends(&world, "completed").await;
    }
    world.stack.stop().await;
}

#[tokio::test]
async fn sessions_need_no_gateway_and_obey_one_that_died() {
    let mut world = World::start(1, super::LEASE_S).await;
    let mut running = Vec::new();
    for name in ["paused", "cancelled", "left-alone"] {
        let mut place = place(&world, name).await;
        place.source.write_many(900);
        place.s3.set_latency(Duration::from_millis(200));
        let id = place.start(settings()).await;
        place.api.in_the_middle(&id, 5).await;
        running.push(Asked { place, id });
    }
    let [paused, cancelled, alone] = &running[..] else {
        unreachable!()
    };

    paused.act(&mut world, "pause", "before_hint").await;
    let jobs = format!(
        "SELECT count(*) FROM jobs WHERE session_id = '{}' AND state = 'running'",
        paused.id
    );
    super::until_count(&world, "the pause to be obeyed", &jobs, 0).await;
    assert_eq!(paused.place.api.session(&paused.id).await["status"], "paused");
    paused.act(&mut world, "resume", "before_push").await;
    cancelled.act(&mut world, "cancel", "before_hint").await;
    cancelled.ends(&world, "cancelled").await;

    // Without any gateway.
    alone.place.api.in_the_middle(&alone.id, 20).await;
    world.stack.gateway().kill().await.unwrap();
    for asked in [paused, alone] {
        asked.place.s3.set_latency(Duration::ZERO);
        let ended = format!(
            "SELECT count(*) FROM sync_sessions WHERE id = '{}' AND status = 'completed'",
            asked.id
        );
        eventually("the end without a gateway", Duration::from_secs(60), async || {
            (world.count(&ended).await == 1).then_some(())
        })
        .await;
    }
    world.stack.start_gateway().await.unwrap();
    for asked in [paused, alone] {
        asked.ends(&world, "completed").await;
    }
    assert_eq!(world.stack.casualty(), None);
    world.stack.stop().await;
}
