//! A thin S3 client: puts, multipart uploads, reads and listings of one bucket.
//!
//! It promises three things. A write is only called confirmed when the store proved which bytes it holds
//! ([`Stored::checksum`]). A request is repeated when, and only when, repeating it is safe and may help, and a
//! lost answer is settled by looking at what the store has. Keys arrive byte for byte as they were given.

mod bucket;
mod budget;
mod checksum;
mod clock;
mod config;
mod confirm;
mod crc;
mod credentials;
mod endpoint;
mod error;
mod http_client;
#[doc(hidden)]
pub mod measured;
mod multipart;
mod objects;
mod pace;
mod payload;
mod request;
mod signature;
mod verdict;
mod write;
mod xml;

pub use bucket::{Bucket, Fence, GetObject, ObjectBody};
pub use checksum::{Checksum, EtagHasher, Hasher, InvalidChecksum, is_md5_etag};
pub use config::{Addressing, BucketConfig, ConfigError, Credentials, RetryPolicy, Timeouts};
pub use error::{StorageError, StorageErrorKind};
pub use http_client::is_public;
pub use objects::{
    ListFrom, ListPage, ListedObject, ObjectInfo, OpenUpload, Part, Stored, UploadId, WriteOptions,
};
pub use pace::Admission;
