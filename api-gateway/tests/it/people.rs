//! Companies and their people.

use crate::fixture::{PASSWORD, World, text};
use serde_json::json;

#[tokio::test]
async fn a_platform_admin_makes_companies() {
    let world = World::new().await;
    let admin = world.admin().await;
    let new = json!({"company_name": "Acme", "company_code": "acme", "contact_email": "it@acme.example"});
    let company = admin.post("/api/companies", new.clone()).await.created();
    assert_eq!(
        (text(&company, "company_code"), &company["is_active"]),
        ("ACME", &json!(true))
    );
    admin
        .post("/api/companies", new)
        .await
        .problem(409, "company_code_taken");
    let bad = json!({"company_name": " ", "company_code": "a b", "contact_email": "x"});
    let fields = admin.post("/api/companies", bad).await.bad_fields();
    assert_eq!(fields, ["/company_name", "/company_code", "/contact_email"]);
    let page = admin.get("/api/companies?limit=1").await.ok();
    let next = admin
        .get(&format!("/api/companies?cursor={}", text(&page, "next_cursor")))
        .await
        .ok();
    assert_eq!(next["items"][0], company);
    let owner = world.other_company(&admin, "OTHER").await;
    owner
        .get("/api/companies")
        .await
        .problem(403, "permission_denied");
    owner
        .post("/api/companies", json!({}))
        .await
        .problem(403, "permission_denied");
}

#[tokio::test]
async fn a_company_is_changed_by_its_owner_and_its_limits_by_a_platform_admin() {
    let world = World::new().await;
    let admin = world.admin().await;
    let owner = world.other_company(&admin, "OTHER").await;
    let path = format!("/api/companies/{}", owner.company_id());
    assert_eq!(
        owner.get(&path).await.ok()["quota"],
        json!({"max_concurrent_jobs": null})
    );

    let own = json!({"company_name": "Other Ltd", "contact_email": "it@other.example"});
    let changed = owner.patch(&path, own).await.ok();
    assert_eq!(
        (text(&changed, "company_name"), text(&changed, "contact_email")),
        ("Other Ltd", "it@other.example")
    );
    assert_eq!(
        owner.get("/api/auth/me").await.ok()["company"]["company_name"],
        "Other Ltd"
    );
    let cleared = owner.patch(&path, json!({"contact_email": null})).await.ok();
    assert_eq!(
        (&cleared["contact_email"], &cleared["company_name"]),
        (&json!(null), &json!("Other Ltd"))
    );
    // What is refused changes nothing, not even the part that would have been allowed.
    for beyond in [
        json!({"company_name": "x", "quota": {"max_concurrent_jobs": 9}}),
        json!({"company_name": "x", "quota": {"max_concurrent_jobs": null}}),
        json!({"company_name": "x", "is_active": true}),
    ] {
        owner.patch(&path, beyond).await.problem(403, "permission_denied");
    }
    assert_eq!(owner.get(&path).await.ok(), cleared);

    let limited = admin
        .patch(&path, json!({"quota": {"max_concurrent_jobs": 2}}))
        .await
        .ok();
    assert_eq!(limited["quota"], json!({"max_concurrent_jobs": 2}));
    assert_eq!(owner.get(&path).await.ok(), limited);
    assert_eq!(
        admin.patch(&path, json!({"quota": {}})).await.ok()["quota"],
        limited["quota"]
    );
    let unlimited = admin
        .patch(&path, json!({"quota": {"max_concurrent_jobs": null}}))
        .await
        .ok();
    assert_eq!(unlimited["quota"], json!({"max_concurrent_jobs": null}));

    let bad = json!({"company_name": "", "contact_email": "x", "quota": {"max_concurrent_jobs": 0}});
    assert_eq!(
        admin.patch(&path, bad).await.bad_fields(),
        ["/company_name", "/contact_email", "/quota/max_concurrent_jobs"]
    );
    let bad = json!({"company_code": "NEW", "company_name": null, "quota": {"max_users": 1, "max_concurrent_jobs": 1.5}});
    let mut fields = admin.patch(&path, bad).await.bad_fields();
    fields.sort();
    assert_eq!(
        fields,
        [
            "/company_code",
            "/company_name",
            "/quota/max_concurrent_jobs",
            "/quota/max_users"
        ]
    );

    // A company that is closed keeps its people out; nobody locks themselves out.
    assert_eq!(
        admin.patch(&path, json!({"is_active": false})).await.ok()["is_active"],
        false
    );
    owner.get(&path).await.problem(401, "unauthenticated");
    admin.patch(&path, json!({"is_active": true})).await.ok();
    owner.get(&path).await.ok();
    let home = format!("/api/companies/{}", admin.company_id());
    admin
        .patch(&home, json!({"is_active": false}))
        .await
        .problem(409, "own_account");

    // Nobody else: not the other roles, and not the owner of another company.
    for role in ["admin", "member", "viewer"] {
        let person = world.person(&admin, &format!("some-{role}"), role).await;
        person
            .patch(&home, json!({"company_name": "x"}))
            .await
            .problem(403, "permission_denied");
        person
            .patch(&path, json!({"company_name": "x"}))
            .await
            .problem(403, "permission_denied");
    }
    owner
        .patch(&home, json!({"company_name": "x"}))
        .await
        .problem(404, "not_found");
    owner
        .patch(
            &format!("/api/companies/{}", uuid::Uuid::now_v7()),
            json!({"company_name": "x"}),
        )
        .await
        .problem(404, "not_found");
    admin
        .patch(
            &format!("/api/companies/{}", uuid::Uuid::now_v7()),
            json!({"company_name": "x"}),
        )
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn people_are_entered_found_and_changed() {
    let world = World::new().await;
    let admin = world.admin().await;
    let new = |username: &str, email: &str| {
        json!({"username": username, "email": email, "full_name": "Vera V.",
                                                  "role": "viewer", "password": PASSWORD})
    };
    let answer = admin.post("/api/users", new("vera", "vera@example.com")).await;
    let location = answer.header("location").to_owned();
    let vera = answer.created();
    assert_eq!(admin.get(&location).await.ok(), vera);
    assert_eq!(
        (text(&vera, "role"), &vera["is_active"]),
        ("viewer", &json!(true))
    );
    assert!(vera.get("password").is_none() && vera.get("password_hash").is_none());
    admin
        .post("/api/users", new("VERA", "v2@example.com"))
        .await
        .problem(409, "username_taken");
    admin
        .post("/api/users", new("vera2", "Vera@Example.com"))
        .await
        .problem(409, "email_taken");
    let bad = json!({"username": "a b", "email": "x", "role": "viewer", "password": "short"});
    assert_eq!(
        admin.post("/api/users", bad).await.bad_fields(),
        ["/username", "/email", "/password"]
    );
    let count = async |query: &str| {
        admin.get(&format!("/api/users?{query}")).await.ok()["items"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (
            count("").await,
            count("role=viewer").await,
            count("q=vera").await,
            count("q=zzz").await
        ),
        (2, 1, 1, 0)
    );
    let changed = admin
        .patch(&location, json!({"role": "admin", "full_name": "V."}))
        .await
        .ok();
    assert_eq!(
        (text(&changed, "role"), text(&changed, "full_name")),
        ("admin", "V.")
    );
    let inactive = admin.act(&format!("{location}/deactivate")).await.ok();
    assert_eq!(inactive["is_active"], false);
    assert_eq!(count("is_active=false").await, 1);
    assert_eq!(
        admin.act(&format!("{location}/activate")).await.ok()["is_active"],
        true
    );
}

#[tokio::test]
async fn owners_are_protected() {
    let world = World::new().await;
    let admin = world.admin().await;
    let anna = world.person(&admin, "anna", "admin").await;
    let owner = format!("/api/users/{}", text(&admin.tokens["user"], "id"));
    let own = format!("/api/users/{}", text(&anna.tokens["user"], "id"));
    // Only owners touch owners or make them.
    anna.patch(&owner, json!({"role": "viewer"}))
        .await
        .problem(403, "permission_denied");
    anna.act(&format!("{owner}/deactivate"))
        .await
        .problem(403, "permission_denied");
    let second = json!({"username": "o", "email": "o@example.com", "role": "owner", "password": PASSWORD});
    anna.post("/api/users", second)
        .await
        .problem(403, "permission_denied");
    // Nobody demotes or deactivates themselves.
    admin
        .patch(&owner, json!({"role": "admin"}))
        .await
        .problem(409, "own_account");
    anna.act(&format!("{own}/deactivate"))
        .await
        .problem(409, "own_account");
    anna.patch(&own, json!({"full_name": "Anna A."})).await.ok();
    // Another company's people are for the platform admin only.
    let stranger = world.other_company(&admin, "OTHER").await;
    let into = json!({"username": "x", "email": "x@example.com", "role": "viewer", "password": PASSWORD,
                      "company_id": stranger.company_id()});
    anna.post("/api/users", into)
        .await
        .problem(403, "permission_denied");
    // A person who also belongs elsewhere keeps their address.
    let (company, user) = (stranger.company_id(), text(&anna.tokens["user"], "id"));
    world
        .sql(&format!(
            "INSERT INTO memberships (company_id, user_id, role) VALUES ('{company}', '{user}', 'viewer')"
        ))
        .await;
    admin
        .patch(&own, json!({"email": "taken@over.example"}))
        .await
        .problem(403, "shared_account");
    // What is refused changes nothing, not even the part that would have been allowed.
    let both = json!({"email": "taken@over.example", "role": "viewer"});
    admin.patch(&own, both).await.problem(403, "shared_account");
    assert_eq!(admin.get(&own).await.ok()["role"], "admin");
    admin.patch(&own, json!({"role": "viewer"})).await.ok();
}
