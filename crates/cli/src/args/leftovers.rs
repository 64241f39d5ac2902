//! Open multipart uploads on the command line.

use super::ListArgs;
use clap::{Args, Subcommand};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LeftoversArgs {
    #[command(subcommand)]
    pub(crate) command: Option<LeftoversCommand>,
    /// Of this project alone: its id or name [default: all projects]
    #[arg(long)]
    pub(crate) project: Option<String>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Subcommand)]
pub(crate) enum LeftoversCommand {
    /// Abort one, or all that no unfinished upload uses: the store drops what it has of them
    Abort(AbortArgs),
}

#[derive(Args)]
pub(crate) struct AbortArgs {
    /// The key, as listed
    #[arg(requires = "upload_id", required_unless_present = "all")]
    pub(crate) key: Option<String>,
    /// The upload's id, as listed
    pub(crate) upload_id: Option<String>,
    /// Every one that no unfinished upload uses
    #[arg(long, conflicts_with_all = ["key", "upload_id"])]
    pub(crate) all: bool,
    /// The project's id or name [default with --all: all projects]
    #[arg(long, required_unless_present = "all")]
    pub(crate) project: Option<String>,
    /// Do not ask before --all
    #[arg(long, short)]
    pub(crate) yes: bool,
}
