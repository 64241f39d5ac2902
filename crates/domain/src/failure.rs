//! The causes of failure that people see, each with what to do about it.

use crate::status::text_enum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A cause as it was recorded: one that this version knows, or one of a later version, which is shown as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause<Code> {
    /// One of ours.
    Known(Code),
    /// Its spelling.
    Later(String),
}

impl<Code: Copy> Cause<Code> {
    /// The cause, where this version knows it.
    #[must_use]
    pub fn known(&self) -> Option<Code> {
        match self {
            Self::Known(code) => Some(*code),
            Self::Later(_) => None,
        }
    }
}

impl<Code: std::str::FromStr> From<String> for Cause<Code> {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Later(text), Self::Known)
    }
}

impl<Code: std::fmt::Display> std::fmt::Display for Cause<Code> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(code) => code.fmt(f),
            Self::Later(text) => f.write_str(text),
        }
    }
}

impl<Code: std::fmt::Display> Serialize for Cause<Code> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl From<FileErrorCode> for Cause<FileErrorCode> {
    fn from(code: FileErrorCode) -> Self {
        Self::Known(code)
    }
}

impl From<SessionErrorCode> for Cause<SessionErrorCode> {
    fn from(code: SessionErrorCode) -> Self {
        Self::Known(code)
    }
}

/// Why one file was not delivered, or was skipped. Stable: people filter and retry by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileErrorCode {
    /// It was there when the directory was walked, and gone when it was read.
    FileVanished,
    /// It changed each time it was read.
    FileChanged,
    /// The worker may not read it (or may not list it, if a directory).
    PermissionDenied,
    /// Reading it failed.
    ReadError,
    /// No object key can be made of its name.
    NameNotSupported,
    /// Another file of the session gives the same object key.
    NameCollision,
    /// A FIFO, socket or device.
    SpecialFile,
    /// A symbolic link, not followed.
    SymlinkNotFollowed,
    /// A symbolic link that leaves the source root, or leads nowhere, or back to a folder above it.
    SymlinkRefused,
    /// The worker crashed on it, repeatedly.
    WorkerCrashed,
    /// S3 refused the credentials for it.
    AccessDenied,
    /// The bucket is gone.
    NoSuchBucket,
    /// S3 asked for less, until the attempts were used up.
    Throttled,
    /// S3 did not answer in time, until the attempts were used up.
    Timeout,
    /// S3 stored other bytes than were sent.
    ChecksumMismatch,
    /// The object exists and may not be overwritten.
    AlreadyExists,
    /// The object exists and is the same as the file.
    Unchanged,
    /// Any other error of the store.
    StorageError,
}
text_enum!(FileErrorCode {
    FileVanished => "file_vanished",
    FileChanged => "file_changed",
    PermissionDenied => "permission_denied",
    ReadError => "read_error",
    NameNotSupported => "name_not_supported",
    NameCollision => "name_collision",
    SpecialFile => "special_file",
    SymlinkNotFollowed => "symlink_not_followed",
    SymlinkRefused => "symlink_refused",
    WorkerCrashed => "worker_crashed",
    AccessDenied => "access_denied",
    NoSuchBucket => "no_such_bucket",
    Throttled => "throttled",
    Timeout => "timeout",
    ChecksumMismatch => "checksum_mismatch",
    AlreadyExists => "already_exists",
    Unchanged => "unchanged",
    StorageError => "storage_error",
});

impl FileErrorCode {
    /// What a person can do about it, in a sentence or two.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::FileVanished => {
                "The file was removed after the scan found it. Put it back and retry, or leave it."
            }
            Self::FileChanged => {
                "The file is still being written. Wait until its writer is done, then retry."
            }
            Self::PermissionDenied => {
                "Give the worker's user read permission on it (and on its folders), then retry."
            }
            Self::ReadError => "The disk or share gave an error. Check it, then retry.",
            Self::NameNotSupported => {
                "Its object key would be longer than 1,024 bytes, have a part `.` or `..`, or be that of a receipt; the detail says which. Rename it, shorten the prefix, or exclude it."
            }
            Self::NameCollision => "Two files give the same object key. Rename one of them, then retry.",
            Self::SpecialFile => "It is not a regular file; there is nothing to upload.",
            Self::SymlinkNotFollowed => {
                "Symbolic links are skipped by default. Use `symlinks: follow_inside` to follow them."
            }
            Self::SymlinkRefused => {
                "The link leads out of the source root, or nowhere, or in a circle. Copy its target instead."
            }
            Self::WorkerCrashed => {
                "Workers crashed repeatedly on this file. Look at the worker's log, then retry."
            }
            Self::AccessDenied => {
                "The credentials may not write this object. Check the bucket policy, then retry."
            }
            Self::NoSuchBucket => "The bucket does not exist. Create it or correct the project, then retry.",
            Self::Throttled => "The store asked for fewer requests. Retry later or lower `concurrency`.",
            Self::Timeout => "The store did not answer in time. Check the network, then retry.",
            Self::ChecksumMismatch => {
                "What the store received differs from what was read. Check network and memory, then retry."
            }
            Self::AlreadyExists => "An object with this key exists already and may not be overwritten.",
            Self::Unchanged => "The bucket has it already; nothing is to be done.",
            Self::StorageError => "The store answered with an error; the detail says which. Retry.",
        }
    }
}

/// Why a whole session could not go on, or what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionErrorCode {
    /// The credentials were refused.
    AccessDenied,
    /// The bucket does not exist.
    NoSuchBucket,
    /// The project has no credentials and the worker finds none.
    CredentialsMissing,
    /// The stored credentials cannot be opened with the worker's `SECRETS_KEY`.
    CredentialsUnreadable,
    /// The project's endpoint, bucket or region makes no usable configuration.
    StorageMisconfigured,
    /// The store could not be reached, until the attempts were used up.
    StorageUnreachable,
    /// The source directory does not exist or cannot be read.
    SourceUnreadable,
    /// No worker knows the source root (any more).
    UnknownRoot,
    /// The include and exclude patterns cannot be read.
    InvalidSettings,
    /// The receipt is not in the bucket, or one still is that does not hold any more; the detail tells. Nothing else is
    /// wrong, and the receipt of what came to its end can be had from the API.
    ReceiptMissing,
    /// A fault of ours.
    Internal,
}
text_enum!(SessionErrorCode {
    AccessDenied => "access_denied",
    NoSuchBucket => "no_such_bucket",
    CredentialsMissing => "credentials_missing",
    CredentialsUnreadable => "credentials_unreadable",
    StorageMisconfigured => "storage_misconfigured",
    StorageUnreachable => "storage_unreachable",
    SourceUnreadable => "source_unreadable",
    UnknownRoot => "unknown_root",
    InvalidSettings => "invalid_settings",
    ReceiptMissing => "receipt_missing",
    Internal => "internal",
});
