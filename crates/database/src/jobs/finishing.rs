//! Finish jobs: a last look at what is doubtful, and the final status of a session.

use super::settling::begun_receipt;
use super::{Claim, Ending, JobError, clean, end, forget_outage, renew};
use crate::schema::file_uploads;
use crate::{DatabaseError, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{FileErrorCode, SessionId, SessionStatus, StopFlag};
use std::time::Duration;

/// An uploaded file whose job was claimed more than once, or whose bucket had been missing: its object is looked at again
/// before the end.
#[derive(Clone, Debug, QueryableByName)]
pub struct DoubtfulFile {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub number: i64,
    /// Below the source.
    #[diesel(sql_type = Text)]
    pub path: String,
    /// As recorded.
    #[diesel(sql_type = BigInt)]
    pub size_bytes: i64,
    /// As recorded.
    #[diesel(sql_type = Nullable<Text>)]
    pub etag: Option<String>,
}

/// The uploaded files of this run's jobs that were claimed more than once, by number, after `after`; all of them where
/// the bucket had been missing.
///
/// # Errors
/// The database's.
pub async fn doubtful_files(
    conn: &mut TenantConn,
    claim: &Claim,
    after: i64,
    limit: i64,
) -> Result<Vec<DoubtfulFile>, DatabaseError> {
    Ok(sql_query(
        "SELECT f.number, f.path, f.size_bytes, f.etag
         FROM jobs j JOIN file_uploads f
              ON f.session_id = j.session_id AND f.number BETWEEN j.first_number AND j.last_number
         WHERE j.company_id = $1 AND j.session_id = $2 AND j.run = $3 AND j.kind = 'upload' AND j.epoch > 1
           AND f.session_id = $2 AND f.status = 'uploaded' AND f.number > $4
         UNION
         SELECT f.number, f.path, f.size_bytes, f.etag FROM file_uploads f
         WHERE (SELECT EXISTS (SELECT FROM jobs WHERE company_id = $1 AND session_id = $2 AND run < $3
                                  AND last_error LIKE 'no_such_bucket: %'))
           AND f.session_id = $2 AND f.status = 'uploaded' AND f.number > $4
         ORDER BY number LIMIT $5",
    )
    .bind::<SqlUuid, _>(claim.company_id.0)
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Integer, _>(claim.run)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn.raw())
    .await?)
}

/// Turns `uploaded` files whose object is not what was recorded into failed ones, with the detail of each.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn contradict(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    files: &[(i64, String)],
) -> Result<(), JobError> {
    renew(conn, claim, lease).await?;
    let changed = sql_query(
        "UPDATE file_uploads f SET status = 'failed', error_code = 'checksum_mismatch', error_detail = c.detail
         FROM unnest($2::bigint[], $3::text[]) AS c(number, detail)
         WHERE f.session_id = $1 AND f.number = c.number AND f.status = 'uploaded'",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Array<BigInt>, _>(files.iter().map(|(number, _)| *number).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(files.iter().map(|(_, detail)| clean(detail)).collect::<Vec<_>>())
    .execute(conn.raw())
    .await?;
    if changed > 0 {
        // An earlier holder of this job may have begun one, which counts these as delivered. The row stays, of no run:
        // that one may be in the bucket.
        sql_query("UPDATE receipts SET run = 0 WHERE session_id = $1 AND run = $2")
            .bind::<SqlUuid, _>(claim.session_id.0)
            .bind::<Integer, _>(claim.run)
            .execute(conn.raw())
            .await?;
    }
    Ok(())
}

/// Files of this session with a multipart upload that nobody will go on with, by number, after `after`.
///
/// # Errors
/// The database's.
pub async fn open_uploads(
    conn: &mut TenantConn,
    session_id: SessionId,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String, String)>, DatabaseError> {
    Ok(file_uploads::table
        .filter(
            file_uploads::session_id
                .eq(session_id.0)
                .and(file_uploads::number.gt(after)),
        )
        .filter(file_uploads::upload_id.is_not_null())
        .order(file_uploads::number.asc())
        .limit(limit)
        .select((
            file_uploads::number,
            file_uploads::path,
            file_uploads::upload_id.assume_not_null(),
        ))
        .load(conn.raw())
        .await?)
}

/// Forgets the multipart uploads of these files: they are aborted.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn uploads_aborted(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    numbers: &[i64],
) -> Result<(), JobError> {
    renew(conn, claim, lease).await?;
    sql_query(
        "UPDATE file_uploads SET upload_id = NULL, part_size_bytes = NULL
         WHERE session_id = $1 AND number = ANY($2)",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Array<BigInt>, _>(numbers)
    .execute(conn.raw())
    .await?;
    Ok(())
}

/// Which of `paths` are files of this session (so that an open multipart upload on their key may be ours).
///
/// # Errors
/// The database's.
pub async fn paths_of_session(
    conn: &mut TenantConn,
    session_id: SessionId,
    paths: &[String],
) -> Result<Vec<String>, DatabaseError> {
    Ok(file_uploads::table
        .filter(
            file_uploads::session_id
                .eq(session_id.0)
                .and(file_uploads::path.eq_any(paths)),
        )
        .select(file_uploads::path)
        .load(conn.raw())
        .await?)
}

/// Files without an outcome become `cancelled` where the session was stopped, and `failed` (`worker_crashed`)
/// where their job was given up.
pub(super) async fn close_files(
    conn: &mut TenantConn,
    id: SessionId,
    flag: StopFlag,
) -> Result<(), DatabaseError> {
    let (status, code, detail) = match flag {
        StopFlag::Cancel | StopFlag::Fail => ("cancelled", None, None),
        StopFlag::Run | StopFlag::Pause => (
            "failed",
            Some(FileErrorCode::WorkerCrashed.as_str()),
            Some("its job was given up after its workers vanished repeatedly"),
        ),
    };
    sql_query(
        "UPDATE file_uploads SET status = $2, error_code = $3, error_detail = $4, finished_at = now()
         WHERE session_id = $1 AND status IN ('pending', 'uploading')",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(status)
    .bind::<Nullable<Text>, _>(code)
    .bind::<Nullable<Text>, _>(detail)
    .execute(conn.raw())
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct FinalRow {
    #[diesel(sql_type = Text)]
    status: String,
}

/// Gives the session its final status, its counters counted anew, and ends the `finish` job; all or nothing.
/// Files without an outcome become `cancelled` where the session was stopped, and `failed` (`worker_crashed`)
/// where their job was given up. A session whose receipt is begun was counted then, and ends as that says.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn finish_session(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
) -> Result<SessionStatus, JobError> {
    conn.allow_long_statements().await?;
    let flag = renew(conn, claim, lease).await?;
    let begun = begun_receipt(conn, claim).await?;
    if begun.is_none() {
        close_files(conn, claim.session_id, flag).await?;
        recount(conn.raw(), claim.session_id).await?;
    }
    let row: FinalRow = sql_query(
        "UPDATE sync_sessions SET finished_at = now(), stop_flag = 'run', status = CASE
                WHEN $2 IS NOT NULL THEN $2
                WHEN stop_flag = 'cancel' THEN 'cancelled'
                WHEN stop_flag = 'fail' THEN 'failed'
                WHEN NOT scan_complete THEN 'failed'
                WHEN files_failed + files_cancelled > 0 THEN 'completed_with_errors'
                ELSE 'completed' END,
                error_code = CASE WHEN stop_flag = 'fail' THEN error_code
                    WHEN stop_flag = 'run' AND NOT scan_complete THEN 'internal' END,
                error_detail = CASE WHEN stop_flag = 'fail' THEN error_detail
                    WHEN stop_flag = 'run' AND NOT scan_complete
                    THEN 'the scan was given up after its workers vanished repeatedly' END
         WHERE id = $1 RETURNING status",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Nullable<Text>, _>(begun.map(|begun| begun.status))
    .get_result(conn.raw())
    .await?;
    forget_outage(conn.raw(), claim.session_id).await?;
    end(conn, claim, Ending::Done).await?;
    Ok(row.status.parse().map_err(DatabaseError::from)?)
}

/// Counts a session's files anew and writes what was counted.
pub(crate) async fn recount(conn: &mut AsyncPgConnection, id: SessionId) -> Result<(), DatabaseError> {
    sql_query(
        "UPDATE sync_sessions s SET
                files_total = c.files_total, files_uploaded = c.files_uploaded, files_skipped = c.files_skipped,
                files_failed = c.files_failed, files_cancelled = c.files_cancelled, bytes_total = c.bytes_total,
                bytes_uploaded = c.bytes_uploaded, bytes_skipped = c.bytes_skipped, bytes_failed = c.bytes_failed
         FROM (SELECT count(*) AS files_total,
                      count(*) FILTER (WHERE status = 'uploaded') AS files_uploaded,
                      count(*) FILTER (WHERE status = 'skipped') AS files_skipped,
                      count(*) FILTER (WHERE status = 'failed') AS files_failed,
                      count(*) FILTER (WHERE status = 'cancelled') AS files_cancelled,
                      coalesce(sum(size_bytes), 0) AS bytes_total,
                      coalesce(sum(size_bytes) FILTER (WHERE status = 'uploaded'), 0) AS bytes_uploaded,
                      coalesce(sum(size_bytes) FILTER (WHERE status = 'skipped'), 0) AS bytes_skipped,
                      coalesce(sum(size_bytes) FILTER (WHERE status = 'failed'), 0) AS bytes_failed
               FROM file_uploads WHERE session_id = $1) AS c
         WHERE s.id = $1",
    )
    .bind::<SqlUuid, _>(id.0)
    .execute(conn)
    .await?;
    Ok(())
}
