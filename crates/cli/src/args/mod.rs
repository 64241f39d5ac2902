//! The command line: what can be asked for, and how it is spelled.

mod delivery;
mod leftovers;
mod receipts;
mod uploads;

pub(crate) use delivery::{CycleArg, CyclesCommand, ProjectFields, ProjectsCommand, RootsCommand};
pub(crate) use leftovers::{AbortArgs, LeftoversArgs, LeftoversCommand};
pub(crate) use receipts::{ReceiptArgs, VerifyArgs};
pub(crate) use uploads::{
    FilesArgs, ResumeArgs, RetryArgs, SessionArg, SessionsCommand, SettingsArgs, UploadArgs, WatchArgs,
};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Exit codes: 0 all arrived (or done), 1 failed, 2 wrong usage, 3 partly: some files failed (verify: something differs), 130 stopped by Ctrl-C.

Example:
  uploader login --username ada
  uploader projects create --name Scans --bucket lab-scans --region eu-central-1
  uploader cycles create --project Scans
  uploader upload --project Scans --cycle C1 --root instruments run-42";

/// Uploads directories into S3 buckets, and shows what arrived.
#[derive(Parser)]
#[command(name = "uploader", version, about, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct Global {
    /// The server [default: the one signed in to, else http://127.0.0.1:8000]
    #[arg(
        long,
        env = "UPLOADER_API_URL",
        value_name = "URL",
        global = true,
        help_heading = "Everywhere",
        hide_env_values = true
    )]
    pub(crate) api_url: Option<String>,
    /// The file that keeps the sign-in [default: $XDG_CONFIG_HOME/uploader/config.json]
    #[arg(
        long,
        env = "UPLOADER_CONFIG", value_parser = path_parser(),
        value_name = "FILE",
        global = true, help_heading = "Everywhere",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// A bearer token to use instead of a sign-in (better given as the variable)
    #[arg(
        long,
        env = "UPLOADER_TOKEN",
        value_name = "TOKEN",
        global = true,
        help_heading = "Everywhere",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// Write JSON to stdout: one document, lists as an array; while watching, one line per change
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sign in
    Login(LoginArgs),
    /// End the sign-in
    Logout,
    /// Change the password of whoever is signed in
    ChangePassword(ChangePasswordArgs),
    /// Show who is signed in, where, and as what
    Whoami,
    /// Delivery targets: bucket, prefix, credentials
    #[command(subcommand)]
    Projects(ProjectsCommand),
    /// Delivery rounds of a project: C1, C2, C3 ...
    #[command(subcommand)]
    Cycles(CyclesCommand),
    /// Directories on the workers' machines to upload from
    #[command(subcommand)]
    Roots(RootsCommand),
    /// Upload a directory of a source root, and watch it arrive
    Upload(UploadArgs),
    /// Show what waits and runs at each source root, your company's place in line, and why it waits
    Queue,
    /// The record of uploads
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Watch an upload to its end
    Watch(WatchArgs),
    /// Show what a dry run found that an upload would do
    Plan(SessionArg),
    /// List the files of an upload
    Files(FilesArgs),
    /// Show an upload's failures by cause, with what to do about each
    Failures(SessionArg),
    /// Download the receipt of an upload: every file with size and checksum, signed
    Receipt(ReceiptArgs),
    /// Check a receipt, and whether a directory or the bucket holds what it says
    Verify(VerifyArgs),
    /// Let an upload rest: what is under way still arrives, nothing further is begun
    Pause(SessionArg),
    /// Let a paused upload go on where it stopped
    Resume(ResumeArgs),
    /// Stop an upload for good
    Cancel(SessionArg),
    /// Upload again the files that failed
    Retry(RetryArgs),
    /// List multipart uploads that are open in your buckets: how old, how large, and who uses them; or abort them
    Leftovers(LeftoversArgs),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
pub(crate) struct LoginArgs {
    /// The user's name or e-mail address [default: asked for]
    #[arg(long, short)]
    pub(crate) username: Option<String>,
    /// Read the password from the first line of stdin instead of asking
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The code of the second factor, where one is set [default: asked for]
    #[arg(long, value_name = "CODE")]
    pub(crate) mfa_code: Option<String>,
}

#[derive(Args)]
pub(crate) struct ChangePasswordArgs {
    /// Read the current password from the first line of stdin and the new one from the second
    #[arg(long)]
    pub(crate) passwords_stdin: bool,
}

/// How much of a list.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All, however many
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl ListArgs {
    /// The most items wanted; None for all.
    pub(crate) fn limit(&self) -> Option<usize> {
        (!self.all).then_some(self.limit as usize)
    }
}

/// A path, or an empty text, which an environment variable may well be.
fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_key_needs_its_secret() {
        let base = ["uploader", "projects", "create", "--name", "n", "--bucket", "b"];
        let with = |more: &[&str]| Cli::try_parse_from(base.iter().chain(more));
        assert!(with(&[]).is_ok());
        assert!(with(&["--access-key-id", "x"]).is_err());
        assert!(with(&["--access-key-id", "x", "--secret-access-key-stdin"]).is_ok());
    }
}
