//! The stack and `dev-stack dev`, with stand-ins for the product: what is tested is who is started with what,
//! watched and stopped. The product itself is tested on a stack by the end-to-end tests.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dev_stack::{Stack, StackOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const GATEWAY: &str = r#"#!/usr/bin/env python3
import http.server, os, pathlib, sys
host, port = os.environ["LISTEN_ADDR"].split(":")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()
        self.wfile.write(repr(dict(os.environ)).encode())
    def log_message(self, *_): pass
try:
    server = http.server.HTTPServer((host, int(port)), Handler)
except OSError as error:
    sys.exit(str(error))
server.serve_forever()
"#;
const WORKER: &str =
    "#!/bin/sh\necho \"LEASE_S=$LEASE_S EXTRA=$EXTRA SMTP_URL=$SMTP_URL\"\nexec sleep 100000\n";

fn stand_ins(folder: &Path) {
    for (name, script) in [("api-gateway", GATEWAY), ("upload-worker", WORKER)] {
        let source = folder.join(format!("{name}.source"));
        std::fs::write(&source, script).unwrap();
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o755)).unwrap();
        copy_program(&source, &folder.join(name));
    }
}

/// By another process: were the copy open for writing in this one, a process that another thread starts at that
/// moment would hold it open too, and it could not be run.
fn copy_program(from: &Path, to: &Path) {
    assert!(
        std::process::Command::new("cp")
            .arg("-p")
            .args([from, to])
            .status()
            .unwrap()
            .success()
    );
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
        "never: {what}"
    );
}

#[tokio::test]
async fn its_parts_can_be_broken_one_by_one_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    stand_ins(folder.path());
    let options = StackOptions {
        workers: 2,
        lease_s: Some(2),
        ephemeral: true,
        bin_dir: Some(folder.path().to_path_buf()),
        extra_env: vec![("EXTRA".to_owned(), "given".to_owned())],
        ..StackOptions::in_folder(folder.path().join("stack"))
    };
    let mut stack = Stack::start(options).await.unwrap();
    let log = folder.path().join("stack/logs/worker-1.log");
    eventually("the worker says what it sees", || {
        std::fs::read_to_string(&log).unwrap() == "LEASE_S=2 EXTRA=given SMTP_URL=\n"
    })
    .await;
    assert!(stack.casualty().is_none());

    let pids = stack.worker_pids();
    assert_eq!(pids.len(), 2);
    stack.kill_worker(0).await.unwrap();
    assert!(!is_alive(pids[0]) && is_alive(pids[1]));
    stack.start_worker().unwrap();
    assert_eq!(stack.worker_pids().len(), 2);

    let env: HashMap<&str, String> = stack.env().into_iter().collect();
    stack.stop_redis().await;
    assert!(stack.casualty().unwrap().starts_with("redis-server ended"));
    stack.start_redis().await.unwrap();
    stack.stop_s3().await;
    stack.start_s3().await.unwrap();
    stack.gateway().kill().await.unwrap();
    stack.start_gateway().await.unwrap();
    assert_eq!(
        stack.env().into_iter().collect::<HashMap<_, _>>(),
        env,
        "addresses changed"
    );
    assert_eq!(
        stack.run_sql("SELECT current_database()").await.unwrap(),
        "uploader"
    );
    let pids = stack.worker_pids();
    stack.stop().await;
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

/// `dev-stack dev` beside the stand-ins, and what it says when it is ready.
async fn dev(folder: &Path) -> (Child, String) {
    let program = folder.join("dev-stack");
    if !program.exists() {
        copy_program(env!("CARGO_BIN_EXE_dev-stack").as_ref(), &program);
    }
    let mut child = Command::new(program)
        .args(["dev", "--workers", "2", "--dir"])
        .arg(folder.join("dev"))
        .env_remove("SOURCE_ROOTS")
        .env("SMTP_URL", "smtp://somewhere")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.next_line().await.unwrap().unwrap_or_default();
    (child, ready)
}

fn env_file(folder: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(folder.join("dev/env")).unwrap();
    text.lines()
        .map(|line| line.split_once('=').unwrap())
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

async fn end(child: Child, signal: &str) -> (Option<i32>, String) {
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().await.unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn dev_says_ready_stops_clean_and_takes_up_its_data_again() {
    let folder = tempfile::tempdir().unwrap();
    stand_ins(folder.path());
    let (child, ready) = dev(folder.path()).await;
    let env = env_file(folder.path());
    assert_eq!(ready, format!("ready {}", env["API_URL"]));
    let mut names: Vec<&str> = env.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "ADMIN_PASSWORD",
            "ADMIN_USERNAME",
            "API_URL",
            "DATABASE_URL",
            "MIGRATION_DATABASE_URL",
            "REDIS_URL",
            "S3_ACCESS_KEY_ID",
            "S3_ENDPOINT_URL",
            "S3_SECRET_ACCESS_KEY",
            "SOURCE_ROOTS",
        ]
    );
    let samples = env["SOURCE_ROOTS"].strip_prefix("samples=").unwrap();
    assert!(Path::new(samples).join("large.bin").exists());

    let (second, nothing) = dev(folder.path()).await;
    let refused = second.wait_with_output().await.unwrap();
    assert_eq!(nothing, "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another stack runs"));

    assert_eq!(end(child, "TERM").await.0, Some(0));
    assert!(!folder.path().join("dev/env").exists());
    assert!(std::net::TcpStream::connect(env["API_URL"].strip_prefix("http://").unwrap()).is_err());

    let (child, _) = dev(folder.path()).await;
    let again = env_file(folder.path());
    for name in [
        "ADMIN_PASSWORD",
        "S3_ACCESS_KEY_ID",
        "S3_SECRET_ACCESS_KEY",
        "S3_ENDPOINT_URL",
        "API_URL",
    ] {
        assert_eq!(env[name], again[name], "{name}");
    }
    assert_eq!(end(child, "INT").await.0, Some(0));
}

#[tokio::test]
async fn dev_ends_when_a_part_dies_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    stand_ins(folder.path());
    let (child, _) = dev(folder.path()).await;
    let env = env_file(folder.path());
    let victim = Command::new("sh")
        .args([
            "-c",
            "for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -qxF \"REDIS_URL=$0\" \
               && [ \"$(cat $p/comm)\" = sleep ] && basename $p && break; done",
            &env["REDIS_URL"],
        ])
        .output()
        .await
        .unwrap();
    let victim = String::from_utf8(victim.stdout).unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", victim.trim()])
            .status()
            .await
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("worker-") && said.contains("ended with"), "{said}");
    assert!(said.contains("LEASE_S="), "no end of its log: {said}");
}
