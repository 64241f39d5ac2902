//! The engine: finds files below a source root and sends them to a bucket. Files in, events out; it knows no
//! database, no queue and no web.
//!
//! Promises:
//! - nothing outside the [`SourceRoot`] is ever opened, and nothing but regular files is read;
//! - a file is reported as uploaded only when the store confirmed the checksum of exactly the bytes that were
//!   read, and those bytes were one version of the file;
//! - what goes wrong with one file is an outcome of that file; only what is wrong for all of them ends a
//!   call ([`Summary::fatal`]), and a store or a source that is away fails no file;
//! - memory is bounded by the [`Engine`]'s budget, whatever the number of files in flight.

mod ancestry;
mod buffers;
mod call;
pub mod check;
mod ending;
mod engine;
mod existing;
mod failure;
mod fair;
mod file;
mod filter;
mod listing;
#[doc(hidden)]
pub mod measured;
mod multipart;
mod opened;
mod parts;
mod plan;
mod pump;
mod read;
mod scan;
mod source;
mod walk;

pub use engine::Engine;
pub use failure::fatal_code;
pub use filter::{Filter, InvalidPattern};
pub use listing::{Listing, Look};
pub use plan::{
    Events, Existing, FatalError, Lost, Outcome, PlannedFile, Stop, Summary, UploadPlan, key_for,
};
pub use scan::{FoundFile, Scan, ScanError, ScanEvent, ScanOptions, ScanTotals, scan};
pub use source::{InvalidSourcePath, SourceError, SourceRoot, check_source_path};
