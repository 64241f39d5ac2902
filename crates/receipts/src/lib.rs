//! Receipts: what a session delivered, in a form that anybody can check later, without us.
//!
//! `docs/RECEIPTS.md` is the contract; this crate is the one place that writes and reads it. It promises:
//! - the bytes of a receipt are a function of what it is made of, so that it can be written again at any time;
//! - it is written and read piece by piece: a receipt of a million files takes no more memory than one of ten;
//! - the root hash is over every file in the order of their numbers, and the signature over the root and all that
//!   stands beside the files: nothing in a receipt can be changed without one of the two saying so.
//!
//! No files, no network and no database: bytes come in and go out.

mod canonical;
mod format;
mod keys;
mod read;
mod write;

pub use canonical::{Root, signed_message};
pub use format::{
    ByteCounts, Company, Counts, Entry, FORMAT, FileCounts, Header, Named, SessionPart, SignaturePart,
    Source, Tool,
};
pub use keys::{KeyError, PublicKey, Signature, SigningKey};
pub use read::{Flaw, ReadError, Receipt, read};
pub use write::{Writer, receipt_key, withdrawn};

#[cfg(test)]
mod tests;
