//! `api-gateway`: the HTTP API of Data Uploader, with SSE and Swagger UI.

mod actor;
mod cookies;
mod endpoints;
mod error;
mod first_admin;
mod openapi;
mod page;
mod patch;
mod person;
mod request;
mod request_id;
mod server;
mod start;
mod state;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

/// Says so when this is a program for tests.
const VERSION: &str = if cfg!(feature = "failpoints") {
    concat!(env!("CARGO_PKG_VERSION"), " with fail-points")
} else {
    env!("CARGO_PKG_VERSION")
};

/// The HTTP API of Data Uploader. Serves when no command is given.
#[derive(Parser)]
#[command(version = VERSION, after_help = settings::Gateway::help())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the schema up to date, make a first admin where there is nobody, and serve.
    Serve,
    /// Bring the schema up to date, and end.
    #[command(after_help = settings::Migration::help())]
    Migrate,
    /// Print the OpenAPI document as YAML.
    Openapi,
    /// Print a new RSA key as PEM, for JWT_PRIVATE_KEY_FILE.
    Keygen,
}

/// What a program tells that was called wrongly.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve(),
        Command::Migrate => migrate(),
        Command::Openapi => print(openapi::document().to_yaml()),
        Command::Keygen => print(identity::generate_signing_key_pem().map(|pem| {
            use secrecy::ExposeSecret as _;
            pem.expose_secret().to_owned()
        })),
    }
}

fn serve() -> ExitCode {
    match settings::Gateway::from_env() {
        Ok(settings) => {
            settings::tracing_setup::init(&settings.logging);
            #[cfg(feature = "failpoints")]
            if let Err(error) = failpoint::arm(&settings::failpoints()) {
                eprintln!("{error}");
                return ExitCode::from(WRONG_CONFIGURATION);
            }
            ended(actix_web::rt::System::new().block_on(start::serve(settings)))
        }
        Err(error) => misconfigured(&error),
    }
}

fn migrate() -> ExitCode {
    match settings::Migration::from_env() {
        Ok(settings) => {
            settings::tracing_setup::init(&settings.logging);
            ended(actix_web::rt::System::new().block_on(start::migrate(settings)))
        }
        Err(error) => misconfigured(&error),
    }
}

#[allow(clippy::print_stderr, reason = "logging is not configured yet")]
fn misconfigured(error: &settings::InvalidEnvironment) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(WRONG_CONFIGURATION)
}

#[allow(
    clippy::print_stderr,
    reason = "the last line a person sees, whatever the log's filter"
)]
fn ended(outcome: Result<(), start::StartError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("api-gateway: {error}");
            if error.is_configuration() {
                ExitCode::from(WRONG_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

#[allow(clippy::print_stderr, reason = "a person asked")]
fn print<E: std::fmt::Display>(text: Result<String, E>) -> ExitCode {
    match text {
        // Whoever reads may have read enough.
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
