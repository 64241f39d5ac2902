//! Structured logs to standard error, as text for people or as JSON for machines.

use tracing_subscriber::EnvFilter;

use crate::variable::{Absent, Reader, Variable};

pub(crate) const LOG_FORMAT: Variable = Variable::new(
    "LOG_FORMAT",
    Absent::Default("text"),
    "json",
    "format of log lines: text or json",
);
pub(crate) const RUST_LOG: Variable = Variable::new(
    "RUST_LOG",
    Absent::Default("info"),
    "info,api_gateway=debug",
    "which log lines are written: a level, or target=level pairs",
);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// How and what is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// How lines look.
    pub format: LogFormat,
    /// Which are written, in the syntax of `RUST_LOG`.
    pub filter: String,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

impl Logging {
    pub(crate) const VARIABLES: [&'static Variable; 2] = [&LOG_FORMAT, &RUST_LOG];

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let format = reader.get(&LOG_FORMAT, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be text or json".to_owned()),
        });
        let filter = reader.get(&RUST_LOG, |text| match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("must be a level or a list of target=level ({error})")),
        });
        Some(Self {
            format: format?,
            filter: filter?,
        })
    }
}

/// Sends this process's log lines to standard error. The first call wins; a later one changes nothing.
pub fn init(logging: &Logging) {
    let filter = EnvFilter::try_new(&logging.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error says that a subscriber is there already, as in tests that start several services in one process.
    let _ = match logging.format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
