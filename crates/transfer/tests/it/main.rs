//! The engine over real trees and a real S3 server, with a proxy between that counts and holds requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod changing_files;
mod disk_errors;
mod large_files;
mod listing;
mod ordinary_user;
mod pace;
mod passing_errors;
mod proxy;
mod scanning;
mod small_files;
mod stopping;
mod store_faults;
mod walking;
mod world;
