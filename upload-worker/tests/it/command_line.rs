//! The command line, as people and scripts use it.

use crate::fixture::{World, set_mode, shared};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Somebody's `uploader`, with a configuration of its own.
pub(crate) struct Shell {
    program: PathBuf,
    config: PathBuf,
    api_url: String,
    environment: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The JSON documents on stdout, a line each.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(line).collect()
    }
}

impl Shell {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        Self {
            program: world.program("uploader"),
            config: world.folder().join(format!("{name}.json")),
            api_url: world.stack.api_url(),
            environment: Vec::new(),
        }
    }

    /// The same with these variables.
    pub(crate) fn with(&self, environment: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            program: self.program.clone(),
            config: self.config.clone(),
            api_url: self.api_url.clone(),
            environment: environment.iter().map(owned).collect(),
        }
    }

    /// Signs in as the first admin.
    pub(crate) async fn sign_in(&self, world: &World) {
        let password = format!("{}\n", world.stack.admin_password());
        self.run_with(&["login", "--username", "admin", "--password-stdin"], &password)
            .await
            .succeeded();
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "").await
    }

    async fn run_with(&self, arguments: &[&str], stdin: &str) -> Ended {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("UPLOADER_API_URL", &self.api_url)
            .env("UPLOADER_CONFIG", &self.config)
            .env_remove("UPLOADER_TOKEN")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // It may end without reading.
        let _ = pipe.write_all(stdin.as_bytes()).await;
        drop(pipe);
        let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("{arguments:?} does not end"))
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_delivery_from_the_sign_in_to_the_retry() {
    let world = shared().await;
    // Its project is made by hand here; this one lends its source and its server.
    let mut place = world.place("shell").await;
    place.source.write_many(120);
    let shell = Shell::new(world, "shell");
    let password = world.stack.admin_password();

    let refused = shell.run(&["projects", "list"]).await;
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(refused.stderr.contains("uploader login"), "{refused:#?}");
    let login = ["login", "--username", "admin", "--password-stdin"];
    assert_eq!(shell.run_with(&login, "not the password\n").await.code, 1);
    shell.run_with(&login, &format!("{password}\n")).await.succeeded();
    let mode = std::fs::metadata(&shell.config).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        shell.run(&["whoami", "--json"]).await.succeeded().json()["username"],
        "admin"
    );

    let create = [
        "projects",
        "create",
        "--json",
        "--name",
        "By hand",
        "--bucket",
        place.bucket.as_str(),
        "--region",
        "us-east-1",
        "--prefix",
        "deliveries/",
        "--endpoint-url",
        &place.s3.endpoint_url(),
        "--access-key-id",
        place.s3.access_key_id(),
        "--secret-access-key-stdin",
    ];
    let secret = format!("{}\n", place.s3.secret_access_key());
    let project = shell.run_with(&create, &secret).await.succeeded().json();
    assert_eq!(
        (&project["name"], &project["has_credentials"]),
        (&"By hand".into(), &true.into()),
        "{project}"
    );
    let cycle = shell
        .run(&["cycles", "create", "--json", "--project", "By hand"])
        .await
        .succeeded()
        .json();
    assert_eq!(cycle["cycle_name"], "C1");
    let roots = shell.run(&["roots", "list", "--json"]).await.succeeded().json();
    let names: Vec<&str> = roots
        .as_array()
        .unwrap()
        .iter()
        .map(|root| root["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"files") && !names.contains(&"foreign"),
        "{names:?}"
    );

    // All arrives: 0.
    let path = place.source_path().to_owned();
    let upload = [
        "upload",
        "--project",
        "By hand",
        "--cycle",
        "C1",
        "--root",
        "files",
        &path,
    ];
    let done = shell.run(&upload).await.succeeded();
    assert!(done.stdout.contains("120"), "{done:#?}");
    let sessions = shell
        .run(&["sessions", "list", "--json", "--project", "By hand"])
        .await
        .succeeded()
        .json();
    let session = place.api.session(&id(&sessions[0])).await;
    place.assert_delivered(&session).await;

    // Some does not: 3; the lines end with the session.
    let secret_file = place.source.write_unexpected(b"secret", "secret");
    set_mode(&secret_file, 0o000);
    let partly = shell.run(&[&upload[..], &["--json"]].concat()).await;
    assert_eq!(partly.code, 3, "{partly:#?}");
    let last = partly.json_lines().pop().unwrap();
    assert_eq!(
        (&last["status"], &last["files"]["failed"]),
        (&"completed_with_errors".into(), &1.into()),
        "{last}"
    );
    let session = id(&last);
    let files = shell
        .run(&["files", &session, "--json", "--status", "failed"])
        .await
        .succeeded()
        .json();
    assert_eq!(
        (&files[0]["path"], &files[0]["error_code"]),
        (&"secret".into(), &"permission_denied".into())
    );
    let all = shell
        .run(&["files", &session, "--json", "--all"])
        .await
        .succeeded()
        .json();
    assert_eq!(all.as_array().unwrap().len(), 121);
    let failures = shell.run(&["failures", &session]).await.succeeded();
    assert!(failures.stdout.contains("permission_denied"), "{failures:#?}");
    assert_eq!(
        shell.run(&["watch", &session]).await.code,
        3,
        "who watches later learns the same"
    );

    set_mode(&secret_file, 0o644);
    place.source.expected.insert("secret".into(), secret_file);
    shell.run(&["retry", &session, "--watch"]).await.succeeded();
    place.assert_delivered(&place.api.session(&session).await).await;

    // Nothing does: 1. Nonsense: 2.
    let nothing = shell.run(&[&upload[..7], &["not/there"]].concat()).await;
    assert_eq!(nothing.code, 1, "{nothing:#?}");
    assert!(
        format!("{nothing:?}").contains("source_unreadable"),
        "{nothing:#?}"
    );
    assert_eq!(shell.run(&["upload", "--what"]).await.code, 2);
    assert_eq!(
        shell
            .run(&[&upload[..], &["--part-size", "1"]].concat())
            .await
            .code,
        2
    );
    let unknown = shell
        .run(&["sessions", "show", "00000000-0000-7000-8000-000000000000"])
        .await;
    assert_eq!(unknown.code, 1, "{unknown:#?}");

    shell.run(&["logout"]).await.succeeded();
    assert_eq!(shell.run(&["whoami"]).await.code, 1);
}

#[tokio::test]
async fn an_upload_is_left_alone_watched_and_cancelled() {
    let world = shared().await;
    let mut place = world.place("detached").await;
    place.source.write_many(2_000);
    place.s3.set_latency(Duration::from_millis(100));
    let shell = Shell::new(world, "detached");
    let password = format!("{}\n", world.stack.admin_password());
    shell
        .run_with(&["login", "--username", "admin", "--password-stdin"], &password)
        .await
        .succeeded();
    let upload = [
        "upload",
        "--cycle",
        &place.cycle_id,
        "--root",
        "files",
        place.source_path(),
        "--concurrency",
        "4",
        "--detach",
        "--idempotency-key",
        "once",
    ];
    let session = shell.run(&upload).await.succeeded().stdout.trim().to_owned();
    let again = shell.run(&upload).await.succeeded().stdout.trim().to_owned();
    assert_eq!(session, again, "the same key gives the same session");
    place.api.in_the_middle(&session, 1).await;
    let watch = ["watch", &session, "--json"];
    let (watched, cancelled) = tokio::join!(shell.run(&watch), async {
        place.api.in_the_middle(&session, 20).await;
        shell.run(&["cancel", &session]).await
    });
    cancelled.succeeded();
    assert_eq!(watched.code, 1, "{watched:#?}");
    assert_eq!(watched.json_lines().pop().unwrap()["status"], "cancelled");
    place.s3.set_latency(Duration::ZERO);
    let session = place.api.ended_as(&session, "cancelled").await;
    place.assert_consistent(&session).await;
}
