//! Companies cannot see each other, and roles do not reach beyond what they hold.

use crate::fixture::{Client, Worker, World, session_in, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Every call with an id in its path, and a body it would accept.
fn calls(project: &str, cycle: &str, session: &str, user: &str) -> Vec<(Method, String, Option<Value>)> {
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        (get.clone(), format!("/api/projects/{project}"), None),
        (
            patch.clone(),
            format!("/api/projects/{project}"),
            Some(json!({"description": "x"})),
        ),
        (
            delete.clone(),
            format!("/api/projects/{project}?cascade=true"),
            None,
        ),
        (get.clone(), format!("/api/projects/{project}/cycles"), None),
        (
            post.clone(),
            format!("/api/projects/{project}/cycles"),
            Some(json!({})),
        ),
        (get.clone(), format!("/api/projects/{project}/leftovers"), None),
        (
            post.clone(),
            format!("/api/projects/{project}/leftovers/abort"),
            Some(json!({"all": true})),
        ),
        (get.clone(), format!("/api/cycles/{cycle}"), None),
        (
            patch.clone(),
            format!("/api/cycles/{cycle}"),
            Some(json!({"description": "x"})),
        ),
        (delete.clone(), format!("/api/cycles/{cycle}?cascade=true"), None),
        (post.clone(), format!("/api/cycles/{cycle}/complete"), None),
        (post.clone(), format!("/api/cycles/{cycle}/reopen"), None),
        (
            post.clone(),
            "/api/sessions".into(),
            Some(session_in(&json!({"id": cycle}))),
        ),
        (get.clone(), format!("/api/sessions/{session}"), None),
        (delete, format!("/api/sessions/{session}"), None),
        (post.clone(), format!("/api/sessions/{session}/start"), None),
        (post.clone(), format!("/api/sessions/{session}/pause"), None),
        (post.clone(), format!("/api/sessions/{session}/resume"), None),
        (post.clone(), format!("/api/sessions/{session}/cancel"), None),
        (post.clone(), format!("/api/sessions/{session}/retry"), None),
        (get.clone(), format!("/api/sessions/{session}/files"), None),
        (get.clone(), format!("/api/sessions/{session}/files/1"), None),
        (get.clone(), format!("/api/sessions/{session}/failures"), None),
        (get.clone(), format!("/api/sessions/{session}/receipt"), None),
        (get.clone(), format!("/api/sessions/{session}/plan"), None),
        (get.clone(), format!("/api/sessions/{session}/events"), None),
        (get, format!("/api/users/{user}"), None),
        (
            patch,
            format!("/api/users/{user}"),
            Some(json!({"role": "viewer"})),
        ),
        (post.clone(), format!("/api/users/{user}/activate"), None),
        (post, format!("/api/users/{user}/deactivate"), None),
    ]
}

async fn ask(
    client: &Client<'_>,
    (method, path, body): &(Method, String, Option<Value>),
) -> (u16, Value, Value) {
    let mut request = client.request(method.clone(), path);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = Client::send(request).await;
    let mut problem = answer.json();
    problem["request_id"].take();
    let mut headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
    headers.sort();
    (
        answer.status.as_u16(),
        problem,
        json!([headers, answer.header("content-length")]),
    )
}

#[tokio::test]
async fn another_companys_ids_are_answered_like_unknown_and_malformed_ones() {
    let world = World::new().await;
    let admin = world.admin().await;
    let stranger = world.other_company(&admin, "OTHER").await;
    let session = admin.session("Secret").await;
    Worker::of(&admin)
        .scan(&world, text(&session, "id").parse().unwrap(), &[1])
        .await;
    let user = text(&admin.tokens["user"], "id");
    let theirs = calls(
        text(&session, "project_id"),
        text(&session, "cycle_id"),
        text(&session, "id"),
        user,
    );
    let random = uuid::Uuid::now_v7().to_string();
    let unknown = calls(&random, &random, &random, &random);
    let malformed = calls("x", "x", "x", "x");
    for ((theirs, unknown), malformed) in theirs.iter().zip(&unknown).zip(&malformed) {
        let answer = ask(&stranger, theirs).await;
        assert_eq!(
            (answer.0, &answer.1["code"]),
            (404, &json!("not_found")),
            "{theirs:?}"
        );
        assert_eq!(answer, ask(&stranger, unknown).await, "{theirs:?}");
        // In a body, a malformed id is an invalid field.
        if malformed.1 != "/api/sessions" {
            assert_eq!(answer, ask(&stranger, malformed).await, "{malformed:?}");
        }
    }
    assert_eq!(stranger.get("/api/sessions").await.ok()["items"], json!([]));
    assert_eq!(stranger.get("/api/projects").await.ok()["items"], json!([]));
    let filtered = format!("/api/sessions?project_id={}", text(&session, "project_id"));
    assert_eq!(stranger.get(&filtered).await.ok()["items"], json!([]));
    // And nothing of it happened.
    assert_eq!(
        admin
            .get(&format!("/api/sessions/{}", text(&session, "id")))
            .await
            .ok()["status"],
        "in_progress"
    );
    let company = format!("/api/companies/{}", admin.company_id());
    stranger.get(&company).await.problem(404, "not_found");
    admin.get(&company).await.ok();
    stranger
        .get(&format!("/api/companies/{}", stranger.company_id()))
        .await
        .ok();
}

#[tokio::test]
async fn a_viewer_reads_and_nothing_else() {
    let world = World::new().await;
    let admin = world.admin().await;
    let viewer = world.person(&admin, "vera", "viewer").await;
    let session = admin.session("P").await;
    let user = text(&admin.tokens["user"], "id");
    let all = calls(
        text(&session, "project_id"),
        text(&session, "cycle_id"),
        text(&session, "id"),
        user,
    );
    for call in &all {
        if call.1.contains("/events") {
            continue;
        }
        let readable =
            call.0 == Method::GET && !call.1.starts_with("/api/users") && !call.1.ends_with("/leftovers");
        let mut request = viewer.request(call.0.clone(), &call.1);
        if let Some(body) = &call.2 {
            request = request.json(body);
        }
        let answer = Client::send(request).await;
        if !readable {
            answer.problem(403, "permission_denied");
        } else if call.1.ends_with("/receipt") {
            answer.problem(409, "session_running");
        } else if call.1.ends_with("/plan") {
            answer.problem(409, "no_plan");
        } else if call.1.ends_with("/files/1") {
            answer.problem(404, "not_found");
        } else {
            answer.ok();
        }
    }
    // Bad input is no way around: the permission is settled first.
    viewer
        .post("/api/sessions", json!({"nonsense": 1}))
        .await
        .problem(403, "permission_denied");
    viewer
        .post("/api/projects", json!([]))
        .await
        .problem(403, "permission_denied");
    viewer
        .post("/api/companies", json!({}))
        .await
        .problem(403, "permission_denied");
}

#[tokio::test]
async fn members_control_their_own_sessions_only() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (mia, max) = (
        world.person(&admin, "mia", "member").await,
        world.person(&admin, "max", "member").await,
    );
    let cycle = admin.cycle(&admin.project("P").await).await;
    let session = mia.post("/api/sessions", session_in(&cycle)).await.created();
    assert_eq!(session["user_id"], mia.tokens["user"]["id"]);
    let path = format!("/api/sessions/{}", text(&session, "id"));
    for action in ["start", "pause", "resume", "cancel", "retry"] {
        max.act(&format!("{path}/{action}"))
            .await
            .problem(403, "permission_denied");
    }
    max.delete(&path).await.problem(403, "permission_denied");
    max.get(&path).await.ok();
    mia.post("/api/projects", json!({"name": "x", "bucket": "abc"}))
        .await
        .problem(403, "permission_denied");
    assert_eq!(mia.act(&format!("{path}/pause")).await.status, 202);
    assert_eq!(admin.act(&format!("{path}/resume")).await.status, 202);
    assert_eq!(mia.act(&format!("{path}/cancel")).await.status, 202);
    assert_eq!(admin.delete(&path).await.status, 204);
}
