//! Reading the files of a session. They are written by workers, in [`crate::jobs`].

use crate::schema::file_uploads;
use crate::sessions::like_pattern;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{Cause, FileErrorCode, FileStatus, Planned, SessionId};

/// A file as it is stored. Its key is its session's `key_prefix` and its path.
#[derive(Clone, Debug)]
pub struct File {
    /// Its number in its session.
    pub number: i64,
    /// Below the source, in text form.
    pub path: String,
    /// Whether bytes of the path are encoded in it.
    pub path_is_encoded: bool,
    /// In bytes; of the version that was read, once it was.
    pub size_bytes: i64,
    /// Of that version.
    pub modified_at: Option<DateTime<Utc>>,
    /// Its outcome.
    pub status: FileStatus,
    /// How often it was begun.
    pub attempts: i32,
    /// What the store gave.
    pub etag: Option<String>,
    /// `kind:base64`, confirmed by the store.
    pub checksum: Option<String>,
    /// The cause, where it failed or was skipped for one.
    pub error_code: Option<Cause<FileErrorCode>>,
    /// In words.
    pub error_detail: Option<String>,
    /// In a dry run: what would be done with it, if it would be sent.
    pub planned: Option<Planned>,
    /// When a worker began with it.
    pub started_at: Option<DateTime<Utc>>,
    /// When its outcome was known.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = file_uploads, check_for_backend(diesel::pg::Pg))]
struct FileRow {
    number: i64,
    path: String,
    path_is_encoded: bool,
    size_bytes: i64,
    modified_at: Option<DateTime<Utc>>,
    status: String,
    attempts: i32,
    etag: Option<String>,
    checksum: Option<String>,
    error_code: Option<String>,
    error_detail: Option<String>,
    planned: Option<String>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<FileRow> for File {
    type Error = DatabaseError;

    fn try_from(row: FileRow) -> Result<Self, DatabaseError> {
        Ok(Self {
            number: row.number,
            path: row.path,
            path_is_encoded: row.path_is_encoded,
            size_bytes: row.size_bytes,
            modified_at: row.modified_at,
            status: row.status.parse()?,
            attempts: row.attempts,
            etag: row.etag,
            checksum: row.checksum,
            error_code: row.error_code.map(Cause::from),
            error_detail: row.error_detail,
            planned: row.planned.map(|planned| planned.parse()).transpose()?,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

/// Which files [`list`] gives.
#[derive(Clone, Debug, Default)]
pub struct FileFilter {
    /// In this status.
    pub status: Option<FileStatus>,
    /// With this cause.
    pub error_code: Option<FileErrorCode>,
    /// Whose path has this text, in whatever case.
    pub q: Option<String>,
}

/// A page of a session's files by number: those after `after`.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: &mut TenantConn,
    session_id: SessionId,
    filter: &FileFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<File>, DatabaseError> {
    let mut query = file_uploads::table
        .filter(file_uploads::session_id.eq(session_id.0))
        .select(FileRow::as_select())
        .order(file_uploads::number.asc())
        .limit(limit)
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(file_uploads::number.gt(after));
    }
    if let Some(status) = filter.status {
        query = query.filter(file_uploads::status.eq(status.as_str()));
    }
    if let Some(code) = filter.error_code {
        query = query.filter(file_uploads::error_code.eq(code.as_str()));
    }
    if let Some(q) = &filter.q {
        query = query.filter(file_uploads::path.ilike(like_pattern(q)));
    }
    query
        .load(conn.raw())
        .await?
        .into_iter()
        .map(File::try_from)
        .collect()
}

/// One file.
///
/// # Errors
/// [`DatabaseError::NotFound`] when the session has no such number, or is not in this company.
pub async fn get(conn: &mut TenantConn, session_id: SessionId, number: i64) -> Result<File, DatabaseError> {
    let row: FileRow = file_uploads::table
        .find((session_id.0, number))
        .select(FileRow::as_select())
        .first(conn.raw())
        .await?;
    row.try_into()
}

/// Failed files that share a cause.
#[derive(Clone, Debug)]
pub struct FailureGroup {
    /// The cause.
    pub error_code: Cause<FileErrorCode>,
    /// How many files.
    pub count: i64,
    /// How many bytes.
    pub size_bytes: i64,
    /// The first few paths.
    pub example_paths: Vec<String>,
}

#[derive(QueryableByName)]
struct FailureRow {
    #[diesel(sql_type = Text)]
    error_code: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = Array<Text>)]
    example_paths: Vec<String>,
}

/// A session's failed files by cause, the most frequent first, with the first five paths of each.
///
/// # Errors
/// The database's.
pub async fn failures(
    conn: &mut TenantConn,
    session_id: SessionId,
) -> Result<Vec<FailureGroup>, DatabaseError> {
    let rows: Vec<FailureRow> = sql_query(
        "SELECT error_code, count(*) AS count, coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
                (array_agg(path ORDER BY number) FILTER (WHERE place <= 5)) AS example_paths
         FROM (SELECT coalesce(error_code, 'storage_error') AS error_code, size_bytes, path, number,
                      row_number() OVER (PARTITION BY error_code ORDER BY number) AS place
               FROM file_uploads WHERE session_id = $1 AND status = 'failed') AS failed
         GROUP BY error_code ORDER BY count(*) DESC, error_code",
    )
    .bind::<SqlUuid, _>(session_id.0)
    .load(conn.raw())
    .await?;
    let groups = rows.into_iter().map(|row| FailureGroup {
        error_code: row.error_code.into(),
        count: row.count,
        size_bytes: row.size_bytes,
        example_paths: row.example_paths,
    });
    Ok(groups.collect())
}

/// The files that failed at or after `since`, the latest first. For those who watch: what they miss is in [`list`].
///
/// # Errors
/// The database's.
pub async fn failed_since(
    conn: &mut TenantConn,
    session_id: SessionId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<File>, DatabaseError> {
    file_uploads::table
        .filter(file_uploads::session_id.eq(session_id.0))
        .filter(file_uploads::status.eq(FileStatus::Failed.as_str()))
        .filter(file_uploads::finished_at.ge(since))
        .select(FileRow::as_select())
        .order((file_uploads::finished_at.desc(), file_uploads::number.desc()))
        .limit(limit)
        .load(conn.raw())
        .await?
        .into_iter()
        .map(File::try_from)
        .collect()
}
