//! Targets that are wrong, closed or away.

use crate::fixture::{MIB, Place, STORE_PATIENCE_S, World, eventually, pseudo_random, shared};
use dev_stack::s3::Trouble;
use dev_stack::{S3Options, S3Server};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

impl Place {
    async fn change_project(&self, change: Value) {
        let path = format!("/api/projects/{}", self.project_id);
        let (status, body) = self.api.call(Method::PATCH, &path, Some(change)).await;
        assert!(status.is_success(), "{status} {body}");
    }

    async fn retried(&self, session: &Value, status: &str) -> Value {
        let id = session["id"].as_str().unwrap();
        self.api
            .post(&format!("/api/sessions/{id}/retry"), json!({}))
            .await;
        self.api.ended_as(id, status).await
    }

    /// Stops the store, with what was asked of it; tells how to start it again.
    async fn close_store(&mut self) -> S3Options {
        let options = self.s3.options();
        let aside = S3Options {
            port: 0,
            dir: options.dir.with_extension("aside"),
            ..options.clone()
        };
        let open = std::mem::replace(&mut self.s3, S3Server::start(aside).await.unwrap());
        open.stop().await;
        options
    }

    fn wants_credentials(&self, secret: &str) -> Value {
        json!({ "credentials": { "access_key_id": self.s3.access_key_id(), "secret_access_key": secret } })
    }
}

#[tokio::test]
async fn a_bucket_that_is_missing_fails_the_session_until_it_is_there() {
    let mut place = shared().await.place("no-bucket").await;
    place.source.write_many(1_500);
    place.change_project(json!({ "bucket": "another-bucket" })).await;
    let start = Instant::now();
    let session = place.upload(json!({}), "failed").await;
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "it took {:?}",
        start.elapsed()
    );
    assert_eq!(session["error_code"], "no_such_bucket", "{session:#}");
    assert!(
        session["error_detail"]
            .as_str()
            .unwrap()
            .contains("another-bucket"),
        "{session:#}"
    );
    assert!(
        place.s3.requests() < 300,
        "{} requests to no bucket",
        place.s3.requests()
    );
    place.assert_consistent(&session).await;

    place.s3.create_bucket("another-bucket").unwrap();
    place.bucket = "another-bucket".into();
    let session = place.retried(&session, "completed").await;
    assert_eq!(
        (&session["error_code"], &session["run"]),
        (&Value::Null, &json!(2))
    );
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn refused_credentials_fail_the_session_and_are_nowhere_to_be_read() {
    let world = shared().await;
    let mut place = world.place("refused").await;
    place.source.write_many(100);
    let wrong = "wrong-secret-9f2c7e1b5a";
    place.change_project(place.wants_credentials(wrong)).await;
    let session = place.upload(json!({}), "failed").await;
    assert_eq!(session["error_code"], "access_denied", "{session:#}");
    assert_eq!(session["files"]["uploaded"], 0);
    place.assert_consistent(&session).await;

    let right = place.s3.secret_access_key().to_owned();
    place.change_project(place.wants_credentials(&right)).await;
    let session = place.retried(&session, "completed").await;
    place.assert_delivered(&session).await;

    let project = place
        .api
        .get(&format!("/api/projects/{}", place.project_id))
        .await;
    let said = [world.logs(), session.to_string(), project.to_string()].concat();
    assert!(
        said.contains(&place.cycle_id) || said.len() > 1_000,
        "there is something to be searched"
    );
    let mut secrets = vec![wrong.to_owned(), right, world.stack.admin_password().to_owned()];
    for (name, value) in world.stack.env() {
        if name == "S3_SECRET_ACCESS_KEY" {
            secrets.push(value);
        } else if name.ends_with("_URL")
            && let Some((login, _)) = value.split_once('@')
        {
            secrets.push(login.rsplit(':').next().unwrap().to_owned());
        }
    }
    assert!(secrets.len() >= 6, "{} secrets", secrets.len());
    for secret in secrets {
        assert!(
            !said.contains(&secret),
            "a secret was told: it begins with {secret:.4}"
        );
    }
}

#[tokio::test]
async fn credentials_that_expire_midway_fail_the_session_until_they_are_renewed() {
    let mut place = shared().await.place("expired").await;
    place.source.write_many(1_500);
    place.source.write("parts", pseudo_random(40 * MIB, 7));
    place.s3.set_latency(Duration::from_millis(100));
    let id = place.start(json!({ "part_size_bytes": 5 * MIB })).await;
    place.api.in_the_middle(&id, 100).await;
    place.s3.set_trouble(Trouble {
        expired_per_mille: 1_000,
        ..Trouble::default()
    });
    let before = place.s3.requests();
    let session = place.api.ended_as(&id, "failed").await;
    assert_eq!(session["error_code"], "access_denied", "{session:#}");
    let detail = session["error_detail"].as_str().unwrap();
    assert!(detail.contains("ExpiredToken"), "{session:#}");
    let failures = place.api.get(&format!("/api/sessions/{id}/failures")).await;
    for failure in failures["items"].as_array().unwrap() {
        // Those that were in flight.
        assert_eq!(failure["error_code"], "access_denied", "{failures:#}");
    }
    let asked = place.s3.requests() - before;
    assert!(asked < 300, "{asked} requests with credentials that have expired");
    place.assert_consistent(&session).await;

    place.s3.set_trouble(Trouble::default());
    place.s3.set_latency(Duration::ZERO);
    let session = place.retried(&session, "completed").await;
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn a_store_that_is_away_fails_the_session_until_it_is_back() {
    let mut place = shared().await.place("away").await;
    place.source.write_many(50);
    let store = place.close_store().await;
    let id = place.start(json!({ "max_attempts": 2 })).await;
    let waiting = place
        .api
        .until(&id, "that waits", |session| !session["error_code"].is_null())
        .await;
    assert_eq!(
        (&waiting["status"], &waiting["error_code"]),
        (&json!("in_progress"), &json!("storage_unreachable")),
        "{waiting:#}"
    );
    let said = |session: &Value| session["error_detail"].as_str().unwrap().to_owned();
    assert!(said(&waiting).contains("is asked again until"), "{waiting:#}");
    let session = place.api.ended_as(&id, "failed").await;
    assert_eq!(session["error_code"], "storage_unreachable", "{session:#}");
    let patience = format!("for {STORE_PATIENCE_S} s the store took nothing");
    assert!(said(&session).contains(&patience), "{session:#}");
    assert_eq!(session["files"]["failed"], 0, "it is no fault of the files");
    place.assert_consistent(&session).await;

    place.s3 = S3Server::start(store).await.unwrap();
    let session = place.retried(&session, "completed").await;
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn a_store_that_is_away_for_a_moment_costs_time_only() {
    let world = shared().await;
    let mut place = world.place("moment").await;
    place.source.write_many(1_500);
    place.source.write("parts", pseudo_random(40 * MIB, 6));
    place.s3.set_latency(Duration::from_millis(100));
    let id = place
        .start(json!({ "max_attempts": 2, "part_size_bytes": 5 * MIB }))
        .await;
    place.api.in_the_middle(&id, 100).await;
    let store = place.close_store().await;
    let errors = format!("SELECT coalesce(sum(errors), 0) FROM jobs WHERE session_id = '{id}'");
    eventually(
        "a job that will be tried again",
        Duration::from_secs(30),
        async || (world.count(&errors).await > 0).then_some(()),
    )
    .await;
    place.s3 = S3Server::start(store).await.unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn a_store_that_is_away_for_minutes_costs_time_only_whoever_has_the_jobs() {
    let mut world = World::start_with(1, 2, |options| {
        options.extra_env = vec![("STORE_PATIENCE_S".to_owned(), "600".to_owned())];
    })
    .await;
    let mut place = world.place("minutes").await;
    place.source.write_many(1_500);
    place.source.write("parts", pseudo_random(40 * MIB, 6));
    place.s3.set_latency(Duration::from_millis(100));
    let id = place
        .start(json!({ "max_attempts": 2, "part_size_bytes": 5 * MIB }))
        .await;
    place.api.in_the_middle(&id, 100).await;
    let store = place.close_store().await;
    let waiting = |session: &Value| session["error_code"] == "storage_unreachable";
    place.api.until(&id, "that waits", waiting).await;
    // Nobody is at work on it, and the wait is not the worker's.
    let running = format!("SELECT count(*) FROM jobs WHERE session_id = '{id}' AND state = 'running'");
    eventually("a worker that is free", Duration::from_secs(30), async || {
        (world.count(&running).await == 0).then_some(())
    })
    .await;
    world.stack.kill_worker(0).await.unwrap();
    world.stack.start_worker().unwrap();
    // Almost all of the patience is over.
    let away = format!(
        "UPDATE store_outages SET since = since - interval '9 min' WHERE session_id = '{id}' RETURNING 1"
    );
    assert_eq!(world.count(&away).await, 1);
    let errors = format!("SELECT coalesce(max(errors), 0) FROM jobs WHERE session_id = '{id}'");
    let before = world.count(&errors).await;
    world
        .sql(&format!(
            "UPDATE jobs SET run_after = now() WHERE session_id = '{id}' AND state = 'ready'"
        ))
        .await;
    eventually("another attempt", Duration::from_secs(60), async || {
        (world.count(&errors).await > before).then_some(())
    })
    .await;
    assert_eq!(place.api.session(&id).await["status"], "in_progress");
    place.s3 = S3Server::start(store).await.unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(
        (&session["error_code"], &session["run"]),
        (&Value::Null, &json!(1))
    );
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn a_bucket_that_is_deleted_midway_takes_nothing_along_unseen() {
    let mut place = shared().await.place("deleted").await;
    place.source.write_many(1_500);
    place.s3.set_latency(Duration::from_millis(100));
    let id = place.start(json!({})).await;
    place.api.in_the_middle(&id, 100).await;
    place.s3.remove_bucket(&place.bucket).unwrap();
    let session = place.api.ended_as(&id, "failed").await;
    assert_eq!(session["error_code"], "no_such_bucket", "{session:#}");
    assert!(session["files"]["uploaded"].as_i64() >= Some(100), "{session:#}");
    place.assert_consistent(&session).await;

    place.s3.create_bucket(&place.bucket).unwrap();
    place.s3.set_latency(Duration::ZERO);
    // What had arrived is gone with the bucket: that is seen before the end, and another retry sends it.
    let session = place.retried(&session, "completed_with_errors").await;
    let failures = place.api.get(&format!("/api/sessions/{id}/failures")).await;
    assert_eq!(
        failures["items"][0]["error_code"], "checksum_mismatch",
        "{failures:#}"
    );
    let session = place.retried(&session, "completed").await;
    place.assert_delivered(&session).await;
}
