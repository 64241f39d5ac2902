//! Signing in, staying signed in, signing out.

use crate::fixture::{ADMIN_PASSWORD, Client, PASSWORD, World, eventually, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{TimeDelta, Utc};
use identity::tokens::Subject;
use serde_json::json;

#[tokio::test]
async fn the_first_admin_signs_in_by_name_or_address() {
    let world = World::new().await;
    for name in ["admin", "ADMIN", "admin@localhost"] {
        let client = world.sign_in(name, ADMIN_PASSWORD).await;
        assert_eq!(client.tokens["token_type"], "Bearer");
        assert_eq!(client.tokens["expires_in"], 1800);
        let user = &client.tokens["user"];
        assert_eq!((text(user, "username"), text(user, "role")), ("admin", "owner"));
        assert_eq!(user["is_platform_admin"], true);
        assert_eq!(user["company"]["company_code"], "DEFAULT");
        let me = client.get("/api/auth/me").await.ok();
        assert_eq!(me, *user);
        assert!(
            me["permissions"]
                .as_array()
                .unwrap()
                .contains(&json!("project.write"))
        );
        assert_eq!(me["memberships"][0]["role"], "owner");
        assert!(
            !me["permissions"].to_string().contains("control_all"),
            "only names of the contract"
        );
        assert!(me["last_login_at"].is_string());
    }
}

#[tokio::test]
async fn every_refused_sign_in_sounds_the_same() {
    let world = World::new().await;
    let admin = world.admin().await;
    let leaver = world.person(&admin, "leaver", "member").await;
    let id = text(&leaver.tokens["user"], "id").to_owned();
    admin.act(&format!("/api/users/{id}/deactivate")).await.ok();
    let mut details = Vec::new();
    for (username, password) in [
        ("admin", "wrong password!"),
        ("nobody", "wrong password!"),
        ("leaver", PASSWORD),
        ("", "x"),
    ] {
        let answer = world
            .anonymous()
            .post(
                "/api/auth/login",
                json!({"username": username, "password": password}),
            )
            .await;
        let mut body = answer.problem(401, "invalid_credentials");
        assert!(answer.headers.contains_key("www-authenticate"));
        body["request_id"].take();
        details.push(body);
    }
    assert!(details.windows(2).all(|pair| pair[0] == pair[1]), "{details:?}");
    let answer = world
        .anonymous()
        .post("/api/auth/login", json!({"username": "admin", "pasword": "x"}))
        .await;
    let mut fields = answer.bad_fields();
    fields.sort();
    assert_eq!(fields, ["/password", "/pasword"]);
}

#[tokio::test]
async fn only_living_tokens_of_this_gateway_count() {
    let world = World::new().await;
    let admin = world.admin().await;
    let user = &admin.tokens["user"];
    let good = admin.token().unwrap().to_owned();
    let payload: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(good.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let subject = Subject {
        user_id: text(user, "id").parse().unwrap(),
        company_id: admin.company_id(),
        role: None,
        sign_in_id: text(&payload, "sid").parse().unwrap(),
    };
    let issue = |issued_at| world.signer.issue(&subject, issued_at).unwrap().text;
    assert_eq!(
        Client::with_token(&world, &issue(Utc::now()))
            .get("/api/auth/me")
            .await
            .status,
        200
    );

    let expired = issue(Utc::now() - TimeDelta::hours(1));
    let stranger_key = identity::generate_signing_key_pem().unwrap();
    let stranger = identity::TokenSigner::from_pem(&stranger_key, &world.url).unwrap();
    let forged = stranger.issue(&subject, Utc::now()).unwrap().text;
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        good.split('.').nth(1).unwrap()
    );
    let other_family = Subject {
        sign_in_id: uuid::Uuid::now_v7(),
        ..subject
    };
    let no_family = world.signer.issue(&other_family, Utc::now()).unwrap().text;
    let tampered = format!("{good}x");
    for token in [&expired, &forged, &unsigned, &no_family, &tampered, "x", ""] {
        let answer = Client::with_token(&world, token).get("/api/auth/me").await;
        answer.problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{token}");
    }
    world
        .anonymous()
        .get("/api/projects")
        .await
        .problem(401, "unauthenticated");
    let jwks = world.anonymous().get("/.well-known/jwks.json").await.ok();
    assert_eq!(jwks["keys"][0]["alg"], "RS256");
    assert!(jwks["keys"][0].get("d").is_none());
}

async fn refresh(world: &World, token: &str) -> crate::fixture::Answer {
    world
        .anonymous()
        .post("/api/auth/refresh", json!({"refresh_token": token}))
        .await
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_use() {
    let world = World::new().await;
    let admin = world.admin().await;
    let first = text(&admin.tokens, "refresh_token").to_owned();
    let second = refresh(&world, &first).await.ok();
    let second_token = text(&second, "refresh_token").to_owned();
    assert_ne!(first, second_token);
    assert_eq!(
        Client::with_token(&world, text(&second, "access_token"))
            .get("/api/auth/me")
            .await
            .status,
        200
    );

    // The answer was lost: within the grace, and while the successor is unused, there is another one.
    let third = refresh(&world, &first).await.ok();
    let third_token = text(&third, "refresh_token").to_owned();
    let fourth = refresh(&world, &third_token).await.ok();

    // Now the successor is used: the first one coming back is a replay, and ends everything.
    refresh(&world, &first).await.problem(401, "unauthenticated");
    refresh(&world, text(&fourth, "refresh_token"))
        .await
        .problem(401, "unauthenticated");
    let with_fourth = Client::with_token(&world, text(&fourth, "access_token"));
    with_fourth
        .get("/api/auth/me")
        .await
        .problem(401, "unauthenticated");
    assert!(!world.log().contains(&third_token), "tokens stay out of the log");
}

#[tokio::test]
async fn a_replay_after_the_grace_ends_the_sign_in() {
    let world = World::new().await;
    let admin = world.admin().await;
    let first = text(&admin.tokens, "refresh_token").to_owned();
    let second = refresh(&world, &first).await.ok();
    world
        .sql("UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE used_at IS NOT NULL")
        .await;
    refresh(&world, &first).await.problem(401, "unauthenticated");
    refresh(&world, text(&second, "refresh_token"))
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn refresh_tokens_and_their_families_expire() {
    let world = World::new().await;
    for column in ["expires_at", "family_expires_at"] {
        let admin = world.admin().await;
        world
            .sql(&format!(
                "UPDATE refresh_tokens SET {column} = now() - interval '1 second'"
            ))
            .await;
        refresh(&world, text(&admin.tokens, "refresh_token"))
            .await
            .problem(401, "unauthenticated");
    }
    for nonsense in ["", "upr_x", "x"] {
        refresh(&world, nonsense).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn signing_out_ends_this_sign_in_only() {
    let world = World::new().await;
    let (here, there) = (world.admin().await, world.admin().await);
    assert_eq!(here.act("/api/auth/logout").await.status, 204);
    here.get("/api/auth/me").await.problem(401, "unauthenticated");
    refresh(&world, text(&here.tokens, "refresh_token"))
        .await
        .problem(401, "unauthenticated");
    there.get("/api/auth/me").await.ok();
    // With the refresh token in the body, too.
    let answer = there
        .post(
            "/api/auth/logout",
            json!({"refresh_token": there.tokens["refresh_token"]}),
        )
        .await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn a_password_that_must_change_opens_nothing_else() {
    let world = World::new().await;
    let admin = world.admin().await;
    let new = json!({"username": "newcomer", "email": "n@example.com", "role": "member", "password": PASSWORD,
                     "must_change_password": true});
    admin.post("/api/users", new).await.created();
    let newcomer = world.sign_in("newcomer", PASSWORD).await;
    assert_eq!(newcomer.tokens["user"]["must_change_password"], true);
    newcomer
        .get("/api/projects")
        .await
        .problem(403, "password_change_required");
    newcomer.get("/api/auth/me").await.ok();
    let elsewhere = world.sign_in("newcomer", PASSWORD).await;

    let change = |current: &str, new: &str| json!({"current_password": current, "new_password": new});
    let path = "/api/auth/change-password";
    newcomer
        .post(path, change("not the password", "another password"))
        .await
        .problem(401, "invalid_credentials");
    for bad in ["short", "passwordpassword", PASSWORD, &"x".repeat(73)] {
        assert_eq!(
            newcomer.post(path, change(PASSWORD, bad)).await.bad_fields(),
            ["/new_password"],
            "{bad}"
        );
    }
    assert_eq!(
        newcomer
            .post(path, change(PASSWORD, "another password"))
            .await
            .status,
        204
    );
    newcomer.get("/api/projects").await.ok();
    elsewhere
        .get("/api/auth/me")
        .await
        .problem(401, "unauthenticated");
    world.sign_in("newcomer", "another password").await;
}

#[tokio::test]
async fn what_ends_a_sign_in_elsewhere_is_noticed_within_seconds() {
    let world = World::new().await;
    let admin = world.admin().await;
    let member = world.person(&admin, "member", "member").await;
    member.get("/api/auth/me").await.ok();
    // As another gateway would do it.
    world
        .sql("UPDATE memberships SET is_active = false WHERE role = 'member'")
        .await;
    let begun = std::time::Instant::now();
    eventually("the membership's end is noticed", async || {
        (member.get("/api/auth/me").await.status == 401).then_some(())
    })
    .await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn signing_out_works_with_the_refresh_token_alone() {
    let world = World::new().await;
    let admin = world.admin().await;
    let token = text(&admin.tokens, "refresh_token").to_owned();
    let anonymous = world.anonymous();
    let path = "/api/auth/logout";
    anonymous.act(path).await.problem(401, "unauthenticated");
    anonymous
        .post(path, json!({"refresh": token}))
        .await
        .problem(401, "unauthenticated");
    for unknown in ["x", identity::RefreshToken::generate().expose()] {
        let answer = anonymous.post(path, json!({"refresh_token": unknown})).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
    admin.get("/api/auth/me").await.ok();
    let expired = Client::with_token(&world, "x");
    for _ in 0..2 {
        let answer = expired.post(path, json!({"refresh_token": token})).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
    admin.get("/api/auth/me").await.problem(401, "unauthenticated");
    refresh(&world, &token).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn signed_in_devices_are_listed_and_ended() {
    let world = World::new().await;
    let admin = world.admin().await;
    let other = world.admin().await;
    let vera = world.person(&admin, "vera", "viewer").await;
    let refreshed = refresh(&world, text(&other.tokens, "refresh_token")).await.ok();
    let devices = admin.get("/api/auth/sign-ins?limit=1").await.ok();
    let [latest] = devices["items"].as_array().unwrap().as_slice() else {
        panic!("{devices}")
    };
    assert_eq!(latest["is_current"], false);
    assert_eq!(latest["company_id"], admin.tokens["user"]["company"]["id"]);
    assert!(latest["last_used_at"].as_str().unwrap() > latest["created_at"].as_str().unwrap());
    let cursor = text(&devices, "next_cursor");
    let rest = admin
        .get(&format!("/api/auth/sign-ins?cursor={cursor}"))
        .await
        .ok();
    let [own] = rest["items"].as_array().unwrap().as_slice() else {
        panic!("{rest}")
    };
    assert_eq!(
        (&own["is_current"], &rest["next_cursor"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(own["created_at"], own["last_used_at"]);

    let path = format!("/api/auth/sign-ins/{}", text(latest, "id"));
    vera.delete(&path).await.problem(404, "not_found");
    vera.delete("/api/auth/sign-ins/x")
        .await
        .problem(404, "not_found");
    assert_eq!(admin.delete(&path).await.status, 204);
    admin.delete(&path).await.problem(404, "not_found");
    other.get("/api/auth/me").await.problem(401, "unauthenticated");
    refresh(&world, text(&refreshed, "refresh_token"))
        .await
        .problem(401, "unauthenticated");
    assert_eq!(admin.get("/api/auth/sign-ins").await.ok()["items"], json!([own]));
}

#[tokio::test]
async fn a_person_goes_on_in_another_of_their_companies() {
    let world = World::new().await;
    let admin = world.admin().await;
    let elsewhere = world.other_company(&admin, "ELSEWHERE").await;
    let vera = world.person(&admin, "vera", "viewer").await;
    let (theirs, own) = (elsewhere.company_id(), vera.company_id());
    let there = json!({ "company_id": theirs });
    vera.post("/api/auth/switch-company", there.clone())
        .await
        .problem(404, "not_found");
    world
        .sql(&format!(
            "INSERT INTO memberships (company_id, user_id, role) VALUES ('{theirs}', '{}', 'member')",
            text(&vera.tokens["user"], "id")
        ))
        .await;
    let switched = Client {
        world: &world,
        tokens: vera.post("/api/auth/switch-company", there).await.ok(),
    };
    let me = switched.get("/api/auth/me").await.ok();
    assert_eq!(me, switched.tokens["user"]);
    assert_eq!(
        (text(&me["company"], "company_code"), text(&me, "role")),
        ("ELSEWHERE", "member")
    );
    vera.get("/api/auth/me").await.problem(401, "unauthenticated");
    let devices = switched.get("/api/auth/sign-ins").await.ok();
    assert_eq!(devices["items"].as_array().unwrap().len(), 1, "{devices}");
    let back = json!({ "company_id": own });
    let back = switched.post("/api/auth/switch-company", back).await.ok();
    assert_eq!(text(&back["user"], "role"), "viewer");
}

#[tokio::test]
async fn people_change_their_own_name_and_address() {
    let world = World::new().await;
    let admin = world.admin().await;
    let vera = world.person(&admin, "vera", "viewer").await;
    world
        .sql("UPDATE users SET username = email WHERE username = 'vera'")
        .await;
    let named = vera
        .patch("/api/auth/me", json!({ "full_name": "Vera V." }))
        .await
        .ok();
    assert_eq!(
        (text(&named, "full_name"), text(&named, "role")),
        ("Vera V.", "viewer")
    );
    assert_eq!(vera.get("/api/auth/me").await.ok(), named);

    let to = |email: &str, password: &str| json!({ "email": email, "current_password": password });
    let answer = vera.patch("/api/auth/me", json!({ "email": "v@x.org" })).await;
    assert_eq!(answer.bad_fields(), ["/current_password"]);
    assert_eq!(
        vera.patch("/api/auth/me", to("x", PASSWORD)).await.bad_fields(),
        ["/email"]
    );
    vera.patch("/api/auth/me", to("v@x.org", "wrong password!"))
        .await
        .problem(401, "invalid_credentials");
    vera.patch("/api/auth/me", to("ADMIN@localhost", PASSWORD))
        .await
        .problem(409, "email_taken");
    for unknown in ["role", "is_platform_admin", "username"] {
        let answer = vera.patch("/api/auth/me", json!({ unknown: "owner" })).await;
        assert_eq!(answer.bad_fields(), [format!("/{unknown}")]);
    }
    let changed = vera.patch("/api/auth/me", to("v@x.org", PASSWORD)).await.ok();
    assert_eq!(
        (text(&changed, "email"), text(&changed, "username")),
        ("v@x.org", "v@x.org")
    );
    world.sign_in("V@x.org", PASSWORD).await;
}
