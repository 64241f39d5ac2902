//! What a receipt is made of. The fields of [`Entry`] stand in the order of their names: what serde writes of it is
//! its canonical form.

use domain::{CompanyId, CycleId, FileErrorCode, FileStatus, ProjectId, SessionId, SessionStatus};
use serde::{Deserialize, Serialize};

/// The format that is written, and the only one that is read.
pub const FORMAT: &str = "data-uploader-receipt/1";

/// All of a receipt but its files, root hash and signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// What made it.
    pub tool: Tool,
    /// Whose delivery.
    pub company: Company,
    /// Of which project.
    pub project: Named<ProjectId>,
    /// In which delivery round.
    pub cycle: Named<CycleId>,
    /// The session and its end.
    pub session: SessionPart,
    /// Where it was read.
    pub source: Source,
    /// The bucket it went to.
    pub bucket: String,
    /// The bucket's region.
    pub region: String,
    /// The store; absent: Amazon S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// What every key begins with; the rest of a key is the file's path below the source.
    pub key_prefix: String,
    /// The session's settings, all of them.
    pub settings: serde_json::Value,
    /// Sums over the files.
    pub counts: Counts,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A company.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Company {
    /// Its id.
    pub id: CompanyId,
    /// Its code.
    pub code: String,
}

/// Something with an id, and the name it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<Id> {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
}

/// A session that came to its end. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPart {
    /// Its id.
    pub id: SessionId,
    /// 1, and one more for each retry.
    pub run: i32,
    /// `completed` or `completed_with_errors`.
    pub status: SessionStatus,
    /// When it was made.
    pub created_at: String,
    /// When this run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When the last of its files had its outcome.
    pub ended_at: String,
}

/// Where a session read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The source root's name.
    pub root: String,
    /// Below it; empty for the root itself.
    pub path: String,
}

/// Sums over the files of a receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many.
    pub files: FileCounts,
    /// How large.
    pub bytes: ByteCounts,
}

/// Files by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// All.
    pub total: u64,
    /// Arrived.
    pub uploaded: u64,
    /// Left out.
    pub skipped: u64,
    /// Not delivered.
    pub failed: u64,
    /// Not tried, because an earlier run was stopped.
    pub cancelled: u64,
}

/// Bytes of files by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteCounts {
    /// All.
    pub total: u64,
    /// Arrived.
    pub uploaded: u64,
    /// Left out.
    pub skipped: u64,
    /// Not delivered.
    pub failed: u64,
}

impl Counts {
    /// Counts one more file.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let (files, bytes) = match entry.status {
            FileStatus::Uploaded => (&mut self.files.uploaded, Some(&mut self.bytes.uploaded)),
            FileStatus::Skipped => (&mut self.files.skipped, Some(&mut self.bytes.skipped)),
            FileStatus::Failed => (&mut self.files.failed, Some(&mut self.bytes.failed)),
            FileStatus::Pending | FileStatus::Uploading | FileStatus::Cancelled => {
                (&mut self.files.cancelled, None)
            }
        };
        *files += 1;
        if let Some(bytes) = bytes {
            *bytes = bytes.saturating_add(entry.size_bytes);
        }
        self.files.total += 1;
        self.bytes.total = self.bytes.total.saturating_add(entry.size_bytes);
    }
}

/// One file. Unknown fields are refused: they would be in no hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `kind:base64`, and `-{parts}` behind it where it is one of the parts' checksums; as the store confirmed it to this
    /// session, or to the earlier one that delivered the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Why it was not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// As the store gave it, without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The object's key: [`Header::key_prefix`] and the path below the source in text form.
    pub key: String,
    /// Its number in the session, from 1, ascending; numbers may be missing.
    pub number: i64,
    /// Whether the path has `%XX` for bytes that are no clean text.
    #[serde(default, skip_serializing_if = "is_false")]
    pub path_is_encoded: bool,
    /// In bytes, of the version that was read.
    pub size_bytes: u64,
    /// Its outcome.
    pub status: FileStatus,
}

impl Entry {
    /// Whether the bucket has it, by this session or an earlier one.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        let is_unchanged = self.status == FileStatus::Skipped
            && self.error_code.as_deref() == Some(FileErrorCode::Unchanged.as_str());
        self.status == FileStatus::Uploaded || is_unchanged
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Who signed, and the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignaturePart {
    /// `ed25519`.
    pub algorithm: String,
    /// [`crate::PublicKey::id`] of the key.
    pub key_id: String,
    /// The key, 32 bytes in base64.
    pub public_key: String,
    /// The signature, 64 bytes in base64.
    pub value: String,
}
