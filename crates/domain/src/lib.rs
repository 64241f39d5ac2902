//! The vocabulary of Data Uploader and the rules that need no IO: typed ids, who may do what, the states of
//! sessions, jobs and files with their transitions, the settings of a session, object keys, and back-off.
//!
//! Everything here is decided from its arguments: no clock, no environment, no network, no files.

pub mod access;
pub mod backoff;
pub mod failure;
pub mod ids;
pub mod job;
pub mod object_key;
pub mod plan;
pub mod session_settings;
pub mod status;
pub mod storage_class;

pub use access::{Permission, Role};
pub use failure::{Cause, FileErrorCode, SessionErrorCode};
pub use ids::{CompanyId, CycleId, JobId, ProjectId, SessionId, UserId};
pub use job::{ANY_LOCATION, QueuedJob};
pub use plan::{Plan, Planned};
pub use session_settings::{ChecksumKind, Compare, OnExisting, SessionSettings, Symlinks};
pub use status::{CycleStatus, FileStatus, JobKind, JobState, Phase, SessionStatus, StopFlag};
