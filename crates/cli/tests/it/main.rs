//! The command as its users meet it: the real binary against a scripted API over real HTTP.

// Clippy spares the tests themselves, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod following;
mod leftovers;
mod lists;
mod plans;
mod receipts;
mod server;
mod sign_in;

use server::FakeApi;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// No command takes that long; one that does fails its test instead of holding it up.
const PATIENCE: Duration = Duration::from_secs(60);
const SESSION: &str = "0197f000-0000-7000-8000-000000000001";
const CYCLE: &str = "0197f000-0000-7000-8000-0000000000c1";
const PROJECT: &str = "0197f000-0000-7000-8000-0000000000b1";

/// A user with a configuration file of their own.
struct User {
    folder: TempDir,
    api_url: String,
}

impl User {
    fn of(api: &FakeApi) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            api_url: api.url(),
        }
    }

    /// A user who has signed in: the file is as `login` leaves it.
    fn signed_in(api: &FakeApi) -> Self {
        let user = Self::of(api);
        let config = serde_json::json!({
            "api_url": user.api_url, "username": "ada", "access_token": "access-1", "refresh_token": "refresh-1"
        });
        std::fs::write(user.config_path(), config.to_string()).unwrap();
        user
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn config(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.config_path()).unwrap()).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uploader"));
        command
            .args(args)
            .env_clear()
            .env("UPLOADER_API_URL", &self.api_url)
            .env("UPLOADER_CONFIG", self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    async fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.spawn(args)).await
    }

    async fn run_with_stdin(&self, args: &[&str], stdin: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .await
            .unwrap();
        Ran::of(child).await
    }
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Waits for its end.
    async fn of(child: Child) -> Self {
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        self.stdout.lines().map(parse).collect()
    }
}
