//! The queries over a real Postgres, each test in a database of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod away;
mod connections;
mod fixture;
mod isolation;
mod jobs;
mod leftovers;
mod locking;
mod migrating;
mod outcomes;
mod pausing;
mod plans;
mod receipts;
mod recording;
mod retention;
mod sessions;
mod signing_out;
mod sweeping;
mod transitions;
