//! What a session's settings change.

use crate::fixture::{MIB, PREFIX, Place, pseudo_random, set_mode, shared};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

fn causes(files: &[Value], status: &str) -> BTreeMap<String, String> {
    let text = |file: &Value, field: &str| file[field].as_str().unwrap_or_default().to_owned();
    files
        .iter()
        .filter(|file| file["status"] == status)
        .map(|file| (text(file, "path"), text(file, "error_code")))
        .collect()
}

#[tokio::test]
async fn links_that_stay_inside_the_root_are_followed() {
    let mut place = shared().await.place("links").await;
    place.source.write("real/file", "the file");
    let dir = place.source.dir().to_owned();
    let beside = dir.with_extension("beside");
    std::fs::write(&beside, "beside the source, inside the root").unwrap();
    for (target, name) in [
        ("real/file", "link"),
        ("real", "folder"),
        ("../etc", "outside"),
        ("/etc/hostname", "absolute"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("..", "real/above"),
    ] {
        symlink(target, dir.join(name)).unwrap();
    }
    let file_name = beside.file_name().unwrap().to_str().unwrap();
    symlink(format!("../{file_name}"), dir.join("beside")).unwrap();
    for (path, file) in [
        ("link", dir.join("real/file")),
        ("folder/file", dir.join("real/file")),
        ("beside", beside),
    ] {
        place.source.expected.insert(path.to_owned(), file);
    }
    let session = place
        .upload(json!({ "symlinks": "follow_inside" }), "completed")
        .await;
    place.assert_delivered(&session).await;
    let files = place.api.files(session["id"].as_str().unwrap()).await;
    let refused = causes(&files, "skipped");
    for name in ["outside", "absolute", "dangling", "loop", "real/above/"] {
        assert_eq!(
            refused.get(name).map(String::as_str),
            Some("symlink_refused"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn patterns_choose_what_is_sent() {
    let mut place = shared().await.place("patterns").await;
    for path in ["a.tif", "sub/b.tif", "sub/deeper/c.tif", "whole/anything"] {
        place.source.write(path, path);
    }
    for path in [
        "notes.txt",
        "sub/draft.tif",
        "cache/d.tif",
        "sub/cache/e.tif",
        "x/whole/no",
    ] {
        place.source.write_unexpected(path.as_bytes(), path);
    }
    let settings = json!({ "include": ["*.tif", "/whole/"], "exclude": ["cache/", "sub/draft*"] });
    let session = place.upload(settings, "completed").await;
    place.assert_delivered(&session).await;
    assert_eq!(session["files"]["total"], 4);
}

#[tokio::test]
async fn a_dry_run_records_everything_and_asks_the_store_nothing() {
    let mut place = shared().await.place("dry-run").await;
    place.source.write("a", "1");
    place.source.write("b/c", pseudo_random(9 * MIB, 1));
    place.source.expected.clear();
    let session = place.upload(json!({ "dry_run": true }), "completed").await;
    assert_eq!(place.s3.requests(), 0);
    let files = place.assert_consistent(&session).await;
    assert_eq!(causes(&files, "skipped").len(), 2);
    assert_eq!(session["bytes"]["skipped"], 9 * MIB + 1);
    assert_eq!(session["dry_run"], true);
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn prefixes_and_checksums_are_those_asked_for() {
    let mut place = shared().await.place("prefix").await;
    place.source.write("small", "small");
    place.source.write("parts", pseudo_random(11 * MIB, 2));
    let mut expected = BTreeMap::new();
    for kind in ["sha256", "crc32c", "crc64nvme"] {
        let settings = json!({
            "checksum": kind, "target_prefix": format!("{kind} & more/"), "part_size_bytes": 5 * MIB
        });
        let session = place.upload(settings, "completed").await;
        expected.extend(place.objects_below(&format!("deliveries/C1/{kind} & more/")));
        for file in place.assert_consistent(&session).await {
            let checksum = file["checksum"].as_str().unwrap();
            assert!(checksum.starts_with(&format!("{kind}:")), "{file}");
        }
    }
    let testimony = place.testimony(&expected).await;
    testimony.assert_good();
    for (key, object) in &testimony.objects {
        let kind = key.split([' ', '/']).nth(2).unwrap();
        assert!(object.checksums.contains_key(kind), "{key}: {object:?}");
    }
}

#[tokio::test]
async fn a_storage_class_is_the_sessions_else_the_projects() {
    let mut place = shared().await.place("class").await;
    place.source.write("small", "small");
    place.source.write("parts", pseudo_random(11 * MIB, 4));
    let project = format!("/api/projects/{}", place.project_id);
    let change = json!({ "storage_class": "STANDARD_IA" });
    let (status, body) = place.api.call(Method::PATCH, &project, Some(change)).await;
    assert!(status.is_success(), "{body}");
    for (given, expected) in [(json!(null), "STANDARD_IA"), (json!("GLACIER_IR"), "GLACIER_IR")] {
        let settings = json!({ "storage_class": given, "part_size_bytes": 5 * MIB });
        let session = place.upload(settings, "completed").await;
        assert_eq!(session["settings"]["storage_class"], given);
        place.assert_classes(expected, 2).await;
    }
}

/// What a retry sends has the class of the session, whatever its project's is.
#[tokio::test]
async fn a_retry_keeps_the_storage_class() {
    let mut place = shared().await.place("class-again").await;
    place.source.write("file", "file");
    let file = place.source.expected["file"].clone();
    set_mode(&file, 0);
    let settings = json!({ "storage_class": "ONEZONE_IA" });
    let session = place.upload(settings, "completed_with_errors").await;
    set_mode(&file, 0o644);
    let id = session["id"].as_str().unwrap();
    place
        .api
        .post(&format!("/api/sessions/{id}/retry"), json!({}))
        .await;
    place.api.ended_as(id, "completed").await;
    place.assert_classes("ONEZONE_IA", 1).await;
}

impl Place {
    /// The bucket has so many objects, all of this class.
    async fn assert_classes(&self, class: &str, count: usize) {
        let testimony = self.testimony(&self.objects_below(PREFIX)).await;
        testimony.assert_good();
        let classes: Vec<&str> = testimony
            .objects
            .values()
            .map(|object| object.storage_class.as_str())
            .collect();
        assert_eq!(classes, vec![class; count]);
    }
}

#[tokio::test]
async fn a_source_may_be_one_file_or_an_empty_directory() {
    let mut place = shared().await.place("one").await;
    place.source.write_unexpected(b"folder/beside", "not this");
    let file = place.source.write_unexpected(b"folder/one file", "this");
    place.source.expected.insert("one file".into(), file);
    std::fs::create_dir(place.source.dir().join("empty")).unwrap();

    let mut request = place.request(&json!({}));
    let path = place.source_path().to_owned();
    request["source"]["path"] = format!("{path}/folder/one file").into();
    let made = place.api.post("/api/sessions", request.clone()).await;
    let one = place
        .api
        .ended_as(made["id"].as_str().unwrap(), "completed")
        .await;
    place.assert_delivered(&one).await;

    request["source"]["path"] = format!("{path}/empty").into();
    let made = place.api.post("/api/sessions", request).await;
    let none = place
        .api
        .ended_as(made["id"].as_str().unwrap(), "completed")
        .await;
    assert!(place.assert_consistent(&none).await.is_empty());
    assert_eq!(none["scan_complete"], true);
}

#[tokio::test]
async fn a_limit_of_bandwidth_holds_for_all_workers_together() {
    const LIMIT: u64 = 4 * MIB;
    let mut place = shared().await.place("bandwidth").await;
    place.source.write_many(1_100);
    place.source.write("parts", pseudo_random(12 * MIB, 3));
    for number in 0..8 {
        place
            .source
            .write(&format!("file {number}"), pseudo_random(MIB / 2, number));
    }
    let start = Instant::now();
    let settings = json!({ "bandwidth_limit_bytes_per_s": LIMIT, "part_size_bytes": 5 * MIB });
    let session = place.upload(settings, "completed").await;
    let took = start.elapsed();
    place.assert_delivered(&session).await;
    // The last of them may be sent at once when its turn has come.
    let least = Duration::from_secs((16 * MIB - 5 * MIB) / LIMIT);
    assert!(took >= least, "{took:?} for 16 MiB");
}
