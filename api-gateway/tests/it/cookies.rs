//! Browsers: tokens in cookies, and nothing changed by a page of somebody else.

use crate::fixture::{ADMIN_PASSWORD, Answer, Client, World, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A browser with its cookies.
struct Browser<'w> {
    world: &'w World,
    /// As in `Set-Cookie`: the value, and the attributes.
    cookies: BTreeMap<String, (String, String)>,
}

impl<'w> Browser<'w> {
    fn new(world: &'w World) -> Self {
        Self {
            world,
            cookies: BTreeMap::new(),
        }
    }

    async fn signed_in(world: &'w World) -> (Self, Value) {
        let mut browser = Self::new(world);
        let user = browser.sign_in(&[]).await.ok();
        (browser, user)
    }

    async fn sign_in(&mut self, headers: &[(&str, &str)]) -> Answer {
        let body = json!({ "username": "admin", "password": ADMIN_PASSWORD, "use_cookies": true });
        self.send(Method::POST, "/api/auth/login", headers, Some(body))
            .await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.world.anonymous().request(method, path);
        let cookies = self
            .cookies
            .iter()
            .filter(|(_, (_, attributes))| attributes.contains("Path=/;") || path.starts_with("/api/auth/"));
        let cookies: Vec<String> = cookies
            .map(|(name, (value, _))| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = Client::send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                let kept = (value.to_owned(), format!("{attributes};"));
                self.cookies.insert(name.to_owned(), kept);
            }
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    async fn csrf_token(&mut self) -> String {
        text(&self.get("/api/auth/csrf").await.ok(), "csrf_token").to_owned()
    }

    /// Changes something.
    async fn create(&mut self, name: &str, headers: &[(&str, &str)]) -> Answer {
        let project = json!({ "name": name, "bucket": "bucket-of-it" });
        self.send(Method::POST, "/api/projects", headers, Some(project))
            .await
    }
}

#[tokio::test]
async fn a_browser_signs_in_goes_on_and_signs_out() {
    let world = World::new().await;
    let (mut browser, answer) = Browser::signed_in(&world).await;
    let fields: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["expires_in", "token_type", "user"]);
    for (name, path) in [("uploader_access", "/"), ("uploader_refresh", "/api/auth")] {
        let (_, attributes) = &browser.cookies[name];
        for expected in ["HttpOnly;", "SameSite=Strict;", &format!("Path={path};")] {
            assert!(attributes.contains(expected), "{name}: {attributes}");
        }
        assert!(
            !attributes.contains("Secure"),
            "over plain HTTP it would not be kept"
        );
    }
    assert_eq!(browser.get("/api/auth/me").await.ok(), answer["user"]);

    // The access token has expired, and the page was loaded anew.
    browser.cookies.remove("uploader_access");
    browser.get("/api/auth/me").await.problem(401, "unauthenticated");
    let token = browser.csrf_token().await;
    let before = browser.cookies["uploader_refresh"].0.clone();
    let refresh = "/api/auth/refresh";
    browser
        .send(Method::POST, refresh, &[], None)
        .await
        .problem(403, "csrf_failed");
    let proof = [("x-csrf-token", token.as_str())];
    let refreshed = browser.send(Method::POST, refresh, &proof, None).await.ok();
    assert!(refreshed.get("refresh_token").is_none());
    assert_ne!(browser.cookies["uploader_refresh"].0, before);
    browser.create("One", &proof).await.created();

    browser.cookies.remove("uploader_access");
    let logout = "/api/auth/logout";
    browser
        .send(Method::POST, logout, &[], None)
        .await
        .problem(403, "csrf_failed");
    let kept = browser.cookies.clone();
    let answer = browser.send(Method::POST, logout, &proof, None).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert!(browser.cookies.is_empty());
    browser.cookies = kept;
    browser
        .send(Method::POST, refresh, &proof, None)
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn only_pages_of_ours_change_anything() {
    let world = World::new().await;
    let (mut browser, _) = Browser::signed_in(&world).await;
    let (mut another, _) = Browser::signed_in(&world).await;
    let (token, others) = (browser.csrf_token().await, another.csrf_token().await);
    let refused: [&[(&str, &str)]; 7] = [
        &[],
        &[("x-csrf-token", "")],
        &[("x-csrf-token", &others)],
        &[("x-csrf-token", &token[1..])],
        &[("x-csrf-token", &token), ("origin", "https://evil.example")],
        &[("x-csrf-token", &token), ("origin", "null")],
        &[("x-csrf-token", &token), ("sec-fetch-site", "cross-site")],
    ];
    for headers in refused {
        browser.create("No", headers).await.problem(403, "csrf_failed");
    }
    let own = [
        ("x-csrf-token", token.as_str()),
        ("origin", world.url.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    browser.create("Yes", &own).await.created();
    let projects = browser.get("/api/projects").await.ok();
    assert_eq!(projects["items"].as_array().unwrap().len(), 1, "{projects}");
    // Nor is a browser signed in by a page of others.
    Browser::new(&world)
        .sign_in(&[("origin", "https://evil.example")])
        .await
        .problem(403, "csrf_failed");
}

#[tokio::test]
async fn a_bearer_counts_and_the_cookies_beside_it_do_not() {
    let world = World::new().await;
    let (mut browser, _) = Browser::signed_in(&world).await;
    let admin = world.admin().await;
    let bearer = format!("Bearer {}", admin.token().unwrap());
    browser
        .create("One", &[("authorization", &bearer)])
        .await
        .created();
    let answer = browser.send(
        Method::GET,
        "/api/auth/me",
        &[("authorization", "Bearer x")],
        None,
    );
    answer.await.problem(401, "unauthenticated");

    let (value, attributes) = browser.cookies["uploader_access"].clone();
    for tampered in [format!("{value}x"), value[1..].to_owned(), String::new()] {
        let cookie = (tampered, attributes.clone());
        browser.cookies.insert("uploader_access".to_owned(), cookie);
        browser.get("/api/auth/me").await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn behind_tls_cookies_are_bound_to_the_host_and_to_tls() {
    let redis = crate::fixture::shared_redis().await;
    let world = World::with(&redis, &[("PUBLIC_URL", "https://uploads.example.com/x/")]).await;
    let (mut browser, _) = Browser::signed_in(&world).await;
    for name in ["__Host-uploader_access", "__Secure-uploader_refresh"] {
        assert!(
            browser.cookies[name].1.contains("Secure;"),
            "{:?}",
            browser.cookies
        );
    }
    let token = browser.csrf_token().await;
    let from = |origin| [("x-csrf-token", token.as_str()), ("origin", origin)];
    browser
        .create("No", &from("http://uploads.example.com"))
        .await
        .problem(403, "csrf_failed");
    browser
        .create("Yes", &from("https://uploads.example.com"))
        .await
        .created();
}

/// The stream looks again and again whether the sign-in still counts.
#[tokio::test]
async fn a_browser_follows_a_session() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("Followed").await;
    let (browser, _) = Browser::signed_in(&world).await;
    let path = format!("/api/sessions/{}/events", text(&session, "id"));
    let cookie = format!("uploader_access={}", browser.cookies["uploader_access"].0);
    let request = world
        .anonymous()
        .request(Method::GET, &path)
        .header("cookie", cookie);
    let mut response = request.send().await.unwrap();
    let mut seen = String::new();
    let reading = async {
        // That comes when nothing has changed for longer than the sign-in is taken to count.
        while !seen.contains(": still here") {
            let bytes = response.chunk().await.unwrap();
            let bytes = bytes.unwrap_or_else(|| panic!("the stream has ended: {seen}"));
            seen.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    let read = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await;
    read.expect("a comment in time");
}

#[tokio::test]
async fn a_browser_goes_on_in_another_company_and_no_longer_than_before() {
    let world = World::new().await;
    let admin = world.admin().await;
    let theirs = world.other_company(&admin, "ELSEWHERE").await.company_id();
    world
        .sql(&format!(
            "INSERT INTO memberships (company_id, user_id, role) VALUES ('{theirs}', '{}', 'member')",
            text(&admin.tokens["user"], "id")
        ))
        .await;
    let (mut browser, _) = Browser::signed_in(&world).await;
    let ends = "SELECT DISTINCT family_expires_at FROM refresh_tokens WHERE family_id =
                (SELECT family_id FROM refresh_tokens ORDER BY id DESC LIMIT 1)";
    let before = world.sql(ends).await;
    let token = browser.csrf_token().await;
    let kept = browser.cookies.clone();
    let (path, body) = ("/api/auth/switch-company", json!({ "company_id": theirs }));
    let proof = [("x-csrf-token", token.as_str())];
    let switched = browser
        .send(Method::POST, path, &proof, Some(body.clone()))
        .await
        .ok();
    assert!(switched.get("access_token").is_none());
    assert_eq!(world.sql(ends).await, before);
    let me = browser.get("/api/auth/me").await.ok();
    assert_eq!(text(&me["company"], "company_code"), "ELSEWHERE");
    assert_ne!(browser.csrf_token().await, token, "it is another sign-in");
    browser.cookies = kept;
    browser
        .send(Method::POST, path, &proof, Some(body))
        .await
        .problem(401, "unauthenticated");
}
