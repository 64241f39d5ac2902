//! The next run of a session, with the files that failed.

use super::creating::{NewJob, queue_scan, refuse_overlap};
use super::{MAX_BYTES_PER_JOB, MAX_FILES_PER_JOB, Moved, Session, SessionError, get, lock};
use crate::{DatabaseError, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{CycleStatus, FileErrorCode, QueuedJob, SessionId, SessionStatus};

#[derive(QueryableByName)]
struct Chosen {
    #[diesel(sql_type = BigInt)]
    to_retry: i64,
    #[diesel(sql_type = BigInt)]
    to_rescan: i64,
}

#[derive(QueryableByName)]
struct FirstLast {
    #[diesel(sql_type = BigInt)]
    first_number: i64,
    #[diesel(sql_type = BigInt)]
    last_number: i64,
}

/// Starts the session's next run with the files that failed (of `cause`), and, where the run before could not go
/// on, with what it left. What only a walk can decide (a directory that could not be read, two names with one
/// key, a walk that did not end) is walked again.
///
/// # Errors
/// [`SessionError::WrongStatus`] unless it ended with failures; [`SessionError::FilesDropped`];
/// [`SessionError::NothingToRetry`].
pub async fn retry(
    conn: &mut TenantConn,
    id: SessionId,
    cause: Option<FileErrorCode>,
) -> Result<Moved, SessionError> {
    conn.allow_long_statements().await?;
    // The cycle before the session, as whoever deletes a cycle has it. Not `FOR UPDATE`: a worker that writes a
    // session twice in a transaction refers to its cycle anew, and would wait for who waits for it here.
    let cycle_id = get(conn, id).await.map_err(not_found)?.cycle_id;
    let cycle: CycleRow = sql_query("SELECT status FROM cycles WHERE id = $1 FOR NO KEY UPDATE")
        .bind::<SqlUuid, _>(cycle_id.0)
        .get_result(conn.raw())
        .await?;
    let session = lock(conn, id).await?;
    if !matches!(
        session.status,
        SessionStatus::CompletedWithErrors | SessionStatus::Failed
    ) {
        return Err(SessionError::WrongStatus {
            status: session.status,
            action: "retried",
        });
    }
    if session.files_dropped_at.is_some() {
        return Err(SessionError::FilesDropped);
    }
    if cycle.status == CycleStatus::Completed.as_str() {
        return Err(SessionError::CycleCompleted);
    }
    if !session.settings.dry_run {
        refuse_overlap(conn, session.cycle_id, &session.key_prefix, Some(id)).await?;
    }
    let chosen = choose_files(conn, &session, cause).await?;
    let walk_again = chosen.to_rescan > 0 || !session.scan_complete;
    if chosen.to_retry == 0 && !walk_again {
        return Err(SessionError::NothingToRetry);
    }
    sql_query(
        "UPDATE sync_sessions SET run = run + 1, status = 'pending', stop_flag = 'run', open_jobs = 0,
                error_code = NULL, error_detail = NULL, started_at = NULL, finished_at = NULL, queued_at = now()
         WHERE id = $1",
    )
    .bind::<SqlUuid, _>(id.0)
    .execute(conn.raw())
    .await?;
    crate::jobs::recount(conn.raw(), id).await?;
    let mut jobs = queue_pending_files(conn, id).await?;
    if walk_again {
        jobs.push(queue_scan(conn, id).await?);
    }
    Ok(Moved {
        session: get(conn, id).await?,
        jobs,
        is_replay: false,
    })
}

#[derive(QueryableByName)]
struct CycleRow {
    #[diesel(sql_type = Text)]
    status: String,
}

fn not_found(error: DatabaseError) -> SessionError {
    match error {
        DatabaseError::NotFound => SessionError::NotFound,
        other => SessionError::Database(other),
    }
}

/// Sets the chosen files to `pending`, and removes the rows that the walk will find again: what only a walk can
/// decide, and in a dry run everything. What a stop cut off goes along whatever the cause: it has none.
async fn choose_files(
    conn: &mut TenantConn,
    session: &Session,
    cause: Option<FileErrorCode>,
) -> Result<Chosen, SessionError> {
    let chosen = sql_query(
        "WITH found_again AS (
             DELETE FROM file_uploads
             WHERE session_id = $1
               AND (status = 'failed' AND ($2 IS NULL OR error_code = $2)
                        AND ($3 OR path LIKE '%/' OR error_code IN ('name_collision', 'name_not_supported'))
                    OR status = 'cancelled' AND $3)
             RETURNING number),
         again AS (
             -- What was recorded of an object says nothing of the one that is there now.
             UPDATE file_uploads SET status = 'pending', error_code = NULL, error_detail = NULL, finished_at = NULL,
                    etag = NULL, checksum = NULL
             WHERE session_id = $1 AND NOT $3
               AND (status = 'failed' AND ($2 IS NULL OR error_code = $2)
                        AND NOT (path LIKE '%/' OR error_code IN ('name_collision', 'name_not_supported'))
                    OR status = 'cancelled')
             RETURNING number)
         SELECT (SELECT count(*) FROM again) AS to_retry, (SELECT count(*) FROM found_again) AS to_rescan",
    )
    .bind::<SqlUuid, _>(session.id.0)
    .bind::<Nullable<Text>, _>(cause.map(FileErrorCode::as_str))
    .bind::<Bool, _>(session.settings.dry_run)
    .get_result(conn.raw())
    .await?;
    Ok(chosen)
}

/// One upload job for each stretch of pending files, in ranges of numbers that do not overlap.
async fn queue_pending_files(conn: &mut TenantConn, id: SessionId) -> Result<Vec<QueuedJob>, SessionError> {
    let limit = i64::try_from(MAX_FILES_PER_JOB).unwrap_or(i64::MAX);
    let bytes = i64::try_from(MAX_BYTES_PER_JOB).unwrap_or(i64::MAX);
    // A new range begins after every so many files, and at every so many bytes.
    let ranges: Vec<FirstLast> = sql_query(
        "SELECT min(number) AS first_number, max(number) AS last_number
         FROM (SELECT number, (row_number() OVER w - 1) / $2 AS stretch, (sum(size_bytes) OVER w)::bigint / $3 AS weight
               FROM file_uploads WHERE session_id = $1 AND status = 'pending' WINDOW w AS (ORDER BY number)) AS pending
         GROUP BY stretch, weight ORDER BY 1",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<BigInt, _>(limit)
    .bind::<BigInt, _>(bytes)
    .load(conn.raw())
    .await?;
    let (firsts, lasts): (Vec<i64>, Vec<i64>) = ranges
        .iter()
        .map(|range| (range.first_number, range.last_number))
        .unzip();
    let jobs: Vec<NewJob> = sql_query(
        "WITH session AS (
             UPDATE sync_sessions SET open_jobs = open_jobs + $4 WHERE id = $1
             RETURNING id, company_id, run, source_root)
         INSERT INTO jobs (company_id, session_id, run, location, kind, first_number, last_number)
         SELECT s.company_id, s.id, s.run, s.source_root, 'upload', r.first_number, r.last_number
         FROM session s, unnest($2::bigint[], $3::bigint[]) AS r(first_number, last_number)
         RETURNING id, company_id, location",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<Array<BigInt>, _>(&firsts)
    .bind::<Array<BigInt>, _>(&lasts)
    .bind::<Integer, _>(i32::try_from(ranges.len()).unwrap_or(i32::MAX))
    .load(conn.raw())
    .await?;
    Ok(jobs.into_iter().map(QueuedJob::from).collect())
}
