//! Configuration from the environment, and the set-up of logging: the one crate that reads environment variables.
//!
//! Each binary has one type here ([`Gateway`], [`Migration`], [`Worker`]) with `from_env()` and `help()`. Both are
//! made from the same table of variables, so that what `--help` says is what is read. A missing or malformed value
//! is reported in one line that names the variable, what is wrong and an example, and never a secret's value.

mod gateway;
mod source_roots;
mod storage_defaults;
pub mod tracing_setup;
mod variable;
mod worker;

pub use gateway::{Gateway, Migration};
pub use secrecy::{ExposeSecret, SecretString};
pub use source_roots::{SourceRoot, SourceRoots, root_name};
pub use storage_defaults::{StaticCredentials, StorageDefaults};
pub use tracing_setup::{LogFormat, Logging};
pub use variable::{InvalidEnvironment, Problem, Source};
pub use worker::Worker;

/// What is to happen at which fail-point of a program that was built for tests (`FAILPOINTS`); see the crate
/// `failpoint`. No operator's variable: programs built without the feature do not read it.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn failpoints() -> String {
    variable::environment("FAILPOINTS").unwrap_or_default()
}
