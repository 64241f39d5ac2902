//! What holds for every answer: ids, headers, problems.

use crate::fixture::{Client, World};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn every_answer_has_an_id_and_the_headers_of_security() {
    let world = World::new().await;
    let admin = world.admin().await;
    for path in [
        "/api/projects",
        "/api/nothing",
        "/nothing",
        "/docs/",
        "/openapi.json",
        "/health/live",
    ] {
        let answer = admin.get(path).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("script-src 'unsafe"),
            "{path}: {policy}"
        );
        if path.starts_with("/api") {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
    let with_id = async |id: &str| {
        let request = admin
            .request(Method::GET, "/health/live")
            .header("X-Request-Id", id);
        Client::send(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(with_id("my-id_1").await, "my-id_1");
    assert_ne!(with_id("my id").await, "my id");
    assert!(world.log().contains("my-id_1"));
}

#[tokio::test]
async fn odd_requests_get_the_documented_problem() {
    let world = World::new().await;
    let admin = world.admin().await;
    let post = |body: &'static str, kind: &str| {
        Client::send(
            admin
                .request(Method::POST, "/api/projects")
                .header("Content-Type", kind)
                .body(body),
        )
    };
    post("{", "application/json")
        .await
        .problem(400, "unreadable_body");
    post("{}", "text/plain")
        .await
        .problem(415, "unsupported_media_type");
    post("{}", "application/x-www-form-urlencoded")
        .await
        .problem(415, "unsupported_media_type");
    assert_eq!(post("[]", "application/json").await.bad_fields(), [""]);
    assert_eq!(
        post("null", "application/json; charset=utf-8").await.bad_fields(),
        [""]
    );
    let large = json!({"name": "x".repeat(65 * 1024)});
    admin
        .post("/api/projects", large)
        .await
        .problem(413, "payload_too_large");
    admin.get("/api/nothing").await.problem(404, "not_found");
    admin.get("/nothing").await.problem(404, "not_found");
    let answer = Client::send(admin.request(Method::PUT, "/api/projects")).await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET, POST");
    let answer = admin.delete("/api/sessions/x/start").await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST");
    // Whoever is not signed in hears that first, whatever else is wrong.
    let anonymous = world.anonymous();
    anonymous
        .post("/api/projects", json!([]))
        .await
        .problem(401, "unauthenticated");
    anonymous
        .get("/api/projects/x?limit=x")
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn log_lines_name_the_route_and_the_person_and_no_secret() {
    let world = World::new().await;
    let admin = world.admin().await;
    let request = admin
        .request(Method::GET, "/api/projects?q=needle")
        .header("X-Request-Id", "find-me");
    Client::send(request).await.ok();
    let line = world
        .log()
        .lines()
        .find(|line| line.contains("find-me") && line.contains("status"))
        .unwrap()
        .to_owned();
    let user = admin.tokens["user"]["id"].as_str().unwrap();
    for part in ["/api/projects", "GET", "200", "duration_ms", user] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let log = world.log();
    for secret in ["needle", crate::fixture::ADMIN_PASSWORD, admin.token().unwrap()] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("P").await;
    let events = format!("/api/sessions/{}/events", session["id"].as_str().unwrap());
    for (path, status) in [
        ("/api/projects", 200),
        ("/health/live", 200),
        ("/openapi.yaml", 200),
        // It does not wait for the end of the stream.
        (events.as_str(), 200),
        ("/api/projects/x", 404),
        ("/api/auth/login", 405),
    ] {
        let answer = Client::send(admin.request(Method::HEAD, path)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (status, ""),
            "{path}"
        );
        assert!(!answer.header("content-type").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let request = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"user";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(45), reading)
        .await
        .expect("an answer, and the end of the connection")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains("application/problem+json") && answer.contains("\"request_timeout\""),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_with_lists_may_be_larger() {
    let world = World::new().await;
    let admin = world.admin().await;
    let with = |bytes: usize| {
        json!({"cycle_id": "00000000-0000-0000-0000-000000000000", "source": {"root": "samples"},
               "settings": {"include": ["x".repeat(bytes)]}})
    };
    let answer = admin.post("/api/sessions", with(100 * 1024)).await;
    assert_ne!(answer.status, 413, "{}", answer.text);
    admin
        .post("/api/sessions", with(1024 * 1024))
        .await
        .problem(413, "payload_too_large");
}
