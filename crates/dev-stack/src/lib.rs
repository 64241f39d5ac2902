//! Private Postgres, Redis and S3 servers and the whole product on top of them, for the demo, development and tests.
//!
//! Whatever is started here listens on 127.0.0.1 only, keeps its files in the folder it was given, and ends with
//! the process that started it, even when that is killed.

mod cache;
mod compile;
pub mod faulty_disk;
pub mod fetch;
pub mod postgres;
pub mod process;
pub mod python;
pub mod redis;
pub mod s3;
pub mod sample;
pub mod secrets;
pub mod shifted_clock;
pub mod sink;
pub mod stack;
pub mod test_cluster;

pub use cache::bin_folder;
pub use postgres::{Losing, Postgres, PostgresOptions, PostgresProxy};
pub use redis::Redis;
pub use s3::{S3Options, S3Server};
pub use secrets::{secrets_key, signing_key_pem};
pub use stack::{Stack, StackOptions};
pub use test_cluster::{TestCluster, TestDatabase};
