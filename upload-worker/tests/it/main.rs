//! The main job from end to end: a gateway, workers, Postgres, Redis and S3 servers as processes and sockets, real
//! directories, and boto3 as the witness of what arrived.
//!
//! Every test has a bucket, a project, a cycle and a source of its own. Those that only need the main job share
//! one stack; those that stop or kill parts of it have their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bench;
mod cancelling;
mod changing;
mod clocks;
mod command_line;
mod crashes;
mod delivery;
mod events;
mod existing;
#[cfg(feature = "failpoints")]
mod failpoints;
mod fixture;
mod full_disk;
mod leftovers;
mod locations;
mod long_outages;
mod lost_commits;
mod neighbours;
mod outages;
mod pausing;
mod plans;
mod poison;
mod receipts;
mod resuming;
mod retention;
mod settings;
mod sharing;
mod source_paths;
mod targets;
mod torture;
