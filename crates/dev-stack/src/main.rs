//! `dev-stack`: the product on this machine, for people and for `make`.

mod commands;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Starts private Postgres, Redis and S3 servers with the product on top of them.
#[derive(Parser)]
#[command(name = "dev-stack", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything until Ctrl-C; says `ready <API_URL>` when all answers
    Dev(DevArguments),
    /// Upload a directory before your eyes, check every object, and stay up
    Demo(DemoArguments),
    /// Let everything fail while deliveries run, and judge after every round what became of them
    Torture(TortureArguments),
    /// Measure how long ten files wait while another company has a million queued, against an idle service
    Neighbour(NeighbourArguments),
    /// Measure the service against other tools and against the least that can be done
    Bench(BenchArguments),
    /// Answer S3 clients that upload, and drop what they send
    Sink {
        /// The port on 127.0.0.1
        #[arg(long)]
        port: u16,
    },
    /// Upload a directory by raw sockets: no signatures, no checksums
    Floor(FloorArguments),
    /// Run a command with a throw-away, migrated database in DATABASE_URL
    WithDatabase {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// The options of `dev`.
#[derive(clap::Args)]
struct DevArguments {
    /// The folder for data, logs and the file `env`
    #[arg(long, env = "DEV_DIR", default_value = ".dev")]
    dir: PathBuf,
    /// How many workers
    #[arg(long, env = "WORKERS", default_value = "1", value_parser = number_or::<1>)]
    workers: usize,
    /// The gateway's port [default: last time's, else a free one]
    #[arg(long, env = "PORT", default_value = "0", hide_default_value = true, value_parser = port)]
    port: u16,
    /// What may be uploaded: name=/path,… [default: samples, a folder with a few files]
    #[arg(long, env = "SOURCE_ROOTS")]
    source_roots: Option<String>,
}

/// The options of `demo`.
#[derive(clap::Args)]
struct DemoArguments {
    /// The directory to upload; empty: a generated sample
    #[arg(long, env = "SOURCE", default_value = "", hide_default_value = true, value_parser = clap::builder::OsStringValueParser::new())]
    source: OsString,
    /// The folder for data, logs and the bucket; what an earlier demo left there is removed
    #[arg(long, default_value = ".demo")]
    dir: PathBuf,
    /// The gateway's port [default: a free one]
    #[arg(long, env = "PORT", default_value = "0", hide_default_value = true, value_parser = port)]
    port: u16,
    /// How many workers
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// End after the summary: exit code 0 when every object is right, else 1
    #[arg(long)]
    once: bool,
}

/// The options of `torture`.
#[derive(clap::Args)]
struct TortureArguments {
    /// What faults and sources are drawn from [default: any]
    #[arg(long)]
    seed: Option<u64>,
    /// How many rounds
    #[arg(long, default_value_t = 4)]
    rounds: u64,
    /// Go on for so long instead
    #[arg(long)]
    minutes: Option<f64>,
    /// For how many seconds of a round faults are injected, where its sessions last so long
    #[arg(long, default_value_t = 40.0)]
    window: f64,
    /// How many workers
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Inject nothing, spoil what was delivered instead, and see that the oracle tells: ends with 1
    #[arg(long, hide = true)]
    sabotage: bool,
    /// Write the figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The options of `neighbour`.
#[derive(clap::Args)]
struct NeighbourArguments {
    /// How many files the large company has
    #[arg(long, default_value_t = 1_000_000)]
    files: usize,
    /// How many deliveries of ten files are measured, on the idle service and beside the large company
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How many workers
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// When the store answers, in milliseconds
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Write the figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The options of `bench`.
#[derive(clap::Args)]
struct BenchArguments {
    /// Which data sets
    #[arg(long, value_delimiter = ',', default_value = "A,B,C", ignore_case = true)]
    sets: Vec<commands::bench::SetName>,
    /// How many files data set D has; several numbers, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000000")]
    files_d: Vec<usize>,
    /// How many timed rounds [default: 5; with --small 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Small data sets, and nothing is installed: shows that all works
    #[arg(long)]
    small: bool,
    /// Who takes part beside the service [default: all; aws not with A and D, where it is slow]
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<commands::bench::Tool>>,
    /// How many workers; several numbers, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = at_least_one)]
    workers: Vec<usize>,
    /// Where the files go, which are removed in the end [default: the system's folder for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the figures to this file, too, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables to this file, too
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// The options of `floor`.
#[derive(clap::Args)]
struct FloorArguments {
    /// Where to: http://address:port
    #[arg(long)]
    endpoint_url: String,
    /// The bucket
    #[arg(long)]
    bucket: String,
    /// What the keys begin with
    #[arg(long)]
    prefix: String,
    /// The directory
    #[arg(long)]
    dir: PathBuf,
    /// How many connections, each with a thread
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// The size of parts in MiB; larger files go in parts
    #[arg(long, default_value_t = 16)]
    part_mib: u64,
}

/// A number; a variable that is set to nothing counts as not set.
fn number_or<const DEFAULT: usize>(text: &str) -> Result<usize, std::num::ParseIntError> {
    if text.is_empty() {
        Ok(DEFAULT)
    } else {
        text.parse()
    }
}

/// A number of things that there must be.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

/// A port; a variable that is set to nothing counts as not set.
fn port(text: &str) -> Result<u16, std::num::ParseIntError> {
    if text.is_empty() { Ok(0) } else { text.parse() }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What is measured itself runs without what the others need.
    let measured = match &arguments.command {
        Command::Sink { port } => Some(dev_stack::sink::Sink::bind(*port).and_then(serve)),
        Command::Floor(arguments) => Some(commands::bench::floor::run(arguments)),
        _ => None,
    };
    if let Some(result) = measured {
        return ended(result);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dev-stack: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Dev(arguments) => commands::dev::run(arguments).await,
            Command::Demo(arguments) => commands::demo::run(arguments).await,
            Command::Torture(arguments) => commands::torture::run(arguments).await,
            Command::Neighbour(arguments) => commands::neighbour::run(arguments).await,
            Command::Bench(arguments) => commands::bench::run(arguments).await,
            Command::WithDatabase { command } => commands::with_database::run(&command).await,
            Command::Sink { .. } | Command::Floor(_) => Ok(ExitCode::SUCCESS),
        }
    });
    ended(result)
}

fn serve(sink: dev_stack::sink::Sink) -> anyhow::Result<ExitCode> {
    sink.serve()?;
    Ok(ExitCode::SUCCESS)
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("dev-stack: {error:#}");
        ExitCode::FAILURE
    })
}
