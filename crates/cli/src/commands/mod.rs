//! The commands, a module for each group: what is asked of the server, and how the answer is shown.

mod cycles;
mod leftovers;
mod plan;
mod projects;
mod queue;
mod receipts;
mod roots;
mod sessions;
mod sign_in;
mod upload;

use crate::Exit;
use crate::args::{Cli, Command, ListArgs};
use crate::client::{Client, Page};
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use serde_json::{Map, Value};
use std::io::{IsTerminal as _, Write as _};

/// What every command works with.
pub(crate) struct App {
    /// The server.
    pub(crate) client: Client,
    /// Whether stdout is for programs.
    pub(crate) json: bool,
}

/// Runs one command.
pub(crate) async fn run(app: &App, command: Command) -> Result<Exit> {
    match command {
        Command::Login(args) => sign_in::login(app, args).await?,
        Command::Logout => sign_in::logout(app).await?,
        Command::ChangePassword(args) => sign_in::change_password(app, &args).await?,
        Command::Whoami => sign_in::whoami(app).await?,
        Command::Projects(command) => projects::run(app, command).await?,
        Command::Cycles(command) => cycles::run(app, command).await?,
        Command::Roots(command) => roots::run(app, command).await?,
        Command::Queue => queue::run(app).await?,
        Command::Sessions(command) => sessions::run(app, command).await?,
        Command::Files(args) => sessions::files(app, args).await?,
        Command::Failures(args) => sessions::failures(app, &args).await?,
        Command::Plan(args) => plan::show(app, &args).await?,
        Command::Receipt(args) => receipts::receipt(app, &args).await?,
        Command::Verify(args) => return receipts::verify(app, args).await,
        Command::Pause(args) => upload::pause(app, &args).await?,
        Command::Cancel(args) => upload::cancel(app, &args).await?,
        Command::Leftovers(args) => return leftovers::run(app, args).await,
        Command::Upload(args) => return upload::upload(app, args).await,
        Command::Watch(args) => return upload::watch(app, &args).await,
        Command::Resume(args) => return upload::resume(app, &args).await,
        Command::Retry(args) => return upload::retry(app, args).await,
        Command::Completions { shell } => return completions(shell),
    }
    Ok(Exit::Success)
}

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "uploader", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Success)
}

impl App {
    /// Shows one answer: as it is with `--json`, else as `human` puts it.
    fn show(&self, value: &Value, human: impl FnOnce(&Value) -> String) -> Result<()> {
        if self.json {
            print(&serde_json::to_string_pretty(value)?)
        } else {
            print(&human(value))
        }
    }

    /// Reads a list and shows it: an array with `--json`, else as `human` puts it.
    async fn show_list(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        list: &ListArgs,
        human: impl FnOnce(&[Value]) -> String,
    ) -> Result<()> {
        let Page { items, more } = self.client.list(segments, query, list.limit()).await?;
        let shown = items.len();
        if self.json {
            print(&serde_json::to_string_pretty(&Value::Array(items))?)?;
        } else if items.is_empty() {
            eprintln!("nothing found");
        } else {
            print(&human(&items))?;
        }
        if more {
            eprintln!("these are the first {shown}; more with --limit N or --all");
        }
        Ok(())
    }
}

/// Writes a text and a line's end to stdout.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// Reads a secret: from the first line of stdin, or without echo where stdin is a terminal.
fn read_secret(prompt: &str, from_stdin: bool) -> Result<String> {
    if !from_stdin || std::io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt)
            .context("there is no terminal to ask on; give it on stdin");
    }
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read stdin")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Puts a field into a request's body if it was given.
fn put<T: Into<Value>>(body: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}
