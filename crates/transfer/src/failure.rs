//! From what went wrong to what people are told.

use crate::ending::LeftOpen;
use domain::{FileErrorCode, SessionErrorCode};
use storage::{StorageError, StorageErrorKind};

/// Why a file was not delivered.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: FileErrorCode,
    pub(crate) detail: String,
    /// Set when no other file will fare better.
    pub(crate) fatal: Option<SessionErrorCode>,
    /// The store, or the way to it, may be to blame rather than the file: what fails now may succeed later.
    pub(crate) is_passing: bool,
    /// The file's multipart upload, when it may be of use yet.
    pub(crate) left_open: Option<LeftOpen>,
    /// How often the request was sent that failed, at least 1.
    pub(crate) attempts: u32,
}

impl Failure {
    pub(crate) fn new(code: FileErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            fatal: None,
            is_passing: false,
            left_open: None,
            attempts: 1,
        }
    }

    /// The cause, when the store or the source is away: every other file meets the same, and this one is as good
    /// as not begun.
    pub(crate) fn is_away(&self) -> Option<SessionErrorCode> {
        use SessionErrorCode::{SourceUnreadable, StorageUnreachable};
        self.fatal
            .filter(|code| matches!(code, SourceUnreadable | StorageUnreachable))
    }

    /// A panic in our own code, or a runtime that is going down.
    pub(crate) fn internal(error: &tokio::task::JoinError) -> Self {
        Self {
            fatal: Some(SessionErrorCode::Internal),
            ..Self::new(
                FileErrorCode::ReadError,
                format!("a fault of the engine: {error}"),
            )
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        use StorageErrorKind as Kind;
        let code = match error.kind() {
            Kind::AccessDenied | Kind::CredentialsMissing => FileErrorCode::AccessDenied,
            Kind::NoSuchBucket => FileErrorCode::NoSuchBucket,
            Kind::Throttled => FileErrorCode::Throttled,
            Kind::Timeout => FileErrorCode::Timeout,
            Kind::ChecksumMismatch => FileErrorCode::ChecksumMismatch,
            Kind::PreconditionFailed => FileErrorCode::AlreadyExists,
            _ => FileErrorCode::StorageError,
        };
        Self {
            code,
            fatal: fatal_code(&error),
            // Other bytes than were sent are never the mark of a store that is away.
            is_passing: error.is_retryable() && error.kind() != Kind::ChecksumMismatch,
            left_open: None,
            attempts: error.attempts().max(1),
            detail: error.to_string(),
        }
    }
}

/// The cause, where an error of the store is one that every other request to the bucket would meet.
#[must_use]
pub fn fatal_code(error: &StorageError) -> Option<SessionErrorCode> {
    use StorageErrorKind as Kind;
    match error.kind() {
        // The client tried to connect as often as it may.
        Kind::Unreachable => Some(SessionErrorCode::StorageUnreachable),
        _ if !error.is_permanent_for_bucket() => None,
        Kind::NoSuchBucket => Some(SessionErrorCode::NoSuchBucket),
        Kind::CredentialsMissing => Some(SessionErrorCode::CredentialsMissing),
        Kind::WrongRegion | Kind::ClockSkewed => Some(SessionErrorCode::StorageMisconfigured),
        _ => Some(SessionErrorCode::AccessDenied),
    }
}
