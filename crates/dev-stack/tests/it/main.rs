//! The servers as their users meet them: over the network, with clients that are not ours.

#![allow(
    clippy::unwrap_used,
    reason = "what the steps of a test need is part of the test"
)]

mod postgres;
mod redis;
mod s3;
mod sink;
mod stack;
