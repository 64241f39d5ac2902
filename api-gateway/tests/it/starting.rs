//! How the gateway starts, and says why when it cannot.

use crate::fixture::{World, cluster, free_port, text};
use serde_json::json;
use std::process::{Command, Output};

fn gateway(environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_api-gateway"));
    command
        .env_clear()
        .envs(environment.iter().copied())
        .env("PATH", "/usr/bin:/bin");
    command.output().unwrap()
}

#[test]
fn a_bad_variable_is_named_and_ends_it_at_once() {
    let output = gateway(&[("SECRETS_KEY", "c2hvcnQ="), ("LISTEN_ADDR", "nowhere")]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for variable in [
        "DATABASE_URL is missing",
        "SECRETS_KEY must be",
        "LISTEN_ADDR must be",
        "JWT_PRIVATE_KEY_FILE is missing",
    ] {
        assert_eq!(
            text.lines().filter(|line| line.starts_with(variable)).count(),
            1,
            "{variable}: {text}"
        );
    }
    assert!(!text.contains("c2hvcnQ="));
}

#[test]
fn help_lists_the_variables() {
    let output = Command::new(env!("CARGO_BIN_EXE_api-gateway"))
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "DATABASE_URL",
        "SOURCE_ROOTS",
        "INITIAL_ADMIN_PASSWORD",
        "migrate",
        "openapi",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_key_is_generated() {
    let output = Command::new(env!("CARGO_BIN_EXE_api-gateway"))
        .arg("keygen")
        .output()
        .unwrap();
    let pem = secrecy::SecretString::from(String::from_utf8(output.stdout).unwrap());
    assert!(identity::TokenSigner::from_pem(&pem, "http://x").is_ok());
}

#[tokio::test]
async fn without_a_given_password_one_is_printed_once_and_must_be_changed() {
    let world = World::with("redis://127.0.0.1:1", &[("INITIAL_ADMIN_PASSWORD", "")]).await;
    let log = world.log();
    let line = log
        .lines()
        .find(|line| line.contains("one-time password"))
        .unwrap();
    let password = line.split('"').nth(3).unwrap();
    assert_eq!(log.matches(password).count(), 1);
    let admin = world.sign_in("admin", password).await;
    assert_eq!(admin.tokens["user"]["must_change_password"], true);
    admin
        .get("/api/projects")
        .await
        .problem(403, "password_change_required");
}

#[tokio::test]
async fn migrate_may_run_again() {
    let urls = cluster().await.fresh_database().await.unwrap();
    for _ in 0..2 {
        let output = Command::new(env!("CARGO_BIN_EXE_api-gateway"))
            .arg("migrate")
            .env("DATABASE_URL", &urls.app_url)
            .env("MIGRATION_DATABASE_URL", &urls.owner_url)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn without_postgres_requests_hear_503_and_health_says_which() {
    let world = World::new().await;
    let admin = world.admin().await;
    // Its connections are cut and no new ones are let in.
    let name = &world.urls.name;
    let sql = format!(
        "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    cluster()
        .await
        .postgres()
        .run_sql("postgres", &sql)
        .await
        .unwrap();
    let answer = admin.get("/api/projects").await;
    answer.problem(503, "database_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    let ready = admin.get("/health/ready").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["checks"]["postgres"]["ok"]),
        (503, &json!(false))
    );
    assert_eq!(text(&ready.json(), "status"), "unavailable");
    assert!(!ready.text.contains(name), "no cause is shown: {}", ready.text);
    let sql = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true");
    cluster()
        .await
        .postgres()
        .run_sql("postgres", &sql)
        .await
        .unwrap();
    admin.get("/api/projects").await.ok();
}

#[tokio::test]
async fn postgres_is_waited_for_and_then_named() {
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("jwt.pem");
    std::fs::write(&key_file, dev_stack::signing_key_pem().unwrap()).unwrap();
    let url = format!("postgres://app:hunter2@127.0.0.1:{port}/none");
    let begun = std::time::Instant::now();
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("JWT_PRIVATE_KEY_FILE", key_file.to_str().unwrap()),
        ("SECRETS_KEY", &dev_stack::secrets_key()),
        ("SOURCE_ROOTS", "samples=/tmp"),
    ];
    let owned: Vec<(String, String)> = environment
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    let waiting = tokio::task::spawn_blocking(move || {
        let environment: Vec<(&str, &str)> = owned.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        gateway(&environment)
    });
    let output = waiting.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.lines().count() > 3 && text.contains("trying again"),
        "{text}"
    );
    assert!(text.lines().last().unwrap().contains("DATABASE_URL"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(begun.elapsed() > std::time::Duration::from_secs(25));
}

/// The environment of a gateway on `urls` that may start.
async fn environment(
    urls: &dev_stack::test_cluster::TestDatabase,
    key_file: &std::path::Path,
) -> Vec<(String, String)> {
    std::fs::write(key_file, dev_stack::signing_key_pem().unwrap()).unwrap();
    [
        ("DATABASE_URL", urls.app_url.as_str()),
        ("MIGRATION_DATABASE_URL", urls.owner_url.as_str()),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("JWT_PRIVATE_KEY_FILE", key_file.to_str().unwrap()),
        ("SECRETS_KEY", &dev_stack::secrets_key()),
        ("SOURCE_ROOTS", "samples=/tmp"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[tokio::test]
async fn what_stands_against_a_first_admin_is_named() {
    let urls = cluster().await.fresh_database().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut variables = environment(&urls, &dir.path().join("jwt.pem")).await;
    let start = async |variables: &[(String, String)]| {
        let variables = variables.to_vec();
        let starting = tokio::task::spawn_blocking(move || {
            let pairs: Vec<_> = variables.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            gateway(&pairs)
        });
        let output = starting.await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };

    variables.push(("INITIAL_ADMIN_PASSWORD".into(), "password1234".into()));
    let (code, text) = start(&variables).await;
    assert_eq!(code, Some(2), "{text}");
    // Before it stands what a program with fail-points says of itself.
    let cause = text.lines().last();
    assert_eq!(cause, Some("api-gateway: INITIAL_ADMIN_PASSWORD is too common"));

    variables.pop();
    let sql =
        "INSERT INTO companies (id, company_name, company_code) VALUES (gen_random_uuid(), 'x', 'DEFAULT')";
    cluster().await.postgres().run_sql(&urls.name, sql).await.unwrap();
    let (code, text) = start(&variables).await;
    assert_eq!(code, Some(1), "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.contains("first admin") && last.contains("companies_company_code_key"),
        "{text}"
    );
}
