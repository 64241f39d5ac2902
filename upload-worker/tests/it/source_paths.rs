//! What a session may read: only what lies below its root, and only its company's roots.

use crate::fixture::shared;
use crate::fixture::{FOREIGN_ROOT, GONE_ROOT};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn only_paths_below_a_root_of_the_company_are_taken() {
    let mut place = shared().await.place("paths").await;
    place.source.write("a", "a");
    let own = place.source_path().to_owned();
    let cases = [
        ("files", "../".to_owned(), "/source/path"),
        ("files", "..".to_owned(), "/source/path"),
        ("files", format!("{own}/../../stack"), "/source/path"),
        ("files", format!("{own}/./a"), "/source/path"),
        ("files", "/etc".to_owned(), "/source/path"),
        ("files", "a\0b".to_owned(), "/source/path"),
        ("nobody-knows", own.clone(), "/source/root"),
        (FOREIGN_ROOT, own.clone(), "/source/root"),
        ("../files", own.clone(), "/source/root"),
    ];
    for (root, path, pointer) in cases {
        let mut request = place.request(&json!({}));
        request["source"] = json!({ "root": root, "path": path });
        let (status, problem) = place.api.call(Method::POST, "/api/sessions", Some(request)).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{root} {path}: {problem}"
        );
        assert_eq!(problem["code"], "validation_failed", "{problem}");
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{root} {path}: {problem}"
        );
    }
    assert_eq!(place.s3.requests(), 0);
    let sessions = place.api.all("/api/sessions").await;
    assert!(
        sessions
            .iter()
            .all(|session| session["cycle_id"] != place.cycle_id.as_str())
    );
}

#[tokio::test]
async fn a_source_that_is_not_there_fails_the_session() {
    let place = shared().await.place("missing-source").await;
    for (root, path) in [("files", "nothing/here"), (GONE_ROOT, "")] {
        let mut request = place.request(&json!({}));
        request["source"] = json!({ "root": root, "path": path });
        let made = place.api.post("/api/sessions", request).await;
        let session = place.api.ended_as(made["id"].as_str().unwrap(), "failed").await;
        assert_eq!(session["error_code"], "source_unreadable", "{session:#}");
        assert!(
            session["error_detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty())
        );
        assert!(place.assert_consistent(&session).await.is_empty());
    }
    assert_eq!(place.s3.requests(), 0);
}

/// Links are made by those who write the source, and the scan does not leave the root for them.
#[tokio::test]
async fn a_source_path_through_a_link_that_leaves_the_root_is_refused() {
    let place = shared().await.place("linked-source").await;
    std::os::unix::fs::symlink("/etc", place.source.dir().join("etc")).unwrap();
    for path in ["etc", "etc/hostname"] {
        let mut request = place.request(&json!({ "symlinks": "follow_inside" }));
        request["source"]["path"] = format!("{}/{path}", place.source_path()).into();
        let made = place.api.post("/api/sessions", request).await;
        let session = place.api.ended_as(made["id"].as_str().unwrap(), "failed").await;
        assert_eq!(session["error_code"], "source_unreadable", "{session:#}");
    }
    assert_eq!(place.s3.requests(), 0);
}
