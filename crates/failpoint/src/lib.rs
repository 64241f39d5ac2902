//! Fail-points: named places where a test lets the process be killed, be stopped, or wait.
//!
//! `failpoint::at!("put.before_request")` marks one, in an `async` function. In programs built without the feature
//! `failpoints` it leaves nothing, not even its name; `.ci/no-failpoints` looks. With the feature, [`arm`] says what
//! is to happen where, and what happens is written to standard error, one line each, before it does
//! ([`last_reached`] reads it).

mod points;
#[cfg(feature = "failpoints")]
mod schedule;

pub use points::{POINTS, Point, is_known};
#[cfg(feature = "failpoints")]
pub use schedule::{InvalidSchedule, arm, reach};

/// What a line begins with that says which point was reached.
const REPORT: &str = "fail-point ";

/// Marks the point of this name, which must be one of [`POINTS`].
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! at {
    ($name:literal) => {{
        const { assert!($crate::is_known($name), "no such fail-point") };
        $crate::reach($name).await;
    }};
}

/// Marks the point of this name, which must be one of [`POINTS`]. Nothing is left of it in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! at {
    ($name:literal) => {
        const { assert!($crate::is_known($name), "no such fail-point") }
    };
}

/// The point at which a process last did something, from what it wrote to standard error: name and action.
#[must_use]
pub fn last_reached(log: &str) -> Option<(&str, &str)> {
    let report = log.lines().rev().find_map(|line| line.strip_prefix(REPORT))?;
    report.split_once(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_is_found_among_other_lines() {
        assert_eq!(last_reached("INFO taking jobs\n"), None);
        let log = "fail-point part.arrived: stop\nWARN late\nfail-point end.before_push: kill\nINFO more";
        assert_eq!(last_reached(log), Some(("end.before_push", "kill")));
    }
}
