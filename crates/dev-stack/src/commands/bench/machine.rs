//! Where the figures were taken.

use std::fs;
use std::time::SystemTime;

use s3s::dto::{Timestamp, TimestampFormat};
use serde_json::{Value, json};

use super::sets::grouped;
use super::tools::{Program, output};

/// The machine, the programs, and the time.
pub(super) struct Machine {
    /// Names and values, in the order they are told.
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    pub(super) fn look(programs: &[Program], postgres_version: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let load = read("/proc/loadavg");
        let load: Vec<&str> = load.split_whitespace().take(3).collect();
        let redis = output("redis-server", &["--version"]).unwrap_or_default();
        let redis = redis.split_whitespace().find_map(|word| word.strip_prefix("v="));
        let mut facts = vec![
            ("date", date()),
            ("commit", commit()),
            ("build", build().to_owned()),
            (
                "processor",
                format!("{}, {cores} cores", field(&read("/proc/cpuinfo"), "model name")),
            ),
            ("memory", format!("{} MiB", grouped(memory_kib >> 10))),
            ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("load before", load.join(" ")),
            ("Postgres", postgres_version.to_owned()),
            ("Redis", redis.unwrap_or("unknown").to_owned()),
        ];
        for program in programs {
            if let Some(version) = &program.version {
                facts.push((program.tool.name(), version.clone()));
            }
        }
        Self { facts }
    }

    pub(super) fn markdown(&self) -> String {
        let lines = self
            .facts
            .iter()
            .map(|(name, value)| format!("| {name} | {value} |\n"));
        format!("| | |\n| --- | --- |\n{}", lines.collect::<String>())
    }

    pub(super) fn json(&self) -> Value {
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        Value::Object(facts.collect())
    }
}

/// Whether the programs are such that their figures mean something.
pub(super) fn is_release() -> bool {
    !cfg!(debug_assertions)
}

fn build() -> &'static str {
    if is_release() {
        "release"
    } else {
        "debug: slow, its figures mean nothing"
    }
}

fn date() -> String {
    let mut text = Vec::new();
    let now = Timestamp::from(SystemTime::now());
    match now.format(TimestampFormat::DateTime, &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

fn commit() -> String {
    output("git", &["describe", "--always", "--dirty"]).unwrap_or("unknown".to_owned())
}
