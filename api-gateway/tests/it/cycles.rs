//! Cycles.

use crate::fixture::{World, session_in, text};
use serde_json::json;

#[tokio::test]
async fn numbers_names_and_prefixes_have_defaults() {
    let world = World::new().await;
    let admin = world.admin().await;
    let project = admin.project("P").await;
    let path = format!("/api/projects/{}/cycles", text(&project, "id"));
    let answer = admin.act(&path).await;
    let location = answer.header("location").to_owned();
    let first = answer.created();
    assert_eq!(
        (&first["cycle_number"], text(&first, "cycle_name")),
        (&json!(1), "C1")
    );
    assert_eq!(
        (text(&first, "s3_prefix"), text(&first, "status")),
        ("C1/", "pending")
    );
    assert_eq!(first["project_id"], project["id"]);
    assert_eq!(admin.get(&location).await.ok(), first);
    let seventh = json!({"cycle_number": 7, "s3_prefix": "seven/", "description": "d"});
    let seventh = admin.post(&path, seventh).await.created();
    assert_eq!(
        (text(&seventh, "s3_prefix"), text(&seventh, "description")),
        ("seven/", "d")
    );
    assert_eq!(admin.act(&path).await.created()["cycle_number"], 8);
    admin
        .post(&path, json!({"cycle_number": 7}))
        .await
        .problem(409, "cycle_number_taken");
    let bad = json!({"cycle_number": 0, "cycle_name": "a/b", "s3_prefix": "/x"});
    assert_eq!(
        admin.post(&path, bad).await.bad_fields(),
        ["/cycle_number", "/cycle_name", "/s3_prefix"]
    );

    let numbers = async |query: &str| -> Vec<i64> {
        let page = admin.get(&format!("{path}?{query}")).await.ok();
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cycle| cycle["cycle_number"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(numbers("").await, [8, 7, 1]);
    assert_eq!(numbers("sort=cycle_number").await, [1, 7, 8]);
    assert_eq!(numbers("status=completed").await, [0; 0]);
    let page = admin.get(&format!("{path}?limit=2")).await.ok();
    assert_eq!(
        numbers(&format!("limit=2&cursor={}", text(&page, "next_cursor"))).await,
        [1]
    );
}

#[tokio::test]
async fn people_asking_at_once_get_different_numbers() {
    let world = World::new().await;
    let admin = world.admin().await;
    let project = admin.project("P").await;
    let made = futures::future::join_all((0..8).map(|_| admin.cycle(&project))).await;
    let mut numbers: Vec<i64> = made
        .iter()
        .map(|cycle| cycle["cycle_number"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_cycle_completes_when_its_sessions_have_ended() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let path = format!("/api/cycles/{}", text(&cycle, "id"));
    admin
        .patch(&path, json!({"s3_prefix": "first/", "description": "x"}))
        .await
        .ok();
    let session = admin.post("/api/sessions", session_in(&cycle)).await.created();
    assert_eq!(admin.get(&path).await.ok()["status"], "in_progress");
    admin
        .act(&format!("{path}/complete"))
        .await
        .problem(409, "session_running");
    admin.delete(&path).await.problem(409, "session_running");
    admin
        .patch(&path, json!({"s3_prefix": "second/"}))
        .await
        .problem(409, "cycle_has_sessions");
    admin.patch(&path, json!({"description": null})).await.ok();
    admin
        .patch(&path, json!({"status": "completed"}))
        .await
        .problem(409, "session_running");

    admin
        .act(&format!("/api/sessions/{}/cancel", text(&session, "id")))
        .await;
    let completed = admin.act(&format!("{path}/complete")).await.ok();
    assert_eq!(completed["status"], "completed");
    assert!(completed["completed_at"].is_string());
    admin
        .post("/api/sessions", session_in(&cycle))
        .await
        .problem(409, "cycle_completed");
    assert_eq!(admin.act(&format!("{path}/complete")).await.ok(), completed);
    let reopened = admin.act(&format!("{path}/reopen")).await.ok();
    assert_eq!(
        (text(&reopened, "status"), reopened["completed_at"].is_null()),
        ("in_progress", true)
    );
    admin.delete(&path).await.problem(409, "cycle_has_sessions");
    assert_eq!(admin.delete(&format!("{path}?cascade=true")).await.status, 204);
    admin.get(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_name_may_be_given_and_names_the_prefix() {
    let world = World::new().await;
    let admin = world.admin().await;
    let project = admin.project("P").await;
    let path = format!("/api/projects/{}/cycles", text(&project, "id"));
    let autumn = admin
        .post(&path, json!({"cycle_name": "Autumn 2026"}))
        .await
        .created();
    assert_eq!(
        (text(&autumn, "cycle_name"), text(&autumn, "s3_prefix")),
        ("Autumn 2026", "Autumn 2026/")
    );
    for bad in ["", " ", "a/b", "..", "a\nb", &"x".repeat(65)] {
        let answer = admin.post(&path, json!({"cycle_name": bad})).await;
        assert_eq!(answer.bad_fields(), ["/cycle_name"], "{bad:?}");
    }
    let own = format!("/api/cycles/{}", text(&autumn, "id"));
    let named = admin
        .patch(&own, json!({"cycle_name": "Winter", "cycle_number": 1}))
        .await
        .ok();
    assert_eq!(
        (text(&named, "cycle_name"), text(&named, "s3_prefix")),
        ("Winter", "Autumn 2026/"),
        "the prefix stays"
    );
    let both = json!({"cycle_name": null, "s3_prefix": null});
    let plain = admin.patch(&own, both).await.ok();
    assert_eq!(
        (text(&plain, "cycle_name"), text(&plain, "s3_prefix")),
        ("C1", "C1/")
    );
    let renumbered = admin
        .patch(&own, json!({"cycle_number": 2, "description": "x"}))
        .await;
    assert_eq!(renumbered.bad_fields(), ["/cycle_number"]);
    assert_eq!(admin.get(&own).await.ok()["description"], "");
}

#[tokio::test]
async fn the_highest_number_has_no_successor() {
    let world = World::new().await;
    let admin = world.admin().await;
    let path = format!("/api/projects/{}/cycles", text(&admin.project("P").await, "id"));
    admin
        .post(&path, json!({"cycle_number": 1_000_000}))
        .await
        .created();
    let refused = admin.act(&path).await.problem(409, "cycle_number_taken");
    assert!(
        text(&refused, "detail").contains("Give a cycle_number"),
        "{refused}"
    );
    admin.post(&path, json!({"cycle_number": 3})).await.created();
}

#[tokio::test]
async fn a_status_is_patched_as_by_complete_and_reopen() {
    let world = World::new().await;
    let admin = world.admin().await;
    let cycle = admin.cycle(&admin.project("P").await).await;
    let path = format!("/api/cycles/{}", text(&cycle, "id"));
    let to = async |status: &str| admin.patch(&path, json!({"status": status})).await;
    assert_eq!(to("pending").await.ok()["status"], "pending");
    to("in_progress").await.problem(409, "conflict");
    let session = admin.post("/api/sessions", session_in(&cycle)).await.created();
    assert_eq!(to("in_progress").await.ok()["status"], "in_progress");
    to("completed").await.problem(409, "session_running");
    admin
        .act(&format!("/api/sessions/{}/cancel", text(&session, "id")))
        .await;
    let completed = to("completed").await.ok();
    assert!(completed["completed_at"].is_string(), "{completed}");
    to("pending").await.problem(409, "conflict");
    assert_eq!(admin.get(&path).await.ok()["status"], "completed");
    let reopened = to("in_progress").await.ok();
    assert_eq!(
        (text(&reopened, "status"), reopened["completed_at"].is_null()),
        ("in_progress", true)
    );
    assert_eq!(to("gone").await.bad_fields(), ["/status"]);
}

#[tokio::test]
async fn sessions_go_with_a_cycle_only_by_who_controls_everybodys() {
    let world = World::new().await;
    let admin = world.admin().await;
    let member = world.person(&admin, "member", "member").await;
    let project = admin.project("P").await;
    let (cycle, empty) = (admin.cycle(&project).await, admin.cycle(&project).await);
    let session = admin.post("/api/sessions", session_in(&cycle)).await.created();
    let session = format!("/api/sessions/{}", text(&session, "id"));
    admin.act(&format!("{session}/cancel")).await;
    let path = format!("/api/cycles/{}", text(&cycle, "id"));
    member.delete(&path).await.problem(409, "cycle_has_sessions");
    member
        .delete(&format!("{path}?cascade=true"))
        .await
        .problem(403, "permission_denied");
    admin.get(&session).await.ok();
    let empty = format!("/api/cycles/{}?cascade=true", text(&empty, "id"));
    assert_eq!(member.delete(&empty).await.status, 204);
    assert_eq!(admin.delete(&format!("{path}?cascade=true")).await.status, 204);
    admin.get(&session).await.problem(404, "not_found");
}
