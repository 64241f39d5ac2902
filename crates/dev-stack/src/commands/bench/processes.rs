//! What the kernel tells of processes: their CPU time and memory.

use std::fs;

use anyhow::{Context as _, bail};

/// Ticks a second in `/proc/PID/stat`: the same on every architecture that Linux shows to programs.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds of a process, with the threads that have ended.
pub(super) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let [user, system, ..] = ticks(pid)?;
    Ok((user + system) as f64 / TICKS_PER_S)
}

/// CPU seconds of a process without threads and of all its children, with those that have ended.
///
/// Of those that live, in nanoseconds: the ticks of many processes, each rounded down, would not add up.
pub(super) fn family_cpu_s(pid: u32) -> anyhow::Result<f64> {
    let [_, _, ended_user, ended_system] = ticks(pid)?;
    let ended = (ended_user + ended_system) as f64 / TICKS_PER_S;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    // A child may have ended since it was listed: then it is not among the ended ones yet, and missing this once.
    let living: f64 = children.filter_map(|pid| precise_cpu_s(pid).ok()).sum();
    Ok(ended + living + precise_cpu_s(pid)?)
}

/// CPU seconds of a process without threads.
fn precise_cpu_s(pid: u32) -> anyhow::Result<f64> {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/schedstat")) else {
        return cpu_s(pid);
    };
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    let nanoseconds: u64 = nanoseconds.with_context(|| format!("/proc/{pid}/schedstat: {text}"))?;
    Ok(nanoseconds as f64 / 1e9)
}

/// User and system ticks, and those of the children it has waited for.
fn ticks(pid: u32) -> anyhow::Result<[u64; 4]> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is not there any more"))?;
    parse_ticks(&text).with_context(|| format!("/proc/{pid}/stat: {text}"))
}

fn parse_ticks(stat: &str) -> Option<[u64; 4]> {
    // The name in brackets may have blanks and brackets in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse);
    let mut next = || ticks.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

/// Lets the peak of a process' memory begin anew.
pub(super) fn reset_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .with_context(|| format!("cannot reset the peak memory of process {pid}"))
}

/// The most memory that a process had at a time.
pub(super) fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// The memory that a process has now.
pub(super) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

fn status_bytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let Some(kib) = line.and_then(|line| line.split_whitespace().next()) else {
        bail!("process {pid} has no {field}");
    };
    Ok(kib.parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 9 0 12 1 2";
        assert_eq!(parse_ticks(stat), Some([150, 50, 30, 20]));
        assert_eq!(parse_ticks("42"), None);
    }

    #[test]
    fn our_own_process_is_seen() {
        let pid = std::process::id();
        let before = precise_cpu_s(pid).unwrap();
        let mut value = 1_u64;
        while precise_cpu_s(pid).unwrap() <= before {
            value = std::hint::black_box(value.wrapping_mul(3));
        }
        assert!(cpu_s(pid).unwrap() >= 0.0 && family_cpu_s(pid).unwrap() > 0.0);
        assert!(peak_bytes(pid).unwrap() >= resident_bytes(pid).unwrap() / 2);
        assert!(cpu_s(u32::MAX).is_err());
    }
}
