//! The buckets of projects, for gateway and workers alike: how one is opened (whose credentials, which endpoint), and
//! the multipart uploads that were left open in it, and the receipts that are put into it.
//!
//! No request goes to an endpoint that a project may not name, and none is signed with credentials that are not the
//! project's to use: that is decided in [`Buckets`] and nowhere else. What is left open is looked for below the
//! project's own prefixes only; what else is in the bucket is not ours.

mod leftovers;
mod object_writer;
mod open;
pub mod receipts;

pub use leftovers::{
    CleanUpError, Closed, SAFE_AGE, abort_all, clean_up, close_unused, initiated_at, open_uploads,
};
pub use object_writer::ObjectWriter;
pub use open::{Buckets, CannotOpen};
