//! `uploader`: Data Uploader on the command line. What a command found goes to stdout, everything said on the way
//! to stderr, and the exit code tells the outcome ([`Exit`]).

mod api;
mod args;
mod client;
mod commands;
mod config;
mod follow;
mod plan;
mod problem;
mod progress;
mod render;
mod sse;
mod summary;
mod verify;

use args::{Cli, Command};
use clap::Parser as _;
use client::Client;
use commands::App;
use config::ConfigStore;
use domain::SessionStatus;
use problem::Failure;
use std::io::ErrorKind;
use std::process::ExitCode;

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; of an upload: everything arrived.
    Success = 0,
    /// Failed or cancelled.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The upload came to its end, and some files failed; of a check: something differs.
    Partly = 3,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// What an upload that ended so means.
    pub(crate) fn of(status: Option<SessionStatus>) -> Self {
        match status {
            Some(SessionStatus::Completed) => Self::Success,
            Some(SessionStatus::CompletedWithErrors) => Self::Partly,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(exit) => exit.into(),
        Err(error) => explain(&error).into(),
    }
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    if let Command::Completions { shell } = cli.command {
        return commands::completions(shell);
    }
    let store = ConfigStore::at(cli.global.config)?;
    let client = Client::new(cli.global.api_url.as_deref(), cli.global.token.as_deref(), store)?;
    commands::run(
        &App {
            client,
            json: cli.global.json,
        },
        cli.command,
    )
    .await
}

/// Says what went wrong, on stderr.
fn explain(error: &anyhow::Error) -> Exit {
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    // Whoever reads stdout (`head`, say) has seen enough.
    if error.chain().any(is_closed_pipe) {
        return Exit::Success;
    }
    eprintln!("error: {error:#}");
    match error.downcast_ref() {
        Some(Failure::Usage(_)) => Exit::Usage,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_an_upload_has_its_exit_code() {
        let codes: Vec<u8> = SessionStatus::ALL
            .iter()
            .map(|status| Exit::of(Some(*status)) as u8)
            .collect();
        // pending, in_progress, paused: an end was never seen, so it is no success.
        assert_eq!(codes, [1, 1, 1, 0, 3, 1, 1]);
        assert_eq!(Exit::of(None), Exit::Failed);
    }

    #[test]
    fn usage_errors_and_closed_pipes_have_their_own_exit_codes() {
        assert_eq!(explain(&Failure::usage("what?")), Exit::Usage);
        assert_eq!(explain(&anyhow::anyhow!("disk full")), Exit::Failed);
        let pipe = anyhow::Error::from(std::io::Error::from(ErrorKind::BrokenPipe)).context("writing");
        assert_eq!(explain(&pipe), Exit::Success);
    }
}
