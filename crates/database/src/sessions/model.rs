//! A session as it is stored.

use crate::DatabaseError;
use crate::schema::sync_sessions;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use domain::{
    Cause, CompanyId, CycleId, Phase, ProjectId, SessionErrorCode, SessionId, SessionSettings, SessionStatus,
    StopFlag, UserId,
};
use uuid::Uuid;

/// A session as it is stored.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The project of its cycle.
    pub project_id: ProjectId,
    /// Its cycle.
    pub cycle_id: CycleId,
    /// Who made it.
    pub user_id: UserId,
    /// The location of its source root: where its jobs are queued.
    pub source_root: String,
    /// The directory (or file) below the root; empty for the root itself.
    pub source_path: String,
    /// Its settings.
    pub settings: SessionSettings,
    /// What every key begins with: the prefixes of project, cycle and settings, as they were when it was made.
    pub key_prefix: String,
    /// Where it stands.
    pub status: SessionStatus,
    /// What its jobs are told.
    pub stop_flag: StopFlag,
    /// 1, and one more for each retry.
    pub run: i32,
    /// Scan and upload jobs that are ready or running.
    pub open_jobs: i32,
    /// Whether the whole source was walked.
    pub scan_complete: bool,
    /// Counters of files.
    pub files: FileCounters,
    /// Counters of bytes.
    pub bytes: ByteCounters,
    /// Why it failed.
    pub error_code: Option<Cause<SessionErrorCode>>,
    /// In words.
    pub error_detail: Option<String>,
    /// The session it was made from.
    pub repeats: Option<SessionId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its present run was handed to the workers; `None`: not started.
    pub queued_at: Option<DateTime<Utc>>,
    /// When the first job of its present run was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Since when its files are no longer recorded; `None`: they are.
    pub files_dropped_at: Option<DateTime<Utc>>,
}

/// Files of a session, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Found by the scan so far.
    pub total: i64,
    /// Arrived.
    pub uploaded: i64,
    /// Left out.
    pub skipped: i64,
    /// Not delivered.
    pub failed: i64,
    /// Not tried, because the session was stopped.
    pub cancelled: i64,
}

impl FileCounters {
    /// Found, and not yet dealt with.
    #[must_use]
    pub fn pending(&self) -> i64 {
        self.total - self.uploaded - self.skipped - self.failed - self.cancelled
    }
}

/// Bytes of a session's files, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteCounters {
    /// Found by the scan so far.
    pub total: i64,
    /// Arrived.
    pub uploaded: i64,
    /// Left out.
    pub skipped: i64,
    /// Not delivered.
    pub failed: i64,
}

impl Session {
    /// What it is busy with.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::of(self.status, self.scan_complete, self.open_jobs > 0)
    }
}

#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = sync_sessions, check_for_backend(diesel::pg::Pg))]
pub(super) struct SessionRow {
    id: Uuid,
    company_id: Uuid,
    project_id: Uuid,
    cycle_id: Uuid,
    user_id: Uuid,
    source_root: String,
    source_path: String,
    settings: serde_json::Value,
    key_prefix: String,
    status: String,
    stop_flag: String,
    run: i32,
    open_jobs: i32,
    scan_complete: bool,
    files_total: i64,
    files_uploaded: i64,
    files_skipped: i64,
    files_failed: i64,
    files_cancelled: i64,
    bytes_total: i64,
    bytes_uploaded: i64,
    bytes_skipped: i64,
    bytes_failed: i64,
    error_code: Option<String>,
    error_detail: Option<String>,
    repeats: Option<Uuid>,
    created_at: DateTime<Utc>,
    queued_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    files_dropped_at: Option<DateTime<Utc>>,
}

impl TryFrom<SessionRow> for Session {
    type Error = DatabaseError;

    fn try_from(row: SessionRow) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: SessionId(row.id),
            company_id: CompanyId(row.company_id),
            project_id: ProjectId(row.project_id),
            cycle_id: CycleId(row.cycle_id),
            user_id: UserId(row.user_id),
            source_root: row.source_root,
            source_path: row.source_path,
            settings: stored_settings(row.settings)?,
            key_prefix: row.key_prefix,
            status: row.status.parse()?,
            stop_flag: row.stop_flag.parse()?,
            run: row.run,
            open_jobs: row.open_jobs,
            scan_complete: row.scan_complete,
            files: FileCounters {
                total: row.files_total,
                uploaded: row.files_uploaded,
                skipped: row.files_skipped,
                failed: row.files_failed,
                cancelled: row.files_cancelled,
            },
            bytes: ByteCounters {
                total: row.bytes_total,
                uploaded: row.bytes_uploaded,
                skipped: row.bytes_skipped,
                failed: row.bytes_failed,
            },
            error_code: row.error_code.map(Cause::from),
            error_detail: row.error_detail,
            repeats: row.repeats.map(SessionId),
            created_at: row.created_at,
            queued_at: row.queued_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            files_dropped_at: row.files_dropped_at,
        })
    }
}

/// Settings as they were stored. What a newer version added and this one does not know is left out: it must go on
/// during an upgrade.
fn stored_settings(mut stored: serde_json::Value) -> Result<SessionSettings, DatabaseError> {
    let unreadable = |error: serde_json::Error| {
        let value = format!("the settings of a session: {error}");
        DatabaseError::UnknownValue(domain::status::UnknownValue {
            value,
            known: "those of the API".into(),
        })
    };
    let known = serde_json::to_value(SessionSettings::default()).map_err(unreadable)?;
    if let (Some(stored), Some(known)) = (stored.as_object_mut(), known.as_object()) {
        stored.retain(|name, _| known.contains_key(name));
    }
    serde_json::from_value(stored).map_err(unreadable)
}
