//! Signing in, keeping and renewing the tokens, signing out, and what is said when it does not go.

use crate::server::{Answer, Asked, FakeApi, problem};
use crate::{Ran, User};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;

fn tokens(number: u32) -> Answer {
    Answer::Json(
        200,
        json!({
            "access_token": format!("access-{number}"), "refresh_token": format!("refresh-{number}"),
            "token_type": "Bearer", "expires_in": 1800, "user": {"username": "ada"}
        }),
    )
}

/// Takes access token `access-2` only, which `refresh-1` gives, once.
fn takes_second_token() -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let refreshed = AtomicU32::new(0);
    move |asked| match asked.line.as_str() {
        "POST /api/auth/refresh" if asked.body["refresh_token"] == "refresh-1" => {
            match refreshed.fetch_add(1, Ordering::SeqCst) {
                0 => tokens(2),
                _ => problem(401, "token_reused", "The refresh token was used already"),
            }
        }
        _ if asked.is_authorized("access-2") => {
            Answer::Json(200, json!({"username": "ada", "role": "member"}))
        }
        _ => problem(401, "token_expired", "The access token has expired"),
    }
}

#[tokio::test]
async fn login_keeps_the_tokens_for_their_owner_only() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        "POST /api/auth/login" if asked.body["password"] == "pass word " => tokens(1),
        _ => problem(401, "invalid_credentials", "Wrong name or password"),
    })
    .await;
    let user = User::of(&api);
    let args = ["login", "--username", "ada", "--password-stdin"];
    let ran = user.run_with_stdin(&args, "pass word \nmore").await.exits(0);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("as ada"), "{}", ran.stderr);
    assert_eq!(
        user.config(),
        json!({"api_url": api.url(), "username": "ada", "access_token": "access-1", "refresh_token": "refresh-1"})
    );
    let mode = std::fs::metadata(user.config_path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        api.asked()[0].body,
        json!({"username": "ada", "password": "pass word "})
    );

    let ran = user.run_with_stdin(&args, "wrong\n").await.exits(1);
    assert_eq!(
        ran.stderr,
        "error: Wrong name or password\nrequest id: r-42\nhint: check the name and the password\n"
    );
    assert_eq!(
        user.config()["access_token"],
        "access-1",
        "a failed login changes nothing"
    );
}

#[tokio::test]
async fn json_of_login_has_no_tokens() {
    let api = FakeApi::start(|_| tokens(1)).await;
    let ran = User::of(&api)
        .run_with_stdin(
            &["--json", "login", "--username", "ada", "--password-stdin"],
            "p\n",
        )
        .await
        .exits(0);
    assert_eq!(
        ran.json(),
        json!({"api_url": api.url(), "user": {"username": "ada"}})
    );
}

#[tokio::test]
async fn a_second_factor_is_sent_where_one_is_set() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        "POST /api/auth/login" => Answer::Json(200, json!({"mfa_required": true, "mfa_token": "m"})),
        "POST /api/auth/mfa" if asked.body == json!({"mfa_token": "m", "code": "123456"}) => tokens(1),
        _ => problem(401, "invalid_code", "Wrong code"),
    })
    .await;
    let user = User::of(&api);
    let args = [
        "login",
        "--username",
        "ada",
        "--password-stdin",
        "--mfa-code",
        "123456",
    ];
    user.run_with_stdin(&args, "p\n").await.exits(0);
    assert_eq!(user.config()["access_token"], "access-1");
}

#[tokio::test]
async fn an_expired_access_token_is_renewed_and_the_new_pair_kept() {
    let api = FakeApi::start(takes_second_token()).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["whoami"]).await.exits(0);
    assert!(
        ran.stdout.contains("ada") && ran.stdout.contains("member"),
        "{}",
        ran.stdout
    );
    assert_eq!(user.config()["access_token"], "access-2");
    assert_eq!(user.config()["refresh_token"], "refresh-2");
    assert_eq!(user.config()["username"], "ada");
    user.run(&["whoami"]).await.exits(0);
    assert_eq!(
        api.asked_for("POST /api/auth/refresh").len(),
        1,
        "the new token was not used"
    );
}

#[tokio::test]
async fn commands_at_once_spend_a_refresh_token_once() {
    let api = FakeApi::start(takes_second_token()).await;
    let user = User::signed_in(&api);
    let ran = futures::future::join_all((0..5).map(|_| user.run(&["whoami"]))).await;
    for ran in ran {
        ran.exits(0);
    }
    assert_eq!(api.asked_for("POST /api/auth/refresh").len(), 1);
}

#[tokio::test]
async fn a_sign_in_that_ended_is_forgotten_and_said() {
    let api = FakeApi::start(|_| problem(401, "token_reused", "The refresh token was used already")).await;
    let user = User::signed_in(&api);
    let ran = user.run(&["--json", "projects", "list"]).await.exits(1);
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains("has ended") && ran.stderr.contains("uploader login"),
        "{}",
        ran.stderr
    );
    assert!(user.config()["refresh_token"].is_null());
    assert_eq!(user.config()["api_url"], api.url());
}

#[tokio::test]
async fn trouble_while_renewing_does_not_end_the_sign_in() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        "POST /api/auth/refresh" => problem(503, "unavailable", "The database is down"),
        _ => problem(401, "token_expired", "The access token has expired"),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["whoami"]).await.exits(1);
    assert!(ran.stderr.contains("The database is down"), "{}", ran.stderr);
    assert_eq!(user.config()["refresh_token"], "refresh-1");
}

#[tokio::test]
async fn logout_ends_the_sign_in_here_and_there() {
    let api = FakeApi::start(|_| Answer::Json(204, json!(null))).await;
    let user = User::signed_in(&api);
    user.run(&["logout"]).await.exits(0);
    assert!(api.asked()[0].is_authorized("access-1"));
    assert_eq!(api.asked()[0].body["refresh_token"], "refresh-1");
    assert_eq!(user.config(), json!({"api_url": api.url()}));
    let ran = user.run(&["whoami"]).await.exits(1);
    assert!(
        ran.stderr.contains("you are not signed in") && ran.stderr.contains("uploader login"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn the_tokens_of_one_server_are_not_sent_to_another() {
    let home = FakeApi::start(|_| Answer::Json(200, json!({}))).await;
    let other = FakeApi::start(|_| Answer::Json(200, json!({}))).await;
    let user = User::signed_in(&home);
    let ran = user.run(&["--api-url", &other.url(), "whoami"]).await.exits(1);
    assert!(ran.stderr.contains(&home.url()), "{}", ran.stderr);
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_given_token_is_used_and_never_renewed() {
    let api = FakeApi::start(|asked| {
        if asked.is_authorized("given") {
            Answer::Json(200, json!({"username": "robot"}))
        } else {
            problem(401, "invalid_token", "The token is not valid")
        }
    })
    .await;
    let user = User::signed_in(&api);
    let mut command = user.command(&["whoami", "--json"]);
    let ran = Ran::of(command.env("UPLOADER_TOKEN", "given").spawn().unwrap())
        .await
        .exits(0);
    assert_eq!(ran.json()["username"], "robot");
    let mut command = user.command(&["whoami"]);
    Ran::of(command.env("UPLOADER_TOKEN", "stale").spawn().unwrap())
        .await
        .exits(1);
    assert!(api.asked_for("POST").is_empty());
    assert_eq!(user.config()["access_token"], "access-1");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{address}");
    let api = FakeApi::start(|_| Answer::Json(200, json!({}))).await;
    let ran = User::of(&api)
        .run_with_stdin(
            &["--api-url", &url, "login", "--username", "a", "--password-stdin"],
            "p\n",
        )
        .await
        .exits(1);
    assert!(
        ran.stderr.contains(&url) && ran.stderr.contains("refused"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_password_that_must_be_changed_can_be() {
    let api = FakeApi::start(|asked| match asked.line.as_str() {
        "POST /api/auth/change-password" => Answer::Json(204, json!(null)),
        _ => problem(
            403,
            "password_change_required",
            "The password must be changed first",
        ),
    })
    .await;
    let user = User::signed_in(&api);
    let ran = user.run(&["projects", "list"]).await.exits(1);
    assert!(ran.stderr.contains("uploader change-password"), "{}", ran.stderr);
    user.run_with_stdin(&["change-password", "--passwords-stdin"], "old\nnew one\n")
        .await
        .exits(0);
    let asked = api.asked().pop().unwrap();
    assert_eq!(
        asked.body,
        json!({"current_password": "old", "new_password": "new one"})
    );
}
