//! What goes into an upload call and what comes out of it.

use crate::source::SourceRoot;
use domain::object_key::{KeyError, PathText, object_key};
use domain::{CompanyId, FileErrorCode, FileStatus, SessionErrorCode, SessionSettings};
use std::time::SystemTime;
use storage::Bucket;

/// What holds for all files of one call.
#[derive(Clone)]
pub struct UploadPlan {
    /// Whose files they are: companies take turns at the places and the memory of an engine.
    pub company_id: CompanyId,
    /// Where the files are.
    pub root: SourceRoot,
    /// The source below the root, as it was scanned: a directory or a single file.
    pub source_path: String,
    /// What the keys begin with: the prefixes of project, cycle and target.
    pub key_prefix: String,
    /// How to upload.
    pub settings: SessionSettings,
    /// The token of a file's object is `{token_prefix}/{number}`. Calls with the same prefix share the
    /// session's `concurrency` in this engine.
    pub token_prefix: String,
    /// Where the files go.
    pub bucket: Bucket,
    /// Files that fail for causes that may pass, while none arrives that they could be compared with, are left without
    /// an outcome, for the store may be to blame: the call ends with [`SessionErrorCode::StorageUnreachable`]. Without
    /// patience, so do as many of them in a row as leave no doubt, and a few are failures of their own.
    pub is_patient: bool,
}

/// A file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its number in the session.
    pub number: i64,
    /// Its path below the source.
    pub path: PathText,
    /// Its size in bytes when it was scanned.
    pub size_bytes: u64,
    /// The multipart upload that an earlier attempt left open.
    pub upload_id: Option<String>,
    /// The size in bytes of that upload's parts.
    pub multipart_part_size_bytes: Option<u64>,
    /// How often it was tried in earlier calls.
    pub attempts: u32,
    /// The object with its key that may have the same bytes: then nothing is sent.
    pub existing: Option<Existing>,
}

/// What is known of the bytes of an object. Without either, it is taken to have others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Its ETag, without quotes: the MD5 of its bytes, unless it was sent in parts or the store encrypts it.
    pub etag: Option<String>,
    /// Its checksum, as [`Outcome::checksum`].
    pub checksum: Option<String>,
}

/// How one file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its number in the session.
    pub number: i64,
    /// `Uploaded`, `Skipped` (the object there has the same bytes), `Failed`, or `Cancelled`.
    pub status: FileStatus,
    /// Its size in bytes as read (as planned, when it was not read).
    pub size_bytes: u64,
    /// When the version that was read was modified, in nanoseconds of Unix time; absent when it was not read.
    pub modified_at_ns: Option<i64>,
    /// The object's ETag, without quotes.
    pub etag: Option<String>,
    /// The object's checksum as `kind:base64`, with `-{parts}` behind it when it is one of the parts' checksums.
    pub checksum: Option<String>,
    /// Why it was not sent, and in words.
    pub error: Option<(FileErrorCode, String)>,
    /// How often it was tried, earlier calls included.
    pub attempts: u32,
    /// When this call began with it.
    pub started_at: SystemTime,
    /// When it ended.
    pub finished_at: SystemTime,
}

/// The fence failed: somebody else has the job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job is no longer ours")]
pub struct Lost;

/// Where an upload call reports. The worker implements it over its database, tests and tools over memory.
pub trait Events: Send + Sync + 'static {
    /// The store acknowledged `sent_bytes_delta` more bytes of a file; negative when a file starts over or
    /// does not arrive after all. The deltas of a file sum up to its size when it was uploaded and to nothing
    /// otherwise. Called often; must not block.
    fn progress(&self, number: i64, sent_bytes_delta: i64);

    /// The store confirmed a file or a part that was just sent. Called often; must not block.
    fn stored(&self) {}

    /// Whether the job is surely still the caller's. Asked before anything is sent that changes the store, and before it
    /// is sent again; once it is not, the call goes on as after [`Stop::Drain`]. Called often; must not block.
    fn is_ours(&self) -> bool {
        true
    }

    /// Waits until so many bytes may be sent. Asked before a file or a part has a place, in the order of sending; what a
    /// request is sent again for is not asked for again.
    fn may_send(&self, _bytes: u64) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Work on a file begins. Must not block.
    fn started(&self, file: &PlannedFile);

    /// A file ended. No further file is started until this returns.
    fn finished(&self, outcome: Outcome) -> impl Future<Output = ()> + Send;

    /// A multipart upload was opened. What is told here must be durable before `Ok` is returned: the first part
    /// is sent after it.
    ///
    /// # Errors
    /// [`Lost`] ends the call at once; nothing more is sent but the abort of this upload.
    fn multipart_opened(
        &self,
        number: i64,
        upload_id: &str,
        part_size_bytes: u64,
    ) -> impl Future<Output = Result<(), Lost>> + Send;
}

/// What a call is told while it runs. It only ever goes down this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    #[default]
    Run,
    /// Start no further file, part or attempt; what is in flight ends. Multipart uploads stay open, to be resumed.
    Drain,
    /// Start no further file, part or attempt; what is in flight ends. Multipart uploads are aborted.
    Cancel,
    /// Stop at once and send nothing more, not even an abort, but that of an upload which was just being opened.
    Abandon,
}

/// Why no file of this call, nor of any other with this bucket, can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalError {
    /// The cause.
    pub code: SessionErrorCode,
    /// The cause in words.
    pub detail: String,
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The numbers of the files that have no outcome, in order: not started, stopped with their multipart upload
    /// open, or cut off because the store could not be reached or failed file after file.
    pub not_started: Vec<i64>,
    /// What ended the call for all files.
    pub fatal: Option<FatalError>,
    /// [`Events::multipart_opened`] reported that the job is lost.
    pub lost: bool,
}

/// The key of the file at `path`.
///
/// # Errors
/// When the key is longer than S3 takes, has a component `.` or `..`, or is that of a receipt.
pub fn key_for(key_prefix: &str, path: &PathText) -> Result<String, KeyError> {
    object_key(key_prefix, &path.text)
}
