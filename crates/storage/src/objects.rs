//! What goes into the calls of a bucket and what comes out of them.

use crate::checksum::Checksum;
use std::collections::BTreeMap;
use std::fmt;

/// How an object is written.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// For a put: the checksum of the whole body. For a multipart upload its kind decides what every part
    /// carries; its value (the one of [`Checksum::combine_parts`]) is used when the upload is completed, and is
    /// worked out from the parts when it is empty.
    pub checksum: Checksum,
    /// Says whose object it is: sent as `x-amz-meta-uploader-token`, and what settles a lost answer.
    pub token: Option<String>,
    /// User metadata, without the `x-amz-meta-` before the names. Printable ASCII without double spaces.
    pub metadata: Vec<(String, String)>,
    /// The media type of the content.
    pub content_type: Option<String>,
    /// Refuse to overwrite: fails as [`crate::StorageErrorKind::PreconditionFailed`] when somebody else's object
    /// has this key, and succeeds when the object there is the one that is being written.
    pub if_none_match: bool,
}

impl WriteOptions {
    /// Options that carry a checksum and nothing else.
    #[must_use]
    pub fn new(checksum: Checksum) -> Self {
        Self {
            checksum,
            token: None,
            metadata: Vec::new(),
            content_type: None,
            if_none_match: false,
        }
    }
}

/// The name the store gave to a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// An upload id, as the store gave it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for UploadId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of a multipart upload that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1 to 10,000.
    pub number: u32,
    /// Without its quotes.
    pub etag: String,
    /// Its length.
    pub size_bytes: u64,
    /// What the store confirmed (see [`Stored::checksum`]), or listed.
    pub checksum: Option<Checksum>,
}

/// A finished write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Without its quotes.
    pub etag: Option<String>,
    /// The checksum that was asked for, when the store confirmed it; `None` when it gave no proof.
    ///
    /// Proof is one of: its answer, or a HEAD afterwards, tells the same checksum; its ETag is the MD5 of the
    /// bytes that were sent (of the parts' MD5s for a multipart upload); or, at an endpoint that refuses the
    /// checksum headers, it accepted the `Content-MD5`, which every store must compare.
    pub checksum: Option<Checksum>,
    /// How often the request was sent, at least 1.
    pub attempts: u32,
}

/// What the store knows about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its length.
    pub size_bytes: u64,
    /// Without its quotes.
    pub etag: Option<String>,
    /// The first checksum of a kind we know that the store told.
    pub checksum: Option<Checksum>,
    /// The checksum is one of the parts' checksums, not of the object's bytes.
    pub checksum_is_composite: bool,
    /// User metadata, names in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// The token of [`WriteOptions::token`].
    pub token: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
    /// As the store wrote it (an HTTP date).
    pub last_modified: Option<String>,
}

/// Where a listing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFrom<'a> {
    /// With the first key.
    Start,
    /// With the first key whose bytes come after these.
    After(&'a str),
    /// Where an earlier page ended: its [`ListPage::next`].
    Page(&'a str),
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// In the order of their keys' bytes.
    pub objects: Vec<ListedObject>,
    /// Hand this to the next call; `None` on the last page.
    pub next: Option<String>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
    /// Without its quotes.
    pub etag: Option<String>,
    /// As the store wrote it (RFC 3339).
    pub last_modified: Option<String>,
}

/// A multipart upload that was neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// The key it will have.
    pub key: String,
    /// Its id.
    pub upload_id: UploadId,
    /// As the store wrote it (RFC 3339).
    pub initiated: Option<String>,
}

/// An ETag without the quotes around it.
pub(crate) fn unquoted_etag(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}
