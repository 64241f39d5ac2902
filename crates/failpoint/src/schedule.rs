//! What is to happen at which point, and doing it.
//!
//! ```text
//! put.before_request=3*off->kill; part.arrived=0.5%stop; finish.before_look=hold(/tmp/gate); seed=7
//! ```
//!
//! With `while=PATH`, nothing happens unless there is a file `PATH`.
//!
//! A point has a chain of terms. Each time it is reached, the first that applies is carried out: one with `N*`
//! applies `N` times, one with `P%` in so many of a hundred cases, drawn from the seed.
//!
//! | action | what happens |
//! | --- | --- |
//! | `off` | nothing |
//! | `kill` | SIGKILL to this process: no destructor runs, no buffer is written |
//! | `stop` | SIGSTOP to this process |
//! | `hold(PATH)` | this task waits for as long as there is a file `PATH`; the others go on |

use crate::{REPORT, is_known};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::signal::unix::SignalKind;

/// How often a held task looks whether it may go on.
const POLL: Duration = Duration::from_millis(5);

static SCHEDULE: OnceLock<Mutex<Schedule>> = OnceLock::new();

/// A schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchedule(String);

impl std::fmt::Display for InvalidSchedule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "FAILPOINTS: {}", self.0)
    }
}

impl std::error::Error for InvalidSchedule {}

/// Says what is to happen in this process from now on. The first call counts.
///
/// Whoever runs such a program should know: it says so on standard error.
///
/// # Errors
/// When the text is no schedule, or names a point that there is not.
#[allow(clippy::print_stderr, reason = "whatever the log's filter")]
pub fn arm(text: &str) -> Result<(), InvalidSchedule> {
    let schedule = Schedule::parse(text)?;
    SCHEDULE.get_or_init(|| Mutex::new(schedule));
    eprintln!("built with fail-points: for tests, and for nothing else");
    Ok(())
}

/// This process is at the point `name`: what [`arm`] said is done.
pub async fn reach(name: &'static str) {
    let Some(schedule) = SCHEDULE.get() else { return };
    let action = schedule.lock().unwrap_or_else(PoisonError::into_inner).draw(name);
    match action {
        Action::Off => {}
        Action::Kill => signal(name, "kill", Signal::KILL),
        Action::Stop => {
            // SIGSTOP reaches the other threads first: without waiting, this one would run on for a moment.
            let continued = tokio::signal::unix::signal(SignalKind::from_raw(Signal::CONT.as_raw()));
            signal(name, "stop", Signal::STOP);
            if let Ok(mut continued) = continued {
                continued.recv().await;
            }
        }
        Action::Hold(gate) => {
            report(name, "hold");
            while gate.exists() {
                tokio::time::sleep(POLL).await;
            }
            report(name, "go on");
        }
    }
}

fn signal(name: &str, action: &str, signal: Signal) {
    report(name, action);
    // Nobody may forbid a process to signal itself.
    let _ = kill_process(getpid(), signal);
}

#[allow(
    clippy::print_stderr,
    reason = "it must be out before the process dies, whatever the log's filter"
)]
fn report(name: &str, action: &str) {
    eprintln!("{REPORT}{name}: {action}");
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Off,
    Kill,
    Stop,
    Hold(PathBuf),
}

#[derive(Debug, PartialEq)]
struct Term {
    /// In so many of a hundred cases.
    percent: f64,
    /// How often it may still be carried out; absent, for ever.
    left: Option<u32>,
    action: Action,
}

struct Schedule {
    chains: HashMap<String, Vec<Term>>,
    dice: StdRng,
    /// Nothing happens unless there is this file.
    switch: Option<PathBuf>,
}

impl Schedule {
    fn parse(text: &str) -> Result<Self, InvalidSchedule> {
        let mut schedule = Self {
            chains: HashMap::new(),
            dice: StdRng::seed_from_u64(0),
            switch: None,
        };
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let invalid = |problem: &str| InvalidSchedule(format!("{problem} in {entry:?}"));
            let (name, value) = entry.split_once('=').ok_or_else(|| invalid("no = "))?;
            if name == "while" {
                schedule.switch = Some(value.into());
                continue;
            }
            if name == "seed" {
                let seed = value.parse().map_err(|_| invalid("no whole number"))?;
                schedule.dice = StdRng::seed_from_u64(seed);
                continue;
            }
            if !is_known(name) {
                return Err(invalid("no such point"));
            }
            let chain: Option<Vec<Term>> = value.split("->").map(Term::parse).collect();
            let chain = chain.ok_or_else(|| invalid("no [P%][N*]off|kill|stop|hold(PATH)"))?;
            schedule.chains.insert(name.to_owned(), chain);
        }
        Ok(schedule)
    }

    /// What is to be done this time.
    fn draw(&mut self, name: &str) -> Action {
        let dice = &mut self.dice;
        for term in self.chains.get_mut(name).into_iter().flatten() {
            if term.left == Some(0) || !dice.random_bool(term.percent / 100.0) {
                continue;
            }
            if term.action != Action::Off && self.switch.as_ref().is_some_and(|switch| !switch.exists()) {
                return Action::Off;
            }
            term.left = term.left.map(|left| left - 1);
            return term.action.clone();
        }
        Action::Off
    }
}

impl Term {
    fn parse(text: &str) -> Option<Self> {
        let (percent, rest) = match text.split_once('%') {
            Some((percent, rest)) => (percent.parse().ok()?, rest),
            None => (100.0, text),
        };
        let (left, action) = match rest.split_once('*') {
            Some((count, rest)) => (Some(count.parse().ok()?), rest),
            None => (None, rest),
        };
        let action = match action {
            "off" => Action::Off,
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            _ => Action::Hold(action.strip_prefix("hold(")?.strip_suffix(')')?.into()),
        };
        (0.0..=100.0).contains(&percent).then_some(Self {
            percent,
            left,
            action,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, times: usize) -> Vec<Action> {
        let mut schedule = Schedule::parse(text).unwrap();
        (0..times).map(|_| schedule.draw("part.arrived")).collect()
    }

    #[test]
    fn terms_apply_one_after_the_other() {
        assert_eq!(
            drawn("part.arrived=2*off->1*stop->kill", 5),
            [Action::Off, Action::Off, Action::Stop, Action::Kill, Action::Kill]
        );
        assert_eq!(drawn("part.arrived=1*kill", 2), [Action::Kill, Action::Off]);
        assert_eq!(drawn("end.before_push=kill", 1), [Action::Off]);
    }

    #[test]
    fn chance_is_a_share_and_the_same_for_the_same_seed() {
        let kills = |seed: u32| drawn(&format!("seed={seed}; part.arrived=20%kill"), 1_000);
        let count = kills(1).iter().filter(|action| **action == Action::Kill).count();
        assert!((120..280).contains(&count), "{count}");
        assert_eq!(kills(1), kills(1));
        assert_ne!(kills(1), kills(2));
    }

    #[test]
    fn nothing_happens_while_it_is_switched_off() {
        let switch = tempfile::NamedTempFile::new().unwrap();
        let text = format!("part.arrived=1*kill; while={}", switch.path().display());
        let mut schedule = Schedule::parse(&text).unwrap();
        let path = switch.into_temp_path();
        let path = path.keep().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(schedule.draw("part.arrived"), Action::Off);
        std::fs::write(&path, []).unwrap();
        assert_eq!(schedule.draw("part.arrived"), Action::Kill);
        assert_eq!(schedule.draw("part.arrived"), Action::Off);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        for (text, problem) in [
            ("put=kill", "no such point in \"put=kill\""),
            ("part.arrived", "no = "),
            ("part.arrived=die", "hold(PATH)"),
            ("part.arrived=101%kill", "hold(PATH)"),
            ("part.arrived=x*kill", "hold(PATH)"),
            ("part.arrived=hold(", "hold(PATH)"),
            ("seed=x", "no whole number"),
        ] {
            let told = Schedule::parse(text).err().unwrap().to_string();
            assert!(
                told.starts_with("FAILPOINTS: ") && told.contains(problem),
                "{told}"
            );
        }
        assert!(Schedule::parse(" ").unwrap().chains.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_held_task_goes_on_when_its_gate_is_gone() {
        let gate = tempfile::NamedTempFile::new().unwrap();
        arm(&format!("part.arrived=hold({})", gate.path().display())).unwrap();
        let held = tokio::spawn(reach("part.arrived"));
        reach("end.before_push").await;
        for _ in 0..5 {
            tokio::time::sleep(POLL).await;
        }
        assert!(!held.is_finished());
        drop(gate);
        held.await.unwrap();
    }
}
