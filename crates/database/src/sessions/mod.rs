//! Upload sessions: made, started, cancelled, retried, read. What workers write to them is in [`crate::jobs`].

mod creating;
mod model;
mod retrying;

use crate::schema::sync_sessions;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use creating::{NewJob, queue_scan};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use domain::{CycleId, ProjectId, QueuedJob, SessionId, SessionStatus, StopFlag, UserId};
use model::SessionRow;

pub use creating::{NewSession, create};
pub use model::{ByteCounters, FileCounters, Session};
pub use retrying::retry;

/// The most files, and the most bytes, of one upload job: what a dead worker can cost.
pub const MAX_FILES_PER_JOB: usize = 1_000;
/// See [`MAX_FILES_PER_JOB`].
pub const MAX_BYTES_PER_JOB: u64 = 1 << 30;

/// Why a session cannot be made or moved.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The cycle or the session is not in this company.
    #[error("not found")]
    NotFound,
    /// Another unfinished session of the cycle writes below an overlapping target.
    #[error("session {other} of this cycle is not finished and writes below an overlapping target")]
    CycleBusy {
        /// That session.
        other: SessionId,
    },
    /// The cycle was completed.
    #[error("the cycle is completed; reopen it first")]
    CycleCompleted,
    /// The project was deactivated.
    #[error("the project is not active")]
    ProjectInactive,
    /// The same idempotency key came with another request.
    #[error("this Idempotency-Key was used for another request")]
    IdempotencyKeyReused,
    /// The session's status does not allow it.
    #[error("a session that is {status} cannot be {action}")]
    WrongStatus {
        /// Its status.
        status: SessionStatus,
        /// What was asked for, as a participle.
        action: &'static str,
    },
    /// No file failed (of that cause).
    #[error("no file of this session failed with that cause")]
    NothingToRetry,
    /// Its files are no longer recorded.
    #[error("the files of this session are no longer recorded: start a new upload")]
    FilesDropped,
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<diesel::result::Error> for SessionError {
    fn from(error: diesel::result::Error) -> Self {
        match error {
            diesel::result::Error::NotFound => Self::NotFound,
            other => Self::Database(other.into()),
        }
    }
}

/// A session, and the job whose id is to be pushed once the transaction has committed.
pub struct Moved {
    /// The session as it is now.
    pub session: Session,
    /// What to push; more are found by the sweeper.
    pub jobs: Vec<QueuedJob>,
    /// For [`create`]: it existed already under the same idempotency key.
    pub is_replay: bool,
}

/// One session.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn get(conn: &mut TenantConn, id: SessionId) -> Result<Session, DatabaseError> {
    let row: SessionRow = sync_sessions::table
        .find(id.0)
        .select(SessionRow::as_select())
        .first(conn.raw())
        .await?;
    row.try_into()
}

async fn lock(conn: &mut TenantConn, id: SessionId) -> Result<Session, SessionError> {
    let row: SessionRow = sync_sessions::table
        .find(id.0)
        .select(SessionRow::as_select())
        .for_update()
        .first(conn.raw())
        .await?;
    Ok(row.try_into()?)
}

/// Which sessions [`list`] gives.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Of this project.
    pub project_id: Option<ProjectId>,
    /// Of this cycle.
    pub cycle_id: Option<CycleId>,
    /// Made by this person.
    pub user_id: Option<UserId>,
    /// In this status.
    pub status: Option<SessionStatus>,
    /// Whose source has this text in its root or path, in whatever case.
    pub q: Option<String>,
    /// Made at or after.
    pub from: Option<DateTime<Utc>>,
    /// Made before.
    pub to: Option<DateTime<Utc>>,
}

/// A page of sessions by the time they were made: those after `cursor` (the last id of the page before), newest
/// first unless `oldest_first`. Ids are UUIDv7, so that their order is the order in time.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: &mut TenantConn,
    filter: &SessionFilter,
    oldest_first: bool,
    cursor: Option<SessionId>,
    limit: i64,
) -> Result<Vec<Session>, DatabaseError> {
    let mut query = sync_sessions::table
        .select(SessionRow::as_select())
        .limit(limit)
        .into_boxed();
    if let Some(id) = filter.project_id {
        query = query.filter(sync_sessions::project_id.eq(id.0));
    }
    if let Some(id) = filter.cycle_id {
        query = query.filter(sync_sessions::cycle_id.eq(id.0));
    }
    if let Some(id) = filter.user_id {
        query = query.filter(sync_sessions::user_id.eq(id.0));
    }
    if let Some(status) = filter.status {
        query = query.filter(sync_sessions::status.eq(status.as_str()));
    }
    if let Some(from) = filter.from {
        query = query.filter(sync_sessions::created_at.ge(from));
    }
    if let Some(to) = filter.to {
        query = query.filter(sync_sessions::created_at.lt(to));
    }
    if let Some(q) = &filter.q {
        let pattern = like_pattern(q);
        query = query.filter(
            sync_sessions::source_path
                .ilike(pattern.clone())
                .or(sync_sessions::source_root.ilike(pattern)),
        );
    }
    query = match (oldest_first, cursor) {
        (true, Some(id)) => query.filter(sync_sessions::id.gt(id.0)),
        (false, Some(id)) => query.filter(sync_sessions::id.lt(id.0)),
        (_, None) => query,
    };
    query = if oldest_first {
        query.order(sync_sessions::id.asc())
    } else {
        query.order(sync_sessions::id.desc())
    };
    query
        .load(conn.raw())
        .await?
        .into_iter()
        .map(Session::try_from)
        .collect()
}

/// A LIKE pattern for texts that contain `q`, whatever characters it has.
#[must_use]
pub fn like_pattern(q: &str) -> String {
    let escaped = q.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// Deletes an ended session with its files and jobs. What it put into the bucket stays.
///
/// # Errors
/// [`SessionError::WrongStatus`] while it is not ended.
pub async fn delete(conn: &mut TenantConn, id: SessionId) -> Result<(), SessionError> {
    let session = lock(conn, id).await?;
    if !session.status.is_ended() {
        return Err(SessionError::WrongStatus {
            status: session.status,
            action: "deleted",
        });
    }
    conn.allow_long_statements().await?;
    diesel::delete(sync_sessions::table.find(id.0))
        .execute(conn.raw())
        .await?;
    Ok(())
}

/// Starts a session that was made with `start: false`.
///
/// # Errors
/// [`SessionError::WrongStatus`] when it was started before.
pub async fn start(conn: &mut TenantConn, id: SessionId) -> Result<Moved, SessionError> {
    let session = lock(conn, id).await?;
    if session.status != SessionStatus::Pending || session.queued_at.is_some() {
        return Err(SessionError::WrongStatus {
            status: session.status,
            action: "started again",
        });
    }
    let jobs = vec![queue_scan(conn, id).await?];
    Ok(Moved {
        session: get(conn, id).await?,
        jobs,
        is_replay: false,
    })
}

/// Pauses a session: jobs that wait are parked, running ones are told to stop after what is in flight. Multipart
/// uploads stay open, to be gone on with.
///
/// # Errors
/// [`SessionError::WrongStatus`] unless it was started and has not ended, been paused or stopped.
pub async fn pause(conn: &mut TenantConn, id: SessionId) -> Result<Session, SessionError> {
    let session = lock(conn, id).await?;
    let runs = matches!(session.status, SessionStatus::Pending | SessionStatus::InProgress);
    if !runs || session.queued_at.is_none() || session.stop_flag != StopFlag::Run {
        return Err(SessionError::WrongStatus {
            status: session.status,
            action: "paused",
        });
    }
    sql_query("UPDATE sync_sessions SET stop_flag = 'pause', status = 'paused' WHERE id = $1")
        .bind::<SqlUuid, _>(id.0)
        .execute(conn.raw())
        .await?;
    // A finish job is not parked: everything has its outcome, and only the record is missing.
    sql_query(
        "UPDATE jobs SET run_after = 'infinity'
         WHERE session_id = $1 AND state = 'ready' AND kind <> 'finish'",
    )
    .bind::<SqlUuid, _>(id.0)
    .execute(conn.raw())
    .await?;
    Ok(get(conn, id).await?)
}

/// Lets a paused session go on. Jobs that a worker still holds since before the pause go on, too, or come back.
///
/// # Errors
/// [`SessionError::WrongStatus`] unless it is paused.
pub async fn resume(conn: &mut TenantConn, id: SessionId) -> Result<Moved, SessionError> {
    let session = lock(conn, id).await?;
    if session.status != SessionStatus::Paused || session.stop_flag != StopFlag::Pause {
        return Err(SessionError::WrongStatus {
            status: session.status,
            action: "resumed",
        });
    }
    sql_query(
        // Nobody asked the store meanwhile: its patience begins anew.
        "UPDATE sync_sessions SET stop_flag = 'run', error_code = NULL, error_detail = NULL,
                status = CASE WHEN started_at IS NULL THEN 'pending' ELSE 'in_progress' END
         WHERE id = $1",
    )
    .bind::<SqlUuid, _>(id.0)
    .execute(conn.raw())
    .await?;
    crate::jobs::forget_outage(conn.raw(), id).await?;
    let jobs: Vec<NewJob> = sql_query(
        "UPDATE jobs SET run_after = now() WHERE session_id = $1 AND state = 'ready' AND run_after = 'infinity'
         RETURNING id, company_id, location",
    )
    .bind::<SqlUuid, _>(id.0)
    .load(conn.raw())
    .await?;
    let mut jobs: Vec<QueuedJob> = jobs.into_iter().map(QueuedJob::from).collect();
    jobs.sort_unstable_by_key(|job| job.id);
    Ok(Moved {
        session: get(conn, id).await?,
        jobs,
        is_replay: false,
    })
}

/// Ends a session at a person's wish: jobs that wait are closed at once, running ones are told. Asked again, it
/// changes nothing.
///
/// # Errors
/// [`SessionError::WrongStatus`] when it has ended.
pub async fn cancel(conn: &mut TenantConn, id: SessionId) -> Result<Moved, SessionError> {
    let session = lock(conn, id).await?;
    if session.status.is_ended() {
        return Err(SessionError::WrongStatus {
            status: session.status,
            action: "cancelled",
        });
    }
    if matches!(session.stop_flag, StopFlag::Cancel | StopFlag::Fail) {
        return Ok(Moved {
            session,
            jobs: Vec::new(),
            is_replay: true,
        });
    }
    let jobs: Vec<QueuedJob> = crate::jobs::stop_session(conn.raw(), id, StopFlag::Cancel)
        .await?
        .into_iter()
        .collect();
    // Nothing of it was ever claimed: there is nothing for a worker to finish.
    if session.status == SessionStatus::Pending && session.run == 1 {
        sql_query("DELETE FROM jobs WHERE session_id = $1 AND kind = 'finish' AND state = 'ready'")
            .bind::<SqlUuid, _>(id.0)
            .execute(conn.raw())
            .await?;
        sql_query("UPDATE sync_sessions SET status = 'cancelled', finished_at = now() WHERE id = $1")
            .bind::<SqlUuid, _>(id.0)
            .execute(conn.raw())
            .await?;
        return Ok(Moved {
            session: get(conn, id).await?,
            jobs: Vec::new(),
            is_replay: false,
        });
    }
    Ok(Moved {
        session: get(conn, id).await?,
        jobs,
        is_replay: false,
    })
}
