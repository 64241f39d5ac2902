//! Files that the bucket has already.

use crate::fixture::{MIB, Place, pseudo_random, shared};
use domain::FileErrorCode;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Small files in folders, names that sort otherwise than folders do, one that is no text, and one in parts.
async fn delivered(name: &str) -> Place {
    let mut place = shared().await.place(name).await;
    place.source.write_many(1_250);
    for path in ["a/b", "a.tif", "a-b/c", "a0", "a b/+ c", "empty", "zz/ü"] {
        place.source.write(path, if path == "empty" { "" } else { path });
    }
    place.source.write_odd(b"odd/\xff 100%", "odd/%FF 100%25", "odd");
    place.source.write("parts", pseudo_random(11 * MIB, 5));
    let session = place.upload(parts(json!({})), "completed").await;
    place.assert_delivered(&session).await;
    place
}

fn parts(mut settings: Value) -> Value {
    settings["part_size_bytes"] = json!(5 * MIB);
    settings
}

impl Place {
    /// Everything is in the bucket, and of this session so many files were sent and left out.
    async fn assert_sent(&self, session: &Value, uploaded: usize, skipped: usize) -> Vec<Value> {
        let files = self.assert_consistent(session).await;
        let count = |status: &str| files.iter().filter(|file| file["status"] == status).count();
        assert_eq!(
            (count("uploaded"), count("skipped")),
            (uploaded, skipped),
            "{session:#}"
        );
        self.testimony(&self.objects_below("deliveries/C1/"))
            .await
            .assert_good();
        files
    }

    /// As if somebody else had delivered what is in the bucket.
    async fn forget_sessions(&self) {
        let path = format!("/api/sessions?cycle_id={}&limit=200", self.cycle_id);
        for session in self.api.get(&path).await["items"].as_array().unwrap() {
            let path = format!("/api/sessions/{}", session["id"].as_str().unwrap());
            let (status, body) = self.api.call(Method::DELETE, &path, None).await;
            assert!(status.is_success(), "{status} {body}");
        }
    }

    /// Nothing was sent but a receipt, which takes some hundred bytes a file.
    fn assert_only_receipt_since(&self, received_bytes: u64) {
        let sent_bytes = self.s3.received_bytes() - received_bytes;
        assert!(sent_bytes < MIB, "{sent_bytes} bytes were sent");
    }

    fn total(&self) -> usize {
        self.source.expected.len()
    }

    fn file(&self, path: &str) -> &Path {
        &self.source.expected[path]
    }
}

fn modified_at(file: &Path) -> SystemTime {
    file.metadata().unwrap().modified().unwrap()
}

fn set_modified(file: &Path, time: SystemTime) {
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

fn error_code(file: &Value) -> Option<FileErrorCode> {
    file["error_code"].as_str().map(|code| code.parse().unwrap())
}

#[tokio::test]
async fn what_is_unchanged_is_found_by_listing_alone() {
    let mut place = delivered("unchanged").await;
    let requests = place.s3.requests();
    let received = place.s3.received_bytes();
    let total = place.total();
    let session = place
        .upload(parts(json!({ "on_existing": "skip_unchanged" })), "completed")
        .await;
    place.assert_only_receipt_since(received);
    let asked = place.s3.requests() - requests;
    assert!(asked < 20, "{asked} requests for {total} files");
    for file in place.assert_sent(&session, 0, total).await {
        assert_eq!(error_code(&file), Some(FileErrorCode::Unchanged), "{file}");
        assert!(file["checksum"].is_string() && file["etag"].is_string(), "{file}");
    }

    // New, grown, rewritten with as many bytes; and an older file with as many bytes in its place.
    place.source.write("a/new", "new");
    place.source.write("012/01234.txt", "file 1234 and more\n");
    place.source.write("000/00001.txt", "file X\n");
    let old = modified_at(place.file("000/00002.txt")) - Duration::from_secs(3_600);
    place.source.write("000/00002.txt", "file Y\n");
    set_modified(place.file("000/00002.txt"), old);
    let session = place
        .upload(parts(json!({ "on_existing": "skip_unchanged" })), "completed")
        .await;
    place.assert_sent(&session, 4, total - 3).await;

    // What a session found to be there is as good as what it sent.
    let session = place
        .upload(parts(json!({ "on_existing": "skip_unchanged" })), "completed")
        .await;
    place.assert_sent(&session, 0, total + 1).await;
}

#[tokio::test]
async fn by_checksum_the_bytes_alone_decide() {
    let mut place = delivered("by-checksum").await;
    let settings = parts(json!({ "on_existing": "skip_unchanged", "compare": "checksum" }));
    let total = place.total();
    // Touched, and not changed.
    for path in ["a/b", "parts", "000/00003.txt"] {
        set_modified(place.file(path), SystemTime::now());
    }
    // Changed, and looking as before.
    let before = modified_at(place.file("000/00001.txt"));
    place.source.write("000/00001.txt", "file X\n");
    set_modified(place.file("000/00001.txt"), before);
    let requests = place.s3.requests();
    let session = place.upload(settings.clone(), "completed").await;
    let asked = place.s3.requests() - requests;
    assert!(asked < 20, "{asked} requests for {total} files");
    place.assert_sent(&session, 1, total - 1).await;

    // With another checksum, and nothing recorded of the objects: the ETag tells of those that are no parts.
    let other = json!({ "on_existing": "skip_unchanged", "compare": "checksum", "checksum": "sha256" });
    place.forget_sessions().await;
    let session = place.upload(parts(other), "completed").await;
    place.assert_sent(&session, 1, total - 1).await;
}

#[tokio::test]
async fn what_others_put_there_counts_by_size_and_time() {
    let mut place = delivered("by-others").await;
    let total = place.total();
    place.forget_sessions().await;
    let session = place
        .upload(parts(json!({ "on_existing": "skip_unchanged" })), "completed")
        .await;
    place.assert_sent(&session, 0, total).await;
    place.forget_sessions().await;
    place.source.write("a/b", "b/a");
    let session = place
        .upload(parts(json!({ "on_existing": "skip_unchanged" })), "completed")
        .await;
    place.assert_sent(&session, 1, total - 1).await;
}

#[tokio::test]
async fn what_is_there_is_left_alone_or_fails() {
    let mut place = delivered("there").await;
    let total = place.total();
    let before = place.objects_below("deliveries/C1/");
    place.source.write("new", "new");
    let kept = std::fs::read(place.file("a/b")).unwrap();
    place.source.write("a/b", "other");
    let session = place
        .upload(json!({ "on_existing": "skip_existing" }), "completed")
        .await;
    let files = place.assert_consistent(&session).await;
    for file in &files {
        let expected = (file["path"] != "new").then_some(FileErrorCode::AlreadyExists);
        assert_eq!(error_code(file), expected, "{file}");
    }
    assert_eq!(session["files"]["skipped"], total);

    let received = place.s3.received_bytes();
    let session = place
        .upload(json!({ "on_existing": "fail" }), "completed_with_errors")
        .await;
    assert_eq!(session["files"]["failed"], total + 1);
    place.assert_only_receipt_since(received);
    place.assert_consistent(&session).await;
    place.source.write("a/b", kept);
    let testimony = place.testimony(&before).await;
    assert_eq!(testimony.keys().len(), total + 1, "{before:?}");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_sent() {
    let mut place = delivered("dry").await;
    let total = place.total();
    place.source.write("a/new", "new");
    let received = place.s3.received_bytes();
    let settings = json!({ "on_existing": "skip_unchanged", "dry_run": true });
    let session = place.upload(settings, "completed").await;
    assert_eq!(place.s3.received_bytes(), received, "nothing is sent");
    let files = place.assert_consistent(&session).await;
    let would_be: Vec<&Value> = files.iter().filter(|file| file["error_code"].is_null()).collect();
    assert_eq!(would_be.len(), 1, "{would_be:?}");
    assert_eq!(would_be[0]["path"], "a/new");
    assert_eq!(files.len(), total + 1);
}

/// What a dry run did not compare proves nothing to those that come after it.
#[tokio::test]
async fn a_dry_run_vouches_for_nothing() {
    let mut place = shared().await.place("dry-vouches").await;
    place.source.write("file", "as it was");
    let session = place.upload(json!({}), "completed").await;
    place.assert_delivered(&session).await;
    place.forget_sessions().await;
    place.source.write("file", "as it is.");
    let dry = json!({ "on_existing": "skip_unchanged", "compare": "checksum", "dry_run": true });
    place.upload(dry, "completed").await;
    let session = place
        .upload(json!({ "on_existing": "skip_unchanged" }), "completed")
        .await;
    place.assert_sent(&session, 1, 0).await;
}

#[tokio::test]
async fn a_bucket_that_cannot_be_listed_is_no_empty_one() {
    let place = delivered("unlisted").await;
    place.s3.remove_bucket(&place.bucket).unwrap();
    let session = place
        .upload(json!({ "on_existing": "skip_existing" }), "failed")
        .await;
    assert_eq!(session["error_code"], "no_such_bucket", "{session:#}");
    assert_eq!(session["files"]["uploaded"], 0);
}
