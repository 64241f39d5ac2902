//! Upload jobs: what is left of a range, and the outcomes of its files.

use super::{Claim, JobError, ObjectMarks, clean, renew};
use crate::prepared::{Prepared, by_index};
use crate::schema::file_uploads;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::object_key::PathText;
use domain::{FileErrorCode, FileStatus, SessionId, StopFlag};
use std::time::Duration;
use uuid::Uuid;

/// A file of an upload job's range that has no outcome yet.
#[derive(Clone, Debug)]
pub struct PendingFile {
    /// Its number.
    pub number: i64,
    /// Below the source.
    pub path: PathText,
    /// As the scan saw it.
    pub size_bytes: i64,
    /// How often it was begun.
    pub attempts: i32,
    /// The multipart upload that an earlier attempt left open, with the size of its parts.
    pub open_upload: Option<(String, i64)>,
    /// The object whose bytes it is to be compared with.
    pub existing: Option<ObjectMarks>,
}

/// What is left to do of the range `numbers`, in order.
///
/// # Errors
/// The database's.
pub async fn pending_files(
    conn: &mut TenantConn,
    session_id: SessionId,
    numbers: (i64, i64),
) -> Result<Vec<PendingFile>, DatabaseError> {
    type Row = (
        i64,
        String,
        bool,
        i64,
        i32,
        Option<String>,
        Option<i64>,
        Option<String>,
        Option<String>,
    );
    let rows: Vec<Row> = file_uploads::table
        .filter(file_uploads::session_id.eq(session_id.0))
        .filter(file_uploads::number.between(numbers.0, numbers.1))
        .filter(file_uploads::status.eq_any(["pending", "uploading"]))
        .order(file_uploads::number.asc())
        .select((
            file_uploads::number,
            file_uploads::path,
            file_uploads::path_is_encoded,
            file_uploads::size_bytes,
            file_uploads::attempts,
            file_uploads::upload_id,
            file_uploads::part_size_bytes,
            file_uploads::etag,
            file_uploads::checksum,
        ))
        .load(conn.raw())
        .await?;
    Ok(rows
        .into_iter()
        .map(
            |(number, text, is_encoded, size_bytes, attempts, upload_id, part_size_bytes, etag, checksum)| {
                PendingFile {
                    number,
                    path: PathText { text, is_encoded },
                    size_bytes,
                    attempts,
                    open_upload: upload_id.zip(part_size_bytes),
                    existing: (etag.is_some() || checksum.is_some())
                        .then_some(ObjectMarks { etag, checksum }),
                }
            },
        )
        .collect())
}

/// Records that a multipart upload is open, before its first part is sent.
///
/// # Errors
/// [`JobError::Fenced`]: then no part may be sent.
pub async fn multipart_opened(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    number: i64,
    upload_id: &str,
    part_size_bytes: i64,
) -> Result<(), JobError> {
    renew(conn, claim, lease).await?;
    sql_query(
        "UPDATE file_uploads SET status = 'uploading', upload_id = $3, part_size_bytes = $4,
                started_at = coalesce(started_at, now())
         WHERE session_id = $1 AND number = $2 AND status IN ('pending', 'uploading')",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<BigInt, _>(number)
    .bind::<Text, _>(upload_id)
    .bind::<BigInt, _>(part_size_bytes)
    .execute(conn.raw())
    .await?;
    Ok(())
}

/// Names the file that an isolated job begins with: if its worker vanishes now, that file is to blame.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn suspect(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    number: i64,
) -> Result<StopFlag, JobError> {
    let flag = renew(conn, claim, lease).await?;
    sql_query("UPDATE jobs SET suspect_file = $2 WHERE id = $1")
        .bind::<BigInt, _>(claim.job_id.0)
        .bind::<BigInt, _>(number)
        .execute(conn.raw())
        .await?;
    Ok(flag)
}

/// Fails the file that made its worker vanish again, and moves the counters by what that changed.
pub(crate) async fn fail_suspect(
    conn: &mut AsyncPgConnection,
    session_id: Uuid,
    number: i64,
    crashes: i32,
) -> Result<(), DatabaseError> {
    sql_query(
        "WITH failed AS (
             UPDATE file_uploads SET status = 'failed', error_code = 'worker_crashed', error_detail = $3,
                    attempts = attempts + $4, finished_at = now()
             WHERE session_id = $1 AND number = $2 AND status IN ('pending', 'uploading') RETURNING size_bytes)
         UPDATE sync_sessions s SET files_failed = s.files_failed + 1, bytes_failed = s.bytes_failed + f.size_bytes
         FROM failed f WHERE s.id = $1",
    )
    .bind::<SqlUuid, _>(session_id)
    .bind::<BigInt, _>(number)
    .bind::<Text, _>(format!("its worker vanished {crashes} times, the last time while it was sent alone"))
    .bind::<Integer, _>(crashes)
    .execute(conn)
    .await?;
    Ok(())
}

/// The outcome of one file.
#[derive(Clone, Debug)]
pub struct FileOutcome {
    /// Its number.
    pub number: i64,
    /// Uploaded, skipped or failed.
    pub status: FileStatus,
    /// The size the session's totals count it with: as the row had it.
    pub planned_size_bytes: i64,
    /// The size of the version that was read.
    pub size_bytes: i64,
    /// Of that version.
    pub modified_at: Option<DateTime<Utc>>,
    /// How often it was begun, this time included.
    pub attempts: i32,
    /// What the store gave.
    pub etag: Option<String>,
    /// `kind:base64`.
    pub checksum: Option<String>,
    /// The cause and its detail, of what was not delivered.
    pub error: Option<(FileErrorCode, String)>,
    /// When it was begun, by this machine's clock.
    pub started_at: DateTime<Utc>,
    /// When it ended, by this machine's clock.
    pub finished_at: DateTime<Utc>,
}

/// Records outcomes and moves the session's counters by what this very statement changed, so that a flush that
/// is repeated (its answer was lost) adds nothing. Times of this machine's clock become those of the database's.
/// Renews the lease in the same transaction.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's: nothing is recorded.
pub async fn record_outcomes(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    outcomes: &[FileOutcome],
) -> Result<StopFlag, JobError> {
    let flag = renew(conn, claim, lease).await?;
    let Some(statement) = outcomes_statement(claim.session_id, outcomes) else {
        return Ok(flag);
    };
    by_index(conn).await?;
    Prepared(statement).execute(conn.raw()).await?;
    Ok(flag)
}

/// What [`record_outcomes`] sends, if there are any.
pub(crate) fn outcomes_statement(
    session_id: SessionId,
    outcomes: &[FileOutcome],
) -> Option<impl QueryFragment<Pg> + QueryId + Send> {
    // In the order of the key: two flushes of neighbouring ranges meet in no circle, and pages are visited once.
    let mut sorted: Vec<&FileOutcome> = outcomes.iter().collect();
    sorted.sort_unstable_by_key(|outcome| outcome.number);
    let column = |of: fn(&FileOutcome) -> i64| sorted.iter().map(|outcome| of(outcome)).collect::<Vec<i64>>();
    let ([first, ..], [.., last]) = (&sorted[..], &sorted[..]) else {
        return None;
    };
    let statement = sql_query(
        "WITH changed AS (
             UPDATE file_uploads f SET status = o.status, size_bytes = o.size_bytes, modified_at = o.modified_at,
                    attempts = o.attempts, etag = o.etag, checksum = o.checksum, error_code = o.error_code,
                    error_detail = o.error_detail, started_at = o.started_at + (statement_timestamp() - $14),
                    finished_at = o.finished_at + (statement_timestamp() - $14), upload_id = NULL, part_size_bytes = NULL
             FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::integer[],
                         $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[])
                  AS o(number, status, planned_size_bytes, size_bytes, modified_at, attempts,
                       etag, checksum, error_code, error_detail, started_at, finished_at)
             WHERE f.session_id = $1 AND f.number = o.number AND f.number BETWEEN $15 AND $16
               AND f.status IN ('pending', 'uploading')
             RETURNING o.status, o.size_bytes, o.size_bytes - o.planned_size_bytes AS growth),
         moved AS (
             SELECT count(*) FILTER (WHERE status = 'uploaded') AS files_uploaded,
                    count(*) FILTER (WHERE status = 'skipped') AS files_skipped,
                    count(*) FILTER (WHERE status = 'failed') AS files_failed,
                    coalesce(sum(size_bytes) FILTER (WHERE status = 'uploaded'), 0) AS bytes_uploaded,
                    coalesce(sum(size_bytes) FILTER (WHERE status = 'skipped'), 0) AS bytes_skipped,
                    coalesce(sum(size_bytes) FILTER (WHERE status = 'failed'), 0) AS bytes_failed,
                    coalesce(sum(growth), 0) AS growth
             FROM changed)
         UPDATE sync_sessions s SET
                files_uploaded = s.files_uploaded + m.files_uploaded, files_skipped = s.files_skipped + m.files_skipped,
                files_failed = s.files_failed + m.files_failed, bytes_total = s.bytes_total + m.growth,
                bytes_uploaded = s.bytes_uploaded + m.bytes_uploaded, bytes_skipped = s.bytes_skipped + m.bytes_skipped,
                bytes_failed = s.bytes_failed + m.bytes_failed
         FROM moved m WHERE s.id = $1",
    )
    .bind::<SqlUuid, _>(session_id.0)
    .bind::<Array<BigInt>, _>(column(|outcome| outcome.number))
    .bind::<Array<Text>, _>(sorted.iter().map(|outcome| outcome.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(column(|outcome| outcome.planned_size_bytes))
    .bind::<Array<BigInt>, _>(column(|outcome| outcome.size_bytes))
    .bind::<Array<Nullable<Timestamptz>>, _>(sorted.iter().map(|outcome| outcome.modified_at).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(sorted.iter().map(|outcome| outcome.attempts).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(sorted.iter().map(|outcome| outcome.etag.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(sorted.iter().map(|outcome| outcome.checksum.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        sorted.iter().map(|outcome| outcome.error.as_ref().map(|(code, _)| code.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Text>>, _>(
        sorted.iter().map(|outcome| outcome.error.as_ref().map(|(_, detail)| clean(detail))).collect::<Vec<_>>(),
    )
    .bind::<Array<Timestamptz>, _>(sorted.iter().map(|outcome| outcome.started_at).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(sorted.iter().map(|outcome| outcome.finished_at).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(Utc::now())
    .bind::<BigInt, _>(first.number)
    .bind::<BigInt, _>(last.number);
    Some(statement)
}
