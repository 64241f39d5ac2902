//! The months of `file_uploads`: those to come are made, and those past what is kept are dropped. Every worker cares for
//! them; an advisory lock lets one work at a time.
//!
//! What changes a table is done by two functions in the database that run as the schema's owner, see
//! `migrations/2026-12-01-120000_add_file_retention`. Whether a month is still needed is decided here: the owner sees no
//! session.

use crate::sweep::try_lock;
use crate::{DatabaseError, SystemConn};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_query;
use diesel::sql_types::{Date, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::SessionId;
use uuid::Uuid;

/// How many months of partitions exist ahead of time.
const MONTHS_AHEAD: i32 = 12;

/// The lock that one worker holds at a time ("months" in ASCII).
const LOCK_KEY: i64 = 0x6d6f_6e74_6873;

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = Integer)]
    made: i32,
}

/// Makes the partitions of the months to come, and moves rows that came before theirs into them; gives how many were
/// made, or nothing where another does so just now.
///
/// # Errors
/// The database's: [`DatabaseError::Unavailable`] too when the table is read by somebody who takes long.
pub async fn make_months(conn: &mut SystemConn) -> Result<Option<i32>, DatabaseError> {
    if !try_lock(conn, LOCK_KEY).await? {
        return Ok(None);
    }
    let row: Made = sql_query("SELECT ensure_file_partitions($1) AS made")
        .bind::<Integer, _>(MONTHS_AHEAD)
        .get_result(conn.raw())
        .await?;
    Ok(Some(row.made))
}

#[derive(QueryableByName)]
struct MonthRow {
    #[diesel(sql_type = Date)]
    month: NaiveDate,
}

/// The months that were over `keep_months` ago and still have their partition, each by its first day, the oldest first.
///
/// # Errors
/// The database's.
pub async fn expired_months(
    conn: &mut SystemConn,
    keep_months: i32,
) -> Result<Vec<NaiveDate>, DatabaseError> {
    let rows: Vec<MonthRow> = sql_query(
        "SELECT month FROM (
             SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'file_uploads'::regclass AND c.relname <> 'file_uploads_default') AS partitions
         WHERE month + make_interval(months => 1 + $1) <= now() AT TIME ZONE 'UTC' ORDER BY month",
    )
    .bind::<Integer, _>(keep_months)
    .load(conn.raw())
    .await?;
    Ok(rows.into_iter().map(|row| row.month).collect())
}

/// Why a month's files were not dropped.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    /// A session needs them.
    #[error("session {session_id} needs its files: {why}")]
    Needed {
        /// The session.
        session_id: SessionId,
        /// In words.
        why: String,
    },
    /// Another does so just now, or did.
    #[error("another worker drops them")]
    Elsewhere,
    /// The database: unavailable too when the table is read by somebody who takes long.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<diesel::result::Error> for Kept {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Drops the files of all sessions that were made in a month, and notes that in the sessions, which stay; gives how many
/// these are.
///
/// # Errors
/// [`Kept`]: nothing was changed.
pub async fn drop_month(conn: &mut SystemConn, month: NaiveDate, keep_months: i32) -> Result<u64, Kept> {
    if !try_lock(conn, LOCK_KEY).await? || !expired_months(conn, keep_months).await?.contains(&month) {
        return Err(Kept::Elsewhere);
    }
    // Looked at before, so that a month that is kept costs no writes, and again when its sessions are held: whoever
    // would start one anew waits, and then finds it noted.
    still_needed(conn, month, keep_months).await?;
    let sessions = sql_query(
        "UPDATE sync_sessions SET files_dropped_at = now()
         WHERE files_dropped_at IS NULL AND id >= uuid7_floor($1::timestamp AT TIME ZONE 'UTC')
           AND id < uuid7_floor(($1 + interval '1 month') AT TIME ZONE 'UTC')",
    )
    .bind::<Date, _>(month)
    .execute(conn.raw())
    .await?;
    still_needed(conn, month, keep_months).await?;
    sql_query("SELECT drop_file_partition($1)")
        .bind::<Date, _>(month)
        .execute(conn.raw())
        .await?;
    Ok(u64::try_from(sessions).unwrap_or(0))
}

#[derive(QueryableByName)]
struct NeedRow {
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = Text)]
    why: String,
}

/// Goes on only if no session of the month needs its files.
async fn still_needed(conn: &mut SystemConn, month: NaiveDate, keep_months: i32) -> Result<(), Kept> {
    let row: Option<NeedRow> = sql_query(
        "WITH month AS (
             SELECT uuid7_floor($1::timestamp AT TIME ZONE 'UTC') AS first,
                    uuid7_floor(($1 + interval '1 month') AT TIME ZONE 'UTC') AS next)
         SELECT s.id AS session_id, 'it is ' || s.status AS why FROM month, sync_sessions s
         WHERE s.id >= month.first AND s.id < month.next AND s.status IN ('pending', 'in_progress', 'paused')
         UNION ALL
         SELECT s.id, 'it ended at ' || s.finished_at FROM month, sync_sessions s
         WHERE s.id >= month.first AND s.id < month.next AND s.finished_at > now() - make_interval(months => $2)
         UNION ALL
         SELECT j.session_id, 'a job of it is running' FROM month, jobs j
         WHERE j.session_id >= month.first AND j.session_id < month.next AND j.state = 'running'
         UNION ALL
         SELECT f.session_id, 'a multipart upload of it is open' FROM month, file_uploads f
         WHERE f.session_id >= month.first AND f.session_id < month.next AND f.upload_id IS NOT NULL
         LIMIT 1",
    )
    .bind::<Date, _>(month)
    .bind::<Integer, _>(keep_months)
    .load(conn.raw())
    .await?
    .pop();
    match row {
        None => Ok(()),
        Some(row) => Err(Kept::Needed {
            session_id: SessionId(row.session_id),
            why: row.why,
        }),
    }
}
