//! A source that changes while it is uploaded.

use crate::fixture::shared;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_file_that_vanishes_is_reported_and_one_that_changes_arrives_whole() {
    let mut place = shared().await.place("changing").await;
    place.source.write_many(40);
    place.s3.set_latency(Duration::from_millis(100));
    let id = place.start(json!({ "concurrency": 1 })).await;
    place
        .api
        .until(&id, "scanned", |session| session["scan_complete"] == true)
        .await;
    place.api.in_the_middle(&id, 1).await;
    // One at a time in the order of their numbers: the last ones are far from being read.
    let files = place.api.files(&id).await;
    let path = |from_end: usize| files[files.len() - from_end]["path"].as_str().unwrap().to_owned();
    let (vanishing, changing, growing) = (path(1), path(2), path(3));
    assert!(
        files.iter().rev().take(3).all(|file| file["status"] == "pending"),
        "too late"
    );
    std::fs::remove_file(place.source.dir().join(&vanishing)).unwrap();
    let removed = place.source.expected.remove(&vanishing).unwrap();
    place.source.write(&changing, "!");
    place
        .source
        .write(&growing, "much more than was there when the directory was walked");

    let session = place.api.ended_as(&id, "completed_with_errors").await;
    place.s3.set_latency(Duration::ZERO);
    place.assert_delivered(&session).await;
    let failed = failed(&place.api.files(&id).await);
    assert_eq!(failed, [(vanishing.clone(), "file_vanished".to_owned())]);
    let groups = place.api.get(&format!("/api/sessions/{id}/failures")).await;
    assert_eq!(groups["items"][0]["error_code"], "file_vanished", "{groups}");
    assert_eq!(
        groups["items"][0]["example_paths"],
        json!([vanishing]),
        "{groups}"
    );

    std::fs::write(&removed, "it is back").unwrap();
    place.source.expected.insert(vanishing, removed);
    let before = place.s3.requests();
    let body = json!({ "error_code": "file_vanished" });
    let session = place.api.post(&format!("/api/sessions/{id}/retry"), body).await;
    assert_eq!(session["run"], 2);
    let session = place.api.ended_as(&id, "completed").await;
    assert_eq!(
        (&session["run"], &session["files"]["uploaded"]),
        (&json!(2), &json!(40))
    );
    assert!(
        place.s3.requests() - before < 10,
        "only what failed is sent again"
    );
    place.assert_delivered(&session).await;
}

fn failed(files: &[Value]) -> Vec<(String, String)> {
    let text = |file: &Value, field: &str| file[field].as_str().unwrap().to_owned();
    files
        .iter()
        .filter(|file| file["status"] == "failed")
        .map(|file| (text(file, "path"), text(file, "error_code")))
        .collect()
}
