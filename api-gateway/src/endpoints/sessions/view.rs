//! A session and a file as clients see them.

use crate::state::State;
use chrono::{DateTime, Utc};
use database::sessions as stored;
use domain::object_key::object_key;
use domain::{
    Cause, CycleId, FileErrorCode, FileStatus, Phase, Planned, ProjectId, SessionErrorCode, SessionId,
    SessionSettings, SessionStatus, UserId,
};
use serde::{Deserialize, Serialize};
use settings::root_name;
use std::time::Duration;
use utoipa::ToSchema;

/// Live figures that are not there by then are left out.
const LIVE_TIMEOUT: Duration = Duration::from_millis(500);
/// How many travelling files are shown.
const MAX_ACTIVE_FILES: usize = 50;

/// Where a session reads.
#[derive(Clone, Serialize, Deserialize, PartialEq, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// The source root's name.
    pub root: String,
    /// The file or folder below the root, without a slash at its beginning; empty for the root itself.
    #[serde(default)]
    pub path: String,
}

/// Files by outcome.
#[derive(Clone, Serialize, PartialEq, ToSchema)]
struct FileCounts {
    /// Found by the scan so far.
    total: i64,
    uploaded: i64,
    skipped: i64,
    failed: i64,
    /// Not tried, because the session was stopped.
    cancelled: i64,
    pending: i64,
}

/// Bytes by outcome.
#[derive(Clone, Serialize, PartialEq, ToSchema)]
struct ByteCounts {
    /// Found by the scan so far.
    total: i64,
    uploaded: i64,
    skipped: i64,
    failed: i64,
    /// Arrived of files that have no outcome yet; not in the others.
    in_flight: u64,
}

/// A file that is travelling now.
#[derive(Clone, Serialize, PartialEq, ToSchema)]
struct ActiveFile {
    path: String,
    size_bytes: u64,
    sent_bytes: u64,
}

/// One upload run.
#[derive(Clone, Serialize, PartialEq, ToSchema)]
pub(super) struct Session {
    pub id: SessionId,
    project_id: ProjectId,
    cycle_id: CycleId,
    /// Who made it.
    user_id: UserId,
    source: Source,
    settings: SessionSettings,
    pub status: SessionStatus,
    phase: Phase,
    dry_run: bool,
    files: FileCounts,
    bytes: ByteCounts,
    /// Whether the whole source was walked; until then the totals grow.
    scan_complete: bool,
    /// Lately while it runs; on average when it has ended, and 0 after a retry.
    rate_bytes_per_s: u64,
    /// How long the rest may take; null while that cannot be told.
    eta_s: Option<u64>,
    /// At most 50.
    active_files: Vec<ActiveFile>,
    /// Why it failed, or, while it goes on, what it waits for; `receipt_missing`: it is as its status says, but its receipt
    /// is not in the bucket.
    #[schema(value_type = Option<SessionErrorCode>)]
    error_code: Option<Cause<SessionErrorCode>>,
    error_detail: Option<String>,
    /// 1, and one more for each retry.
    run: i32,
    /// The session it was made from.
    repeats: Option<SessionId>,
    created_at: DateTime<Utc>,
    /// When the first job of its present run was begun.
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// Since when its files are no longer recorded; null: they are.
    files_dropped_at: Option<DateTime<Utc>>,
    /// From its start to its end, or until now.
    pub duration_ms: Option<i64>,
}

impl Session {
    /// With the live figures, where it runs and Redis has them.
    pub(super) async fn load(state: &State, session: stored::Session) -> Self {
        let mut live = Vec::new();
        // Of a paused one, what is under way still arrives.
        if matches!(session.status, SessionStatus::InProgress | SessionStatus::Paused) {
            match tokio::time::timeout(LIVE_TIMEOUT, state.queue.live(session.id)).await {
                Ok(Ok(found)) => live = found,
                Ok(Err(error)) => tracing::debug!(%error, "no live figures"),
                Err(_) => tracing::debug!("no live figures in time"),
            }
        }
        Self::new(session, live, Utc::now())
    }

    fn new(session: stored::Session, live: Vec<queue::Live>, now: DateTime<Utc>) -> Self {
        let phase = session.phase();
        let duration_ms = session.started_at.map(|started_at| {
            (session.finished_at.unwrap_or(now) - started_at)
                .num_milliseconds()
                .max(0)
        });
        let (files, bytes) = (session.files, session.bytes);
        let rate_bytes_per_s = if session.status.is_ended() {
            // The duration is the last run's, the bytes are all runs'.
            if session.run == 1 {
                average(bytes.uploaded, duration_ms)
            } else {
                0
            }
        } else {
            live.iter().map(|worker| worker.rate_bytes_per_s).sum()
        };
        let in_flight: u64 = live.iter().map(|worker| worker.bytes_in_flight).sum();
        let rest = u64::try_from(bytes.total - bytes.uploaded - bytes.skipped - bytes.failed)
            .unwrap_or(0)
            .saturating_sub(in_flight);
        let is_told =
            session.status == SessionStatus::InProgress && phase == Phase::Uploading && rate_bytes_per_s > 0;
        Self {
            id: session.id,
            project_id: session.project_id,
            cycle_id: session.cycle_id,
            user_id: session.user_id,
            source: Source {
                root: root_name(&session.source_root).to_owned(),
                path: session.source_path,
            },
            status: session.status,
            phase,
            dry_run: session.settings.dry_run,
            settings: session.settings,
            files: FileCounts {
                total: files.total,
                uploaded: files.uploaded,
                skipped: files.skipped,
                failed: files.failed,
                cancelled: files.cancelled,
                pending: files.pending(),
            },
            bytes: ByteCounts {
                total: bytes.total,
                uploaded: bytes.uploaded,
                skipped: bytes.skipped,
                failed: bytes.failed,
                in_flight,
            },
            scan_complete: session.scan_complete,
            rate_bytes_per_s,
            eta_s: is_told.then(|| rest.div_ceil(rate_bytes_per_s.max(1))),
            active_files: live
                .into_iter()
                .flat_map(|worker| worker.active_files)
                .take(MAX_ACTIVE_FILES)
                .map(|file| ActiveFile {
                    path: file.path,
                    size_bytes: file.size_bytes,
                    sent_bytes: file.sent_bytes,
                })
                .collect(),
            error_code: session.error_code,
            error_detail: session.error_detail,
            run: session.run,
            repeats: session.repeats,
            created_at: session.created_at,
            started_at: session.started_at,
            finished_at: session.finished_at,
            files_dropped_at: session.files_dropped_at,
            duration_ms,
        }
    }

    /// Whether it differs from `other` in more than the passing of time.
    pub(super) fn has_changed_since(&self, other: &Self) -> bool {
        let other = Self {
            duration_ms: self.duration_ms,
            ..other.clone()
        };
        *self != other
    }
}

fn average(bytes: i64, duration_ms: Option<i64>) -> u64 {
    match duration_ms {
        Some(duration_ms) if duration_ms > 0 => {
            let rate = i128::from(bytes) * 1000 / i128::from(duration_ms);
            u64::try_from(rate).unwrap_or(0)
        }
        _ => 0,
    }
}

/// A file of a session.
#[derive(Serialize, ToSchema)]
pub(super) struct File {
    /// Its number in its session.
    id: i64,
    /// Below the session's source. Bytes that are no clean UTF-8 appear as `%XX`.
    path: String,
    /// Null where no key can be made of the path, or where it is a folder that could not be read.
    s3_key: Option<String>,
    size_bytes: i64,
    modified_at: Option<DateTime<Utc>>,
    status: FileStatus,
    /// How often it was begun.
    attempts: i32,
    etag: Option<String>,
    /// As the store confirmed it.
    checksum: Option<String>,
    #[schema(value_type = Option<FileErrorCode>)]
    error_code: Option<Cause<FileErrorCode>>,
    error_detail: Option<String>,
    /// In a dry run: what an upload would do with it; null where it would not be sent.
    planned: Option<Planned>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    duration_ms: Option<i64>,
}

impl File {
    pub(super) fn new(file: database::files::File, key_prefix: &str) -> Self {
        let s3_key = object_key(key_prefix, &file.path)
            .ok()
            .filter(|_| !file.path.ends_with('/'));
        let duration_ms = file
            .started_at
            .zip(file.finished_at)
            .map(|(started_at, finished_at)| (finished_at - started_at).num_milliseconds().max(0));
        Self {
            id: file.number,
            path: file.path,
            s3_key,
            size_bytes: file.size_bytes,
            modified_at: file.modified_at,
            status: file.status,
            attempts: file.attempts,
            etag: file.etag,
            checksum: file.checksum,
            error_code: file.error_code,
            error_detail: file.error_detail,
            planned: file.planned,
            started_at: file.started_at,
            finished_at: file.finished_at,
            duration_ms,
        }
    }
}
