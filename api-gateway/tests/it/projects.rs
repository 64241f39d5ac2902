//! Projects.

use crate::fixture::{Worker, World, text};
use serde_json::{Value, json};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN";

fn full() -> Value {
    json!({
        "name": "Full", "description": "Everything", "bucket": "my-bucket", "region": "eu-central-1",
        "endpoint_url": "https://s3.example.com", "prefix": "raw/", "storage_class": "STANDARD_IA",
        "visibility": "company", "is_active": true,
        "credentials": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": SECRET, "session_token": SESSION_TOKEN},
    })
}

#[tokio::test]
async fn a_project_is_made_read_changed_and_deleted() {
    let world = World::new().await;
    let admin = world.admin().await;
    let answer = admin.post("/api/projects", full()).await;
    let location = answer.header("location").to_owned();
    let project = answer.created();
    assert_eq!(location, format!("/api/projects/{}", text(&project, "id")));
    for (field, value) in full()
        .as_object()
        .unwrap()
        .iter()
        .filter(|(field, _)| *field != "credentials")
    {
        assert_eq!(&project[field], value, "{field}");
    }
    assert_eq!(project["has_credentials"], true);
    assert_eq!(admin.get(&location).await.ok(), project);

    let changed = admin
        .patch(
            &location,
            json!({"name": "Renamed", "description": null, "endpoint_url": null}),
        )
        .await
        .ok();
    assert_eq!(
        (text(&changed, "name"), text(&changed, "description")),
        ("Renamed", "")
    );
    assert_eq!(changed["endpoint_url"], Value::Null);
    assert_eq!(
        (&changed["bucket"], &changed["has_credentials"]),
        (&project["bucket"], &json!(true))
    );
    assert_ne!(changed["updated_at"], project["updated_at"]);
    let changed = admin
        .patch(&location, json!({"credentials": null, "aws_profile": "prod"}))
        .await
        .ok();
    assert_eq!(
        (&changed["has_credentials"], &changed["aws_profile"]),
        (&json!(false), &json!("prod"))
    );
    for field in ["name", "bucket", "visibility", "is_active"] {
        let answer = admin.patch(&location, json!({ field: null })).await;
        assert_eq!(answer.bad_fields(), [format!("/{field}")]);
    }
    let credentials = json!({"credentials": {"access_key_id": "AKIA", "secret_access_key": "s"}});
    assert_eq!(
        admin.patch(&location, credentials).await.bad_fields(),
        ["/credentials"]
    );

    assert_eq!(admin.delete(&location).await.status, 204);
    admin.get(&location).await.problem(404, "not_found");
    admin.delete(&location).await.problem(404, "not_found");
    admin
        .patch(&location, json!({"name": "x"}))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn credentials_never_come_back() {
    let world = World::new().await;
    let admin = world.admin().await;
    let created = admin.post("/api/projects", full()).await;
    let location = created.header("location").to_owned();
    let mut seen = vec![created.text];
    seen.push(admin.get(&location).await.text);
    seen.push(admin.get("/api/projects").await.text);
    seen.push(
        admin
            .patch(&location, json!({"credentials": full()["credentials"]}))
            .await
            .text,
    );
    // Refused requests, too.
    seen.push(admin.post("/api/projects", full()).await.text);
    let mut bad = full();
    bad["credentials"]["secret_access_key"] = json!([SECRET]);
    bad["credentials"]["unknown"] = json!(SECRET);
    seen.push(admin.post("/api/projects", bad).await.text);
    let mut bad = full();
    bad["credentials"] = json!(SECRET);
    seen.push(admin.post("/api/projects", bad).await.text);
    seen.push(world.log());
    for (index, text) in seen.iter().enumerate() {
        assert!(
            !text.contains(SECRET) && !text.contains(SESSION_TOKEN),
            "{index}: {text}"
        );
    }
    let stored = world
        .sql("SELECT encode(credentials_sealed, 'escape') FROM projects")
        .await;
    assert!(
        !stored.is_empty() && !stored.contains("AKIAEXAMPLE") && !stored.contains(&SECRET[..10]),
        "{stored}"
    );
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let world = World::new().await;
    let admin = world.admin().await;
    let bad = json!({
        "name": "", "bucket": "no/slash", "region": "eu west", "endpoint_url": "http://169.254.169.254/",
        "prefix": "../x", "aws_profile": "a b", "storage_class": "COLD",
        "credentials": {"access_key_id": "", "secret_access_key": "a\nb"},
    });
    let mut fields = admin.post("/api/projects", bad).await.bad_fields();
    fields.sort();
    fields.dedup();
    assert_eq!(
        fields,
        [
            "/aws_profile",
            "/bucket",
            "/credentials/access_key_id",
            "/credentials/secret_access_key",
            "/endpoint_url",
            "/name",
            "/prefix",
            "/region",
            "/storage_class",
        ]
    );
    assert_eq!(
        admin
            .post("/api/projects", json!({"bucket": "abc"}))
            .await
            .bad_fields(),
        ["/name"]
    );
    let mut fields = admin
        .post("/api/projects", json!({"name": 1, "bucket": "abc", "nmae": "x"}))
        .await
        .bad_fields();
    fields.sort();
    assert_eq!(fields[..2], ["/name", "/nmae"]);
    let nul = json!({"name": "a\u{0}b", "bucket": "abc"});
    assert!(
        admin
            .post("/api/projects", nul)
            .await
            .bad_fields()
            .contains(&"/name".to_owned())
    );
    let restricted = json!({"name": "x", "bucket": "abc", "visibility": "restricted"});
    admin
        .post("/api/projects", restricted)
        .await
        .problem(422, "not_supported");
    let odd = json!({"name": "x", "bucket": "abc", "visibility": "secret"});
    assert_eq!(
        admin.post("/api/projects", odd).await.bad_fields(),
        ["/visibility"]
    );
}

#[tokio::test]
async fn names_are_unique_whatever_the_case() {
    let world = World::new().await;
    let admin = world.admin().await;
    let one = admin.project("One").await;
    admin
        .post("/api/projects", json!({"name": "ONE", "bucket": "abc"}))
        .await
        .problem(409, "name_taken");
    let two = admin.project("Two").await;
    let path = format!("/api/projects/{}", text(&two, "id"));
    admin
        .patch(&path, json!({"name": "one"}))
        .await
        .problem(409, "name_taken");
    // Another company may use it, and one may change the case of one's own.
    let other = world.other_company(&admin, "OTHER").await;
    other.project("One").await;
    admin
        .patch(
            &format!("/api/projects/{}", text(&one, "id")),
            json!({"name": "ONE"}),
        )
        .await
        .ok();
}

#[tokio::test]
async fn lists_page_by_cursor_in_every_order() {
    let world = World::new().await;
    let admin = world.admin().await;
    for name in ["delta", "Alpha", "charlie", "Bravo", "echo_1"] {
        admin.project(name).await;
    }
    for (sort, expected) in [
        ("name", ["Alpha", "Bravo", "charlie", "delta", "echo_1"]),
        ("-name", ["echo_1", "delta", "charlie", "Bravo", "Alpha"]),
        ("created_at", ["delta", "Alpha", "charlie", "Bravo", "echo_1"]),
        ("-created_at", ["echo_1", "Bravo", "charlie", "Alpha", "delta"]),
    ] {
        let mut names: Vec<String> = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = admin
                .get(&format!("/api/projects?limit=2&sort={sort}&cursor={cursor}"))
                .await
                .ok();
            let items = page["items"].as_array().unwrap();
            assert!(!items.is_empty() && items.len() <= 2);
            names.extend(items.iter().map(|item| text(item, "name").to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(names, expected, "{sort}");
    }
    let found = async |query: &str| {
        admin.get(&format!("/api/projects?{query}")).await.ok()["items"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(found("q=CHAR").await, 1);
    assert_eq!(found("q=o_1").await, 1);
    assert_eq!(found("q=%25").await, 0);
    assert_eq!(found("is_active=false").await, 0);
    assert_eq!(found("").await, 5);
    let cursor = admin.get("/api/projects?limit=1&sort=name").await.ok()["next_cursor"].clone();
    let cursor = cursor.as_str().unwrap();
    for (query, field) in [
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=x", "/limit"),
        ("cursor=nonsense", "/cursor"),
        ("sort=size", "/sort"),
        ("is_active=maybe", "/is_active"),
        (&format!("sort=created_at&cursor={cursor}"), "/cursor"),
    ] {
        assert_eq!(
            admin.get(&format!("/api/projects?{query}")).await.bad_fields(),
            [field],
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_project_with_sessions_goes_only_when_told_and_not_while_one_runs() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("Busy").await;
    let path = format!("/api/projects/{}", text(&session, "project_id"));
    admin.delete(&path).await.problem(409, "session_running");
    admin
        .delete(&format!("{path}?cascade=true"))
        .await
        .problem(409, "session_running");
    let id = text(&session, "id").parse().unwrap();
    let worker = Worker::of(&admin);
    worker.scan(&world, id, &[5]).await;
    let claim = worker.upload(&world, id).await;
    worker.record(&claim, 1, 5, None).await;
    worker.finish(claim).await;
    admin.delete(&path).await.problem(409, "project_has_sessions");
    assert_eq!(world.sql("SELECT count(*) FROM file_uploads").await, "1");
    assert_eq!(admin.delete(&format!("{path}?cascade=true")).await.status, 204);
    assert_eq!(
        world
            .sql("SELECT (SELECT count(*) FROM file_uploads) + (SELECT count(*) FROM jobs)")
            .await,
        "0"
    );
}

#[tokio::test]
async fn a_project_does_not_move_under_a_session() {
    let world = World::with("redis://127.0.0.1:1", &[("ALLOW_PRIVATE_ENDPOINTS", "1")]).await;
    let admin = world.admin().await;
    let session = admin.session("P").await;
    let path = format!("/api/projects/{}", text(&session, "project_id"));
    let moves = [
        json!({"bucket": "elsewhere"}),
        json!({"region": "eu-west-3"}),
        json!({"endpoint_url": "http://127.0.0.1:9"}),
    ];
    for change in &moves {
        admin
            .patch(&path, change.clone())
            .await
            .problem(409, "session_running");
    }
    // What stays as it is does not move it.
    let same = json!({"bucket": "deliveries", "region": null, "endpoint_url": null, "description": "x"});
    assert_eq!(admin.patch(&path, same).await.ok()["description"], "x");
    admin
        .act(&format!("/api/sessions/{}/cancel", text(&session, "id")))
        .await;
    for change in moves {
        admin.patch(&path, change).await.ok();
    }
}
