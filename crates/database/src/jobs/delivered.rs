//! What earlier sessions of a cycle left in the bucket, for the scan that compares with it.

use super::{Claim, ObjectMarks};
use crate::schema::file_uploads;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{FileErrorCode, SessionId};
use uuid::Uuid;

/// A file that another session sent, or found delivered, or tried to send.
#[derive(Clone, Debug)]
pub struct DeliveredFile {
    /// Its number in its session.
    pub number: i64,
    /// Below the source, as in its key.
    pub path: String,
    /// In bytes.
    pub size_bytes: i64,
    /// Of the version that was delivered.
    pub modified_at: Option<DateTime<Utc>>,
    /// Its object, where it was delivered.
    pub object: Option<ObjectMarks>,
}

#[derive(QueryableByName)]
struct EarlierRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    key_prefix: String,
}

/// The other sessions `e` of session $1's cycle that may have written below its target.
const OTHERS: &str = "FROM sync_sessions s
     JOIN sync_sessions e ON e.company_id = s.company_id AND e.project_id = s.project_id AND e.cycle_id = s.cycle_id
     WHERE s.id = $1 AND e.id <> s.id AND e.files_total > 0
       AND NOT coalesce((e.settings ->> 'dry_run')::boolean, false)
       AND (starts_with(e.key_prefix, s.key_prefix) OR starts_with(s.key_prefix, e.key_prefix))";

/// The other sessions of the claim's cycle that may have written below its target, with what their keys begin with;
/// the latest first, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn earlier_sessions(
    conn: &mut TenantConn,
    claim: &Claim,
    limit: i64,
) -> Result<Vec<(SessionId, String)>, DatabaseError> {
    let rows: Vec<EarlierRow> = sql_query(format!(
        "SELECT e.id, e.key_prefix {OTHERS} AND e.files_dropped_at IS NULL ORDER BY e.id DESC LIMIT $2"
    ))
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<BigInt, _>(limit)
    .load(conn.raw())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (SessionId(row.id), row.key_prefix))
        .collect())
}

#[derive(QueryableByName)]
struct ForgottenRow {
    #[diesel(sql_type = Bool)]
    is_forgotten: bool,
}

/// Whether the files of one of those sessions are no longer recorded: any object may be one of theirs. To be asked
/// after the files of the others were read, for they may be dropped meanwhile.
///
/// # Errors
/// The database's.
pub async fn are_earlier_forgotten(conn: &mut TenantConn, claim: &Claim) -> Result<bool, DatabaseError> {
    let row: ForgottenRow = sql_query(format!(
        "SELECT EXISTS (SELECT {OTHERS} AND e.files_dropped_at IS NOT NULL) AS is_forgotten"
    ))
    .bind::<SqlUuid, _>(claim.session_id.0)
    .get_result(conn.raw())
    .await?;
    Ok(row.is_forgotten)
}

/// The files of a session that it may have sent, or found delivered: a page by number, after `after`.
///
/// # Errors
/// The database's.
pub async fn delivered_files(
    conn: &mut TenantConn,
    session_id: SessionId,
    after: i64,
    limit: i64,
) -> Result<Vec<DeliveredFile>, DatabaseError> {
    type Row = (
        i64,
        String,
        i64,
        Option<DateTime<Utc>>,
        Option<String>,
        Option<String>,
        String,
    );
    let rows: Vec<Row> = file_uploads::table
        .filter(file_uploads::session_id.eq(session_id.0))
        .filter(file_uploads::number.gt(after))
        .filter(
            file_uploads::status
                .ne("skipped")
                .or(file_uploads::error_code.eq(FileErrorCode::Unchanged.as_str())),
        )
        .order(file_uploads::number.asc())
        .limit(limit)
        .select((
            file_uploads::number,
            file_uploads::path,
            file_uploads::size_bytes,
            file_uploads::modified_at,
            file_uploads::etag,
            file_uploads::checksum,
            file_uploads::status,
        ))
        .load(conn.raw())
        .await?;
    Ok(rows
        .into_iter()
        .map(
            |(number, path, size_bytes, modified_at, etag, checksum, status)| DeliveredFile {
                number,
                path,
                size_bytes,
                modified_at,
                object: matches!(status.as_str(), "uploaded" | "skipped")
                    .then_some(ObjectMarks { etag, checksum }),
            },
        )
        .collect())
}
