//! The gateway's program over a real Postgres and Redis, asked over HTTP. Each test has a database and a gateway of
//! its own. There are no workers: what they write, the tests write through the `database` crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod cookies;
mod cycles;
mod document;
mod events;
mod fixture;
mod http;
mod leftovers;
mod people;
mod plans;
mod projects;
mod queue;
mod receipts;
mod sessions;
mod sign_in;
mod sources;
mod starting;
mod tenancy;
