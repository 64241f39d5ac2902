//! Projects, cycles and source roots on the command line.

use super::ListArgs;
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum ProjectsCommand {
    /// List projects
    List(ListArgs),
    /// Show a project
    Show {
        /// Its id or name
        project: String,
    },
    /// Create a project
    Create {
        /// Its name
        #[arg(long)]
        name: String,
        /// The bucket it delivers into
        #[arg(long)]
        bucket: String,
        #[command(flatten)]
        fields: ProjectFields,
    },
    /// Change a project; what is not given stays, an empty value clears
    Update {
        /// Its id or name
        project: String,
        /// A new name
        #[arg(long)]
        name: Option<String>,
        /// Another bucket
        #[arg(long)]
        bucket: Option<String>,
        /// Whether uploads may start
        #[arg(long, value_name = "true|false")]
        active: Option<bool>,
        /// Forget the stored credentials
        #[arg(long, conflicts_with = "access_key_id")]
        clear_credentials: bool,
        #[command(flatten)]
        fields: ProjectFields,
    },
    /// Delete a project (nothing in the bucket is touched)
    Delete {
        /// Its id or name
        project: String,
        /// Also delete the record of its uploads
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Args)]
pub(crate) struct ProjectFields {
    /// The bucket's region
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// The S3 server, where it is not AWS
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// Put before every object key, such as `deliveries/`
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// What it is for
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// The storage class of its objects
    #[arg(long)]
    pub(crate) storage_class: Option<String>,
    /// A profile of the workers' AWS configuration
    #[arg(long)]
    pub(crate) aws_profile: Option<String>,
    /// Who in the company sees it
    #[arg(long, value_parser = ["company"])]
    pub(crate) visibility: Option<String>,
    /// The id of an access key to store (sealed, never shown again)
    #[arg(long, requires = "secret_access_key_stdin", value_name = "ID")]
    pub(crate) access_key_id: Option<String>,
    /// Read the secret of that key from the first line of stdin (asked for on a terminal)
    #[arg(long, requires = "access_key_id")]
    pub(crate) secret_access_key_stdin: bool,
}

/// A cycle, by id, or by name or number within a project.
#[derive(Args)]
pub(crate) struct CycleArg {
    /// Its id; with --project also its name or number (C2, 2)
    pub(crate) cycle: String,
    /// The project's id or name
    #[arg(long)]
    pub(crate) project: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum CyclesCommand {
    /// List a project's cycles
    List {
        /// The project's id or name
        #[arg(long)]
        project: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show a cycle
    Show(CycleArg),
    /// Create a project's next cycle
    Create {
        /// The project's id or name
        #[arg(long)]
        project: String,
        /// Its number [default: the next free one]
        #[arg(long, value_name = "N")]
        number: Option<u32>,
        /// Its prefix below the project's [default: `C{n}/`]
        #[arg(long)]
        prefix: Option<String>,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
    },
    /// Declare a cycle complete
    Complete(CycleArg),
    /// Open a completed cycle again
    Reopen(CycleArg),
    /// Delete a cycle (nothing in the bucket is touched)
    Delete(CycleArg),
}

#[derive(Subcommand)]
pub(crate) enum RootsCommand {
    /// List the source roots
    List,
    /// List a directory of a source root
    Ls {
        /// The root's name
        root: String,
        /// A directory below it
        #[arg(default_value = "")]
        path: String,
        #[command(flatten)]
        list: ListArgs,
    },
}
