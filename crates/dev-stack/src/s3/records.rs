//! What the server remembers of buckets' contents, and the JSON it keeps on disk.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::checksums::{Algorithm, Sums};

/// The headers a client may give an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) cache_control: Option<String>,
    /// Absent: STANDARD.
    pub(super) storage_class: Option<String>,
    pub(super) user_metadata: HashMap<String, String>,
}

/// Reads the fields of [`Attributes`] from a type of the protocol.
macro_rules! attributes_of {
    ($input:expr) => {
        $crate::s3::records::Attributes {
            content_type: $input.content_type.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_language: $input.content_language.clone(),
            cache_control: $input.cache_control.clone(),
            storage_class: $input
                .storage_class
                .as_ref()
                .map(|class| class.as_str().to_owned()),
            user_metadata: $input.metadata.clone().unwrap_or_default(),
        }
    };
}
pub(super) use attributes_of;

/// One object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) key: String,
    pub(super) size_bytes: u64,
    /// Without quotes.
    pub(super) etag: String,
    pub(super) modified_ms: u64,
    pub(super) sums: Sums,
    /// Whether `sums` are of the parts' sums and not of the bytes.
    #[serde(default)]
    pub(super) is_composite: bool,
    pub(super) attributes: Attributes,
    /// Where the bytes lie below `objects`, when not at the key's own path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) aside: Option<PathBuf>,
}

/// One part of a multipart upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub(super) number: u16,
    pub(super) size_bytes: u64,
    /// Hexadecimal MD5.
    pub(super) etag: String,
    pub(super) modified_ms: u64,
    pub(super) sums: Sums,
    /// Always known, so that any upload can end with the whole object's.
    pub(super) crc64nvme: String,
}

/// A multipart upload that is neither complete nor aborted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UploadRecord {
    pub(super) upload_id: String,
    pub(super) key: String,
    pub(super) initiated_ms: u64,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) is_composite: bool,
    pub(super) attributes: Attributes,
    #[serde(skip)]
    pub(super) parts: BTreeMap<u16, PartRecord>,
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    })
}

pub(super) fn time_of(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
