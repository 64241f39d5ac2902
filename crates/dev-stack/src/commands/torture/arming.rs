//! Faults at named points: workers and gateways are started with some of them, drawn from the seed.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dev_stack::process::Server;
use failpoint::POINTS;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};

use super::fault::{Injected, Injector, Undo};
use super::kind::Kind;

/// How the shell tells of SIGKILL.
const KILLED: i32 = 128 + 9;

/// Points at which one process may die.
const POINTS_EACH: usize = 10;
/// The least and the greatest chance to die at a point, in percent. Some points are passed hundreds of times a second,
/// others once a session: the logarithm is drawn.
const PERCENT: (f64, f64) = (0.3, 60.0);
const STOPS: f64 = 0.12;

/// Draws what is to happen to processes; nothing does while it is switched off.
pub(super) struct Arming {
    dice: StdRng,
    switch: PathBuf,
}

impl Arming {
    /// Switched off; `switch` is a file that it makes and removes.
    pub(super) fn new(seed: u64, switch: PathBuf) -> Self {
        Self {
            dice: StdRng::seed_from_u64(seed),
            switch,
        }
    }

    /// Lets processes that are armed die, or keeps them from it.
    pub(super) fn switch(&self, on: bool) -> std::io::Result<()> {
        if on {
            std::fs::write(&self.switch, [])
        } else {
            std::fs::remove_file(&self.switch)
        }
    }

    /// The variable for a worker.
    pub(super) fn worker(&mut self) -> (&'static str, String) {
        self.schedule(false)
    }

    /// The variable for a gateway.
    pub(super) fn gateway(&mut self) -> (&'static str, String) {
        self.schedule(true)
    }

    fn schedule(&mut self, is_gateway: bool) -> (&'static str, String) {
        let names = POINTS.iter().map(|point| point.name);
        let names: Vec<&str> = names
            .filter(|name| name.starts_with("gateway.") == is_gateway)
            .collect();
        let mut schedule = format!(
            "while={}; seed={}",
            self.switch.display(),
            self.dice.random::<u64>()
        );
        let chosen: Vec<&str> = names
            .choose_multiple(&mut self.dice, POINTS_EACH)
            .copied()
            .collect();
        for name in chosen {
            let (least, greatest) = PERCENT;
            let percent = least * (greatest / least).powf(self.dice.random());
            // A gateway that hangs is another fault, and clients have patience.
            let stops = !is_gateway && self.dice.random_bool(STOPS);
            let action = if stops { "stop" } else { "kill" };
            schedule += &format!("; {name}={percent:.3}%{action}");
        }
        ("FAILPOINTS", schedule)
    }
}

impl Injector<'_> {
    /// Starts so many workers, and the gateways again, each with points of its own.
    pub(super) async fn arm(&mut self, workers: usize) -> anyhow::Result<()> {
        for _ in 0..workers {
            self.start_worker()?;
        }
        for index in 0..=self.gateways.len() {
            self.gateway(index)?.stop().await;
            self.undo.push((Instant::now(), Undo::Gateway(index)));
        }
        self.undo(false).await
    }

    /// What happened at fail-points since it was last asked. The dead are replaced, the stopped are woken later.
    pub(super) async fn at_points(&mut self) -> anyhow::Result<Vec<Injected>> {
        let mut seen = Vec::new();
        for index in (0..self.stack.workers().len()).rev() {
            let worker = self.stack.workers().get_mut(index).context("no worker")?;
            let (pid, is_dead) = (worker.pid(), worker.ended().is_some());
            let is_awaited = |undo: &Undo| matches!(undo, Undo::Continue(stopped) if *stopped == pid);
            let is_new = is_dead || (is_stopped(pid) && !self.undo.iter().any(|(_, undo)| is_awaited(undo)));
            let Some(kind) = Some(worker).filter(|_| is_new).and_then(blow) else {
                continue;
            };
            let (at, hit) = (Instant::now(), self.hit(Some(index)).await);
            seen.push(Injected { kind, at, hit });
            if is_dead {
                self.stack.workers().remove(index);
                self.workers_killed += 1;
                self.start_worker()?;
            } else {
                self.later(1_000..8_000, Undo::Continue(pid));
            }
        }
        for index in 0..=self.gateways.len() {
            let is_awaited = |undo: &Undo| matches!(undo, Undo::Gateway(dead) if *dead == index);
            let is_known = self.undo.iter().any(|(_, undo)| is_awaited(undo));
            let gateway = self.gateway(index)?;
            if is_known || gateway.ended().is_none() {
                continue;
            }
            if let Some(kind) = blow(gateway) {
                let at = Instant::now();
                seen.push(Injected { kind, at, hit: None });
                self.later(0..2_000, Undo::Gateway(index));
            }
        }
        Ok(seen)
    }
}

/// Asks a worker to end, and wakes it where it stops itself on the way.
pub(super) async fn end_in_order(mut worker: Server) -> (ExitStatus, Option<Kind>) {
    let pid = worker.pid();
    let status = {
        let stop = worker.stop();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                status = &mut stop => break status,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            if is_stopped(pid)
                && let Some(pid) = Pid::from_raw(pid.cast_signed())
            {
                // It may be gone.
                let _ = kill_process(pid, Signal::CONT);
            }
        }
    };
    let died = status.code() == Some(KILLED);
    (status, Some(&mut worker).filter(|_| died).and_then(blow))
}

/// What a process that is dead or stopped did to itself, if it was that.
fn blow(process: &mut Server) -> Option<Kind> {
    let (point, action) = process.reached()?;
    let point = known(&point)?;
    match (action.as_str(), process.ended().map(|status| status.code())) {
        ("kill", Some(Some(KILLED))) => Some(Kind::KilledAt(point)),
        ("stop", None) => Some(Kind::StoppedAt(point)),
        _ => None,
    }
}

/// The point of this name.
fn known(name: &str) -> Option<&'static str> {
    POINTS.iter().map(|point| point.name).find(|known| *known == name)
}

/// Whether a process was stopped by SIGSTOP.
fn is_stopped(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program stands in brackets before it, and may hold anything.
    state
        .rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_for_their_program_and_the_same_for_the_same_seed() {
        let drawn = |seed| {
            let mut arming = Arming::new(seed, "/tmp/switch".into());
            (arming.worker().1, arming.gateway().1)
        };
        let (worker, gateway) = drawn(1);
        assert_eq!((worker.clone(), gateway.clone()), drawn(1));
        assert_ne!(worker, drawn(2).0);
        assert!(worker.starts_with("while=/tmp/switch; seed="), "{worker}");
        assert_eq!(worker.matches('%').count(), POINTS_EACH);
        assert!(gateway.contains("; gateway."), "{gateway}");
        assert!(!worker.contains("gateway.") && !gateway.contains("stop"));
    }

    #[test]
    fn what_runs_is_not_stopped() {
        assert!(!is_stopped(std::process::id()));
        assert!(!is_stopped(u32::MAX));
    }
}
