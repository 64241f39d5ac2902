//! Scan jobs: what the walk found, and the upload jobs made of it.

use super::{Claim, JobError, clean, renew};
use crate::prepared::{Prepared, by_index};
use crate::schema::file_uploads;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::object_key::PathText;
use domain::{FileErrorCode, FileStatus, JobId, Planned, QueuedJob, SessionId, StopFlag};
use std::time::Duration;

/// A file that the scan found.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// Its number, one above the one before.
    pub number: i64,
    /// Below the source.
    pub path: PathText,
    /// In bytes.
    pub size_bytes: i64,
    /// When it was last modified.
    pub modified_at: Option<DateTime<Utc>>,
    /// `Pending`, or what the scan decided already: `Skipped`, `Failed`.
    pub status: FileStatus,
    /// The cause of that.
    pub error: Option<(FileErrorCode, String)>,
    /// In a dry run: what would be done with it, if it would be sent.
    pub planned: Option<Planned>,
    /// What is known of the object that has its key: of a `Skipped` file its own, of a `Pending` one that whose bytes are to
    /// be compared.
    pub object: ObjectMarks,
}

/// What is recorded of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectMarks {
    /// Its ETag, without quotes.
    pub etag: Option<String>,
    /// `kind:base64`, with `-{parts}` behind it when it is one of the parts' checksums.
    pub checksum: Option<String>,
}

#[derive(QueryableByName)]
struct JobIdRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
}

/// Records a batch of what the scan found, and one upload job for its range if anything of it is to be sent.
/// Renews the lease in the same transaction.
///
/// # Errors
/// [`JobError::Fenced`] when the scan is no longer this worker's: nothing is recorded.
pub async fn emit_batch(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    location: &str,
    files: &[FoundFile],
) -> Result<(StopFlag, Option<QueuedJob>), JobError> {
    let flag = renew(conn, claim, lease).await?;
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        return Ok((flag, None));
    };
    if flag != StopFlag::Run {
        return Ok((flag, None));
    }
    by_index(conn).await?;
    let statement = sql_query(
        "WITH found AS (
             INSERT INTO file_uploads (session_id, number, company_id, path, path_is_encoded, size_bytes, modified_at,
                                       status, error_code, error_detail, etag, checksum, planned, finished_at)
             SELECT $1, f.number, $2, f.path, f.path_is_encoded, f.size_bytes, f.modified_at, f.status, f.error_code,
                    f.error_detail, f.etag, f.checksum, f.planned, CASE WHEN f.status = 'pending' THEN NULL ELSE now() END
             FROM unnest($3::bigint[], $4::text[], $5::boolean[], $6::bigint[], $7::timestamptz[], $8::text[],
                         $9::text[], $10::text[], $14::text[], $15::text[], $16::text[])
                  AS f(number, path, path_is_encoded, size_bytes, modified_at, status, error_code, error_detail,
                       etag, checksum, planned)
             ON CONFLICT DO NOTHING
             RETURNING status, size_bytes),
         sums AS (
             SELECT count(*) AS files_total, coalesce(sum(size_bytes), 0) AS bytes_total,
                    count(*) FILTER (WHERE status = 'pending') AS files_pending,
                    count(*) FILTER (WHERE status = 'skipped') AS files_skipped,
                    count(*) FILTER (WHERE status = 'failed') AS files_failed,
                    coalesce(sum(size_bytes) FILTER (WHERE status = 'skipped'), 0) AS bytes_skipped,
                    coalesce(sum(size_bytes) FILTER (WHERE status = 'failed'), 0) AS bytes_failed
             FROM found),
         session AS (
             UPDATE sync_sessions s SET
                    files_total = s.files_total + m.files_total, bytes_total = s.bytes_total + m.bytes_total,
                    files_skipped = s.files_skipped + m.files_skipped, bytes_skipped = s.bytes_skipped + m.bytes_skipped,
                    files_failed = s.files_failed + m.files_failed, bytes_failed = s.bytes_failed + m.bytes_failed,
                    open_jobs = s.open_jobs + CASE WHEN m.files_pending > 0 THEN 1 ELSE 0 END
             FROM sums m WHERE s.id = $1 RETURNING s.run, s.stop_flag, m.files_pending),
         job AS (
             INSERT INTO jobs (company_id, session_id, run, location, kind, first_number, last_number, run_after)
             SELECT $2, $1, run, $11, 'upload', $12, $13,
                    -- Paused since the flag was read: it is parked, as those are that the pause found.
                    CASE WHEN stop_flag = 'pause' THEN 'infinity' ELSE now() END
             FROM session WHERE files_pending > 0 RETURNING id)
         SELECT (SELECT id FROM job) AS id",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<SqlUuid, _>(claim.company_id.0)
    .bind::<Array<BigInt>, _>(files.iter().map(|file| file.number).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(files.iter().map(|file| file.path.text.as_str()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(files.iter().map(|file| file.path.is_encoded).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(files.iter().map(|file| file.size_bytes).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(files.iter().map(|file| file.modified_at).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(files.iter().map(|file| file.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        files.iter().map(|file| file.error.as_ref().map(|(code, _)| code.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Text>>, _>(
        files.iter().map(|file| file.error.as_ref().map(|(_, detail)| clean(detail))).collect::<Vec<_>>(),
    )
    .bind::<Text, _>(location)
    .bind::<BigInt, _>(first.number)
    .bind::<BigInt, _>(last.number)
    .bind::<Array<Nullable<Text>>, _>(files.iter().map(|file| file.object.etag.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(files.iter().map(|file| file.object.checksum.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(files.iter().map(|file| file.planned.map(Planned::as_str)).collect::<Vec<_>>());
    let job: JobIdRow = Prepared(statement).get_result(conn.raw()).await?;
    let job = job.id.map(|id| QueuedJob {
        id: JobId(id),
        company_id: claim.company_id,
        location: location.to_owned(),
        at_head: false,
    });
    Ok((flag, job))
}

/// What an earlier scan of the session recorded: a page of paths by number, after `after`.
///
/// # Errors
/// The database's.
pub async fn recorded_paths(
    conn: &mut TenantConn,
    session_id: SessionId,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, PathText)>, DatabaseError> {
    let rows: Vec<(i64, String, bool)> = file_uploads::table
        .filter(
            file_uploads::session_id
                .eq(session_id.0)
                .and(file_uploads::number.gt(after)),
        )
        .order(file_uploads::number.asc())
        .limit(limit)
        .select((
            file_uploads::number,
            file_uploads::path,
            file_uploads::path_is_encoded,
        ))
        .load(conn.raw())
        .await?;
    Ok(rows
        .into_iter()
        .map(|(number, text, is_encoded)| (number, PathText { text, is_encoded }))
        .collect())
}
