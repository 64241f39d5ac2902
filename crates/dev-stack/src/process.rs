//! Server processes that end with us, even when we are killed.
//!
//! A small shell stands between us and each server and reads a pipe from us. When we stop the server, drop it, or
//! are gone, the pipe closes, and the shell stops the server: first with its own signal, after the grace with
//! SIGKILL. Servers have a process group of their own, so that Ctrl-C in a terminal reaches us alone.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

/// Arguments: grace in seconds, signal, folder to remove after an end that was asked for, or nothing, then the command.
const SUPERVISOR: &str = r#"
grace=$1 signal=$2 remove=$3; shift 3
exec 3<&0
"$@" 3<&- </dev/null >&2 & child=$!
echo "$child"
exec >&2
{ read -r _ <&3; kill -s "$signal" "$child"; sleep "$grace"; kill -s KILL "$child"; } 2>/dev/null &
wait "$child"; code=$?
case $code in 0|130|143) [ -z "$remove" ] || rm -rf "$remove";; esac
trap '' TERM; kill -s TERM 0
exit "$code"
"#;

/// An account of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A server to be started.
#[derive(Clone, Debug)]
pub struct ServerCommand {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    removed_environment: Vec<String>,
    log: PathBuf,
    stop_signal: &'static str,
    grace: Duration,
    account: Option<Account>,
    remove_after: Option<PathBuf>,
}

impl ServerCommand {
    /// `program`, called `name` in messages, with its output appended to the file `log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            removed_environment: Vec::new(),
            log: log.into(),
            stop_signal: "TERM",
            grace: Duration::from_secs(10),
            account: None,
            remove_after: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Appends its output to this file instead.
    #[must_use]
    pub fn logging_to(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = log.into();
        self
    }

    /// Sets an environment variable, beside those we have.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.into()));
        self
    }

    /// Hides one of our environment variables.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<String>) -> Self {
        self.removed_environment.push(name.into());
        self
    }

    /// The signal that asks it to end (`TERM` if not set), and how long it may take.
    #[must_use]
    pub fn stopped_by(mut self, signal: &'static str, grace: Duration) -> Self {
        self.stop_signal = signal;
        self.grace = grace;
        self
    }

    pub(crate) fn run_as(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// Removes `folder` when the server has ended as it was asked to, whether we are still there or not.
    #[must_use]
    pub fn removing(mut self, folder: Option<PathBuf>) -> Self {
        self.remove_after = folder;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn spawn(&self) -> anyhow::Result<Server> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(self.grace.as_secs().max(1).to_string())
            .arg(self.stop_signal)
            .arg(self.remove_after.as_deref().unwrap_or(Path::new("")))
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        for name in &self.removed_environment {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(Account { uid, gid }) = self.account {
            // A folder that the account may not enter is no place to start in.
            command.uid(uid).gid(gid).current_dir("/");
        }
        let mut supervisor = command.spawn().context("cannot run sh")?;
        let pipe = supervisor.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = supervisor.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line
            .trim()
            .parse()
            .with_context(|| format!("{} was not started", self.name))?;
        Ok(Server {
            command: self.clone(),
            supervisor,
            pipe,
            pid,
            ended: None,
        })
    }
}

/// A server that was started. Dropping it stops it, without waiting.
#[derive(Debug)]
pub struct Server {
    command: ServerCommand,
    supervisor: Child,
    pipe: Option<ChildStdin>,
    pid: i32,
    ended: Option<ExitStatus>,
}

impl Server {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.command.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The command it was started with.
    pub fn command(&self) -> &ServerCommand {
        &self.command
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.supervisor.try_wait().ok().flatten();
        }
        self.ended
    }

    /// The last lines of its log, for messages.
    pub fn log_tail(&self) -> String {
        tail(&self.command.log).unwrap_or_default()
    }

    /// The fail-point at which it did something last, and what, as far as its log tells.
    pub fn reached(&self) -> Option<(String, String)> {
        let log = std::fs::read(&self.command.log).ok()?;
        let log = String::from_utf8_lossy(&log);
        let (point, action) = failpoint::last_reached(&log)?;
        Some((point.to_owned(), action.to_owned()))
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended().is_none()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.command.name))?;
        }
        Ok(())
    }

    /// Waits until it has ended by itself or by a signal.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end and waits until it has; a server that does not within its grace is killed.
    pub async fn stop(&mut self) -> ExitStatus {
        drop(self.pipe.take());
        self.wait().await
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        Ok(self.wait().await)
    }

    /// Waits until `is_ready`, at most `limit`.
    ///
    /// # Errors
    /// When the server ends first, or the time is over; with the end of its log.
    pub async fn wait_ready(
        &mut self,
        limit: Duration,
        mut is_ready: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                bail!("{} ended with {status}:\n{}", self.name(), self.log_tail());
            }
            if is_ready().await {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!(
                    "{} is not ready after {limit:?}:\n{}",
                    self.name(),
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A port of 127.0.0.1 that nobody listens on at the moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// The last lines of a file.
///
/// # Errors
/// When it cannot be read.
pub fn tail(path: &Path) -> std::io::Result<String> {
    const TAIL_BYTES: u64 = 4096;
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines
        .get(lines.len().saturating_sub(25)..)
        .unwrap_or_default()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    async fn gone(pid: u32) {
        let limit = Instant::now() + Duration::from_secs(10);
        while is_alive(pid) {
            assert!(Instant::now() < limit, "{pid} is still there");
            tokio::time::sleep(POLL).await;
        }
    }

    fn sleeper(folder: &Path) -> ServerCommand {
        ServerCommand::new("sleeper", "sleep", folder.join("log")).args(["1000"])
    }

    #[tokio::test]
    async fn stop_drop_and_kill_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = sleeper(folder.path()).spawn().unwrap();
        assert!(is_alive(server.pid()) && server.ended().is_none());
        server.stop().await;
        assert!(!is_alive(server.pid()));

        let server = sleeper(folder.path()).spawn().unwrap();
        let pid = server.pid();
        drop(server);
        gone(pid).await;

        let mut server = sleeper(folder.path()).spawn().unwrap();
        assert_eq!(server.kill().await.unwrap().code(), Some(128 + 9));
        assert!(!is_alive(server.pid()));
    }

    #[tokio::test]
    async fn it_ends_when_its_starter_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        // `cat` keeps the pipe open for the supervisor as we do, until it is killed.
        let mut starter = Command::new("sh")
            .args([
                "-c",
                "tail -f /dev/null | sh -c \"$0\" supervisor 5 TERM '' sleep 1000",
                SUPERVISOR,
            ])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(starter.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid: u32 = line.trim().parse().unwrap();
        assert!(is_alive(pid));
        let tail = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", starter.id())).unwrap();
        let tail: i32 = tail.split_whitespace().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(tail).unwrap(), Signal::KILL).unwrap();
        gone(pid).await;
        starter.wait().unwrap();
        drop(folder);
    }

    #[tokio::test]
    async fn a_stubborn_server_is_killed_after_its_grace() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut server = ServerCommand::new("stubborn", "sh", &log)
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
            .stopped_by("TERM", Duration::from_secs(1))
            .spawn()
            .unwrap();
        server
            .wait_ready(Duration::from_secs(5), async || {
                std::fs::read(&log).unwrap().starts_with(b"ready")
            })
            .await
            .unwrap();
        assert_eq!(server.stop().await.code(), Some(128 + 9));
    }

    #[tokio::test]
    async fn a_failed_start_shows_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = ServerCommand::new("broken", "sh", folder.path().join("log"))
            .args(["-c", "echo the reason; exit 3"])
            .spawn()
            .unwrap();
        let error = server
            .wait_ready(Duration::from_secs(5), async || false)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("the reason"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_is_removed_after_an_end_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut server = ServerCommand::new("clean", "sleep", folder.path().join("log"))
            .args(["1000"])
            .removing(Some(data.clone()))
            .spawn()
            .unwrap();
        assert!(data.exists());
        server.stop().await;
        assert!(!data.exists());

        std::fs::create_dir(&data).unwrap();
        let mut server = server.command().spawn().unwrap();
        server.kill().await.unwrap();
        assert!(data.exists());
    }
}
