//! The stream of a session's events.

use crate::fixture::{Api, set_mode, shared};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One event: its name and its data.
type Event = (String, Value);

/// Reads a stream of events to its end; tells how long the first event took.
async fn read_to_end(api: &Api, id: &str) -> (Vec<Event>, Duration) {
    let start = Instant::now();
    let mut answer = api
        .request(Method::GET, &format!("/api/sessions/{id}/events"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-type").starts_with("text/event-stream"));
    assert_eq!(header("x-accel-buffering"), "no");
    let (mut text, mut first) = (String::new(), None);
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text += std::str::from_utf8(&chunk).unwrap();
        if text.contains("\n\n") {
            first.get_or_insert_with(|| start.elapsed());
        }
    }
    let events = text.split("\n\n").filter_map(event).collect();
    (events, first.unwrap())
}

/// The event of one block; none where it is a comment.
fn event(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::trim))
    };
    let data = field("data:").map_or(Value::Null, |data| serde_json::from_str(data).unwrap());
    Some((field("event:")?.to_owned(), data))
}

#[tokio::test]
async fn a_session_is_followed_from_its_start_to_its_end() {
    let mut place = shared().await.place("events").await;
    place.source.write_many(800);
    for index in 0..3 {
        let path = format!("secret {index}");
        let file = place.source.write_unexpected(path.as_bytes(), "secret");
        set_mode(file, 0o000);
    }
    place.s3.set_latency(Duration::from_millis(20));
    let start = Instant::now();
    let id = place.start(json!({ "concurrency": 8 })).await;
    let (events, first) = read_to_end(&place.api, &id).await;
    let took = start.elapsed();
    assert!(
        first < Duration::from_secs(1),
        "the first snapshot took {first:?}"
    );
    assert_eq!(events.first().unwrap().0, "session");
    assert_eq!(events.last().unwrap().0, "end");

    let snapshots: Vec<&Value> = named(&events, "session");
    assert!(snapshots.len() >= 4, "{} snapshots", snapshots.len());
    // Four a second, and a few for the beginning and the end.
    let most = took.as_millis() / 250 + 4;
    assert!(
        snapshots.len() as u128 <= most,
        "{} snapshots in {took:?}",
        snapshots.len()
    );
    for pair in snapshots.windows(2) {
        for counter in ["total", "uploaded", "failed"] {
            for unit in ["files", "bytes"] {
                let of = |snapshot: &Value| snapshot[unit][counter].as_i64().unwrap();
                assert!(
                    of(pair[0]) <= of(pair[1]),
                    "{unit} {counter} fell: {} {}",
                    pair[0],
                    pair[1]
                );
            }
        }
    }
    let between = |snapshot: &&&Value| (1..800).contains(&snapshot["files"]["uploaded"].as_i64().unwrap());
    assert!(
        snapshots.iter().filter(between).count() >= 2,
        "nothing is seen of the way"
    );
    assert!(
        snapshots
            .iter()
            .any(|snapshot| !snapshot["active_files"].as_array().unwrap().is_empty())
    );
    assert!(
        snapshots
            .iter()
            .any(|snapshot| snapshot["rate_bytes_per_s"].as_u64() > Some(0))
    );

    let mut failed: Vec<&str> = named(&events, "file")
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, ["secret 0", "secret 1", "secret 2"]);
    assert!(
        named(&events, "file")
            .iter()
            .all(|file| file["error_code"] == "permission_denied")
    );

    let session = place.api.session(&id).await;
    assert_eq!(session["status"], "completed_with_errors");
    assert_eq!(*snapshots.last().unwrap(), &session, "polling tells the same");
    place.s3.set_latency(Duration::ZERO);
    place.assert_delivered(&session).await;

    // Who comes later learns the end.
    let (events, _) = read_to_end(&place.api, &id).await;
    assert_eq!(named(&events, "session"), [&session]);
    assert_eq!(events.last().unwrap().0, "end");
}

fn named<'a>(events: &'a [Event], name: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event.0 == name)
        .map(|event| &event.1)
        .collect()
}
