//! The states of cycles, sessions, jobs and files, and which may follow which: one table each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A text that is none of the values an enumeration knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{value:?} is none of: {known}")]
pub struct UnknownValue {
    /// What was given.
    pub value: String,
    /// The values that exist, separated by commas.
    pub known: String,
}

/// Gives an enumeration its one spelling for the database and for query parameters (serde's must agree).
macro_rules! text_enum {
    ($name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The spelling used in the API and in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::status::UnknownValue;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err($crate::status::UnknownValue {
                        value: text.to_owned(),
                        known: [$($text),*].join(", "),
                    }),
                }
            }
        }
    };
}
pub(crate) use text_enum;

/// Where a delivery round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CycleStatus {
    /// No session yet.
    Pending,
    /// Has had a session.
    InProgress,
    /// Declared complete by a person.
    Completed,
}
text_enum!(CycleStatus { Pending => "pending", InProgress => "in_progress", Completed => "completed" });

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// Made, and no job of its present run has been claimed yet.
    Pending,
    /// Workers are on it.
    InProgress,
    /// Stopped by a person, to be resumed.
    Paused,
    /// The scan is complete and every file is uploaded or skipped.
    Completed,
    /// It came to its end, and at least one file failed or a directory could not be read.
    CompletedWithErrors,
    /// It could not go on; `error_code` says why.
    Failed,
    /// Ended by a person.
    Cancelled,
}
text_enum!(SessionStatus {
    Pending => "pending",
    InProgress => "in_progress",
    Paused => "paused",
    Completed => "completed",
    CompletedWithErrors => "completed_with_errors",
    Failed => "failed",
    Cancelled => "cancelled",
});

impl SessionStatus {
    /// Whether nothing more happens to it unless somebody retries it.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::CompletedWithErrors | Self::Failed | Self::Cancelled
        )
    }

    /// The transition table.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use SessionStatus::{Cancelled, Completed, CompletedWithErrors, Failed, InProgress, Paused, Pending};
        match self {
            Pending => matches!(next, InProgress | Paused | Cancelled | Failed),
            InProgress => {
                matches!(
                    next,
                    Paused | Completed | CompletedWithErrors | Failed | Cancelled
                )
            }
            // A pause may come when the last file is under way: then the session just ends.
            Paused => matches!(
                next,
                InProgress | Pending | Completed | CompletedWithErrors | Cancelled | Failed
            ),
            // A retry starts the next run.
            CompletedWithErrors | Failed => matches!(next, Pending),
            Completed | Cancelled => false,
        }
    }
}

/// What a session is busy with; finer than its status, for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for a worker.
    Queued,
    /// The directory is being walked; uploads may already run.
    Scanning,
    /// The walk is over, files are travelling.
    Uploading,
    /// Reconciling and writing the record.
    Finishing,
    /// Over.
    Ended,
}
impl Phase {
    /// The phase of a session from what is stored of it.
    #[must_use]
    pub fn of(status: SessionStatus, scan_complete: bool, has_open_jobs: bool) -> Self {
        match (status, scan_complete, has_open_jobs) {
            (status, _, _) if status.is_ended() => Self::Ended,
            (SessionStatus::Pending, _, _) => Self::Queued,
            (_, _, false) => Self::Finishing,
            (_, false, true) => Self::Scanning,
            (_, true, true) => Self::Uploading,
        }
    }
}

text_enum!(Phase {
    Queued => "queued",
    Scanning => "scanning",
    Uploading => "uploading",
    Finishing => "finishing",
    Ended => "ended",
});

/// What a session's jobs are told to do. `Run` unless a person or a permanent error says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopFlag {
    /// Go on.
    Run,
    /// Park.
    Pause,
    /// A person ended the session.
    Cancel,
    /// The session cannot go on (bucket, credentials, root).
    Fail,
}
text_enum!(StopFlag { Run => "run", Pause => "pause", Cancel => "cancel", Fail => "fail" });

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Walks the source and makes upload jobs.
    Scan,
    /// Uploads a range of a session's files.
    Upload,
    /// Reconciles a session and gives it its final status.
    Finish,
}
text_enum!(JobKind { Scan => "scan", Upload => "upload", Finish => "finish" });

/// Where a job stands: `ready -> running -> done | cancelled | dead`, and `running -> ready` again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a worker (not before `run_after`).
    Ready,
    /// Held by a worker under a lease.
    Running,
    /// Ended well.
    Done,
    /// Ended because its session was stopped.
    Cancelled,
    /// Given up.
    Dead,
}
text_enum!(JobState {
    Ready => "ready",
    Running => "running",
    Done => "done",
    Cancelled => "cancelled",
    Dead => "dead",
});

impl JobState {
    /// The transition table.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Ready => matches!(next, Self::Running | Self::Cancelled),
            Self::Running => matches!(next, Self::Ready | Self::Done | Self::Cancelled | Self::Dead),
            Self::Done | Self::Cancelled | Self::Dead => false,
        }
    }

    /// Whether it still counts in its session's `open_jobs`.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Ready | Self::Running)
    }
}

/// The outcome of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// Found, not yet dealt with.
    Pending,
    /// Its multipart upload is open.
    Uploading,
    /// The store confirmed the checksum of exactly the bytes that were read.
    Uploaded,
    /// Deliberately not sent; `error_code` tells the cause where there is one.
    Skipped,
    /// Not delivered; `error_code` says why.
    Failed,
    /// Not delivered because its session was stopped.
    Cancelled,
}
text_enum!(FileStatus {
    Pending => "pending",
    Uploading => "uploading",
    Uploaded => "uploaded",
    Skipped => "skipped",
    Failed => "failed",
    Cancelled => "cancelled",
});

impl FileStatus {
    /// Whether it stays unless somebody retries it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Uploading)
    }

    /// The transition table. `failed` and `cancelled` go back to `pending` by an explicit retry alone. `uploaded`
    /// becomes `failed` before its session ends, where the last look finds another object than was recorded.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => next != Self::Pending,
            Self::Uploading => next != Self::Uploading,
            Self::Failed | Self::Cancelled => next == Self::Pending,
            Self::Uploaded => next == Self::Failed,
            Self::Skipped => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_agree_with_serde_and_parse_back() {
        fn check<T>(all: &[T])
        where
            T: Copy
                + std::fmt::Display
                + std::str::FromStr<Err = UnknownValue>
                + Serialize
                + PartialEq
                + std::fmt::Debug,
        {
            for value in all {
                assert_eq!(serde_json::to_value(value).unwrap(), value.to_string());
                assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(value));
            }
        }
        check(CycleStatus::ALL);
        check(SessionStatus::ALL);
        check(Phase::ALL);
        check(StopFlag::ALL);
        check(JobKind::ALL);
        check(JobState::ALL);
        check(FileStatus::ALL);
        check(crate::Planned::ALL);
        check(crate::Role::ALL);
    }

    #[test]
    fn an_unknown_text_lists_the_known_ones() {
        let error = "sleepy".parse::<FileStatus>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"sleepy\" is none of: pending, uploading, uploaded, skipped, failed, cancelled"
        );
    }

    #[test]
    fn uploaded_files_and_completed_sessions_stay() {
        assert!(
            FileStatus::ALL
                .iter()
                .all(|next| FileStatus::Uploaded.may_become(*next) == (*next == FileStatus::Failed))
        );
        assert!(
            SessionStatus::ALL
                .iter()
                .all(|next| !SessionStatus::Completed.may_become(*next))
        );
        for state in JobState::ALL.iter().filter(|state| !state.is_open()) {
            assert!(JobState::ALL.iter().all(|next| !state.may_become(*next)));
        }
    }
}
