//! A program that is run once and measured.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use dev_stack::process::tail;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rustix::process::{Pid, Signal, kill_process};

use super::processes;

/// How often its memory is looked at; more often at first, for the sake of those that end soon.
const MEMORY_POLL: Duration = Duration::from_millis(10);
const FIRST_MEMORY_POLL: Duration = Duration::from_millis(1);

/// What a program took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) wall_s: f64,
    pub(super) cpu_s: f64,
    pub(super) peak_bytes: u64,
}

/// Runs `program` to its end, with its output in the file `log`. It is killed when the future is dropped, and ends with
/// us where the system has `setpriv`.
///
/// Its CPU time is what all our children together took more after it than before: nothing else that we wait for may
/// end meanwhile. Its peak memory is read while it runs: what the kernel tells at its end would have ours in it, from
/// before it was another program.
///
/// # Errors
/// When it cannot be run or fails; with the end of its output.
pub(super) async fn run(
    program: &Path,
    build: impl FnOnce(&mut Command) -> anyhow::Result<()>,
    log: &Path,
) -> anyhow::Result<Usage> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = command(program);
    build(&mut command)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    let before_s = children_cpu_s()?;
    let (send_pid, pid) = tokio::sync::oneshot::channel();
    // The thread that starts it waits for it, too: it is this thread that the program ends with.
    let mut ending = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut child = command.spawn()?;
        // The other side may be gone; then nobody kills it, and it is waited for.
        let _ = send_pid.send(child.id());
        let status = child.wait()?;
        Ok::<_, std::io::Error>((status, begun.elapsed()))
    });
    let Ok(pid) = pid.await else {
        let failed = ending.await?.map(drop);
        failed.with_context(|| format!("cannot run {}", program.display()))?;
        bail!("{} was not started", program.display());
    };
    let mut killer = Killer(Some(pid));
    let (mut peak_bytes, mut poll) = (0, FIRST_MEMORY_POLL);
    let (status, wall): (ExitStatus, Duration) = loop {
        tokio::select! {
            ended = &mut ending => break ended??,
            () = tokio::time::sleep(poll) => {
                peak_bytes = peak_bytes.max(processes::peak_bytes(pid).unwrap_or(0));
                poll = MEMORY_POLL.min(poll * 2);
            }
        }
    };
    killer.0 = None;
    if !status.success() {
        bail!(
            "{} ended with {status}:\n{}",
            program.display(),
            tail(log).unwrap_or_default()
        );
    }
    Ok(Usage {
        wall_s: wall.as_secs_f64(),
        cpu_s: children_cpu_s()? - before_s,
        peak_bytes,
    })
}

/// `program`, ending with us if that can be had. It becomes the program itself, so that its figures are its own.
fn command(program: &Path) -> Command {
    let is_there = Path::new("/usr/bin/setpriv").exists();
    if !is_there {
        return Command::new(program);
    }
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// CPU seconds of all children that were waited for.
fn children_cpu_s() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 / 1e6)
}

/// Kills a program that is not waited for any more.
struct Killer(Option<u32>);

impl Drop for Killer {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // It may just have ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_and_memory_of_a_program_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 0.1";
        let usage = run(
            Path::new("/bin/sh"),
            |command| {
                command.args(["-c", script]);
                Ok(())
            },
            &log,
        )
        .await
        .unwrap();
        assert!(usage.cpu_s > 0.005 && usage.wall_s >= 0.1, "{usage:?}");
        assert!((100_000..100_000_000).contains(&usage.peak_bytes), "{usage:?}");
    }

    #[tokio::test]
    async fn a_failure_shows_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let shell = Path::new("/bin/sh");
        let failing = |command: &mut Command| {
            command.args(["-c", "echo the reason >&2; exit 3"]);
            Ok(())
        };
        let error = run(shell, failing, &log).await.unwrap_err().to_string();
        assert!(error.contains("the reason"), "{error}");
        let missing = Path::new("/nowhere/to/be/found");
        assert!(run(missing, |_| Ok(()), &log).await.is_err());
    }

    #[tokio::test]
    async fn it_is_killed_when_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (log, sign) = (folder.path().join("log"), folder.path().join("pid"));
        let script = format!("echo $$ > {}; exec sleep 1000", sign.display());
        let running = run(
            Path::new("/bin/sh"),
            |command| {
                command.args(["-c", &script]);
                Ok(())
            },
            &log,
        );
        let written = async {
            loop {
                match std::fs::read_to_string(&sign) {
                    Ok(text) if text.ends_with('\n') => return text,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let pid = tokio::select! {
            _ = running => panic!("it ended"),
            pid = written => pid,
        };
        let process = format!("/proc/{}", pid.trim());
        while Path::new(&process).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
