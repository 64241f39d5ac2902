//! Multipart uploads that were left open: whose bucket is to be looked through next, below which prefixes, and which
//! rows refer to what is open there.

use crate::projects::Project;
use crate::schema::projects;
use crate::{DatabaseError, SystemConn, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{CompanyId, ProjectId, SessionId, SessionStatus};
use std::time::Duration;
use uuid::Uuid;

/// A project whose bucket is to be looked through now.
pub struct DueProject {
    /// The tenant.
    pub company_id: CompanyId,
    /// The project.
    pub project: Project,
    /// The database's clock: what the age of uploads is counted by.
    pub now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// Takes the project whose bucket was not looked through for the longest time, if that is `every` ago. Whoever gets it
/// is the only one to get it before the same time has passed again.
///
/// # Errors
/// The database's.
pub async fn take_due(conn: &mut SystemConn, every: Duration) -> Result<Option<DueProject>, DatabaseError> {
    let row: Option<DueRow> = sql_query(
        "UPDATE projects SET leftovers_checked_at = now()
         WHERE id = (SELECT id FROM projects WHERE leftovers_checked_at <= now() - make_interval(secs => $1)
                     ORDER BY leftovers_checked_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
         RETURNING id, company_id, now() AS now",
    )
    .bind::<Double, _>(every.as_secs_f64())
    .load(conn.raw())
    .await?
    .pop();
    let Some(row) = row else { return Ok(None) };
    let project = projects::table
        .find(row.id)
        .select(Project::as_select())
        .first(conn.raw())
        .await?;
    Ok(Some(DueProject {
        company_id: CompanyId(row.company_id),
        project,
        now: row.now,
    }))
}

#[derive(QueryableByName)]
struct PrefixRow {
    #[diesel(sql_type = Text)]
    prefix: String,
}

/// What the keys of a project's files begin with, in order: the prefixes of its cycles, and those that its sessions
/// were made with. None of them begins with another. A prefix that no cycle and no session has any more is forgotten.
///
/// # Errors
/// The database's.
pub async fn prefixes(conn: &mut TenantConn, id: ProjectId) -> Result<Vec<String>, DatabaseError> {
    let rows: Vec<PrefixRow> = sql_query(
        "SELECT p.prefix || c.s3_prefix AS prefix FROM projects p JOIN cycles c ON c.project_id = p.id WHERE p.id = $1
         UNION SELECT key_prefix FROM sync_sessions WHERE project_id = $1",
    )
    .bind::<SqlUuid, _>(id.0)
    .load(conn.raw())
    .await?;
    Ok(outermost(rows.into_iter().map(|row| row.prefix).collect()))
}

/// In order, and without those that begin with another.
fn outermost(mut prefixes: Vec<String>) -> Vec<String> {
    prefixes.sort_unstable();
    // What begins with a text comes after it in this order, with nothing else in between.
    prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
    prefixes
}

/// A file whose row refers to an open multipart upload.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The upload.
    pub upload_id: String,
    /// The file's session.
    pub session_id: SessionId,
    /// What that session is at.
    pub session_status: SessionStatus,
    /// The file's number.
    pub number: i64,
    /// Below the source.
    pub path: String,
    /// The object's key.
    pub key: String,
}

#[derive(QueryableByName)]
struct ReferrerRow {
    #[diesel(sql_type = Text)]
    upload_id: String,
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    path: String,
    #[diesel(sql_type = Text)]
    key_prefix: String,
}

impl ReferrerRow {
    fn read(self) -> Result<Referrer, DatabaseError> {
        Ok(Referrer {
            key: format!("{}{}", self.key_prefix, self.path),
            upload_id: self.upload_id,
            session_id: SessionId(self.session_id),
            session_status: self.status.parse()?,
            number: self.number,
            path: self.path,
        })
    }
}

/// The company's files that refer to these uploads.
///
/// # Errors
/// The database's.
pub async fn referrers(conn: &mut TenantConn, upload_ids: &[String]) -> Result<Vec<Referrer>, DatabaseError> {
    let rows: Vec<ReferrerRow> = sql_query(
        "SELECT f.upload_id, f.session_id, s.status, f.number, f.path, s.key_prefix
         FROM file_uploads f JOIN sync_sessions s ON s.id = f.session_id
         WHERE f.upload_id IS NOT NULL AND f.upload_id = ANY($1)",
    )
    .bind::<Array<Text>, _>(upload_ids)
    .load(conn.raw())
    .await?;
    rows.into_iter().map(ReferrerRow::read).collect()
}

/// The files of a project's ended sessions that still refer to an upload: its abort was not confirmed. At most `limit`.
///
/// # Errors
/// The database's.
pub async fn of_ended_sessions(
    conn: &mut TenantConn,
    id: ProjectId,
    limit: i64,
) -> Result<Vec<Referrer>, DatabaseError> {
    let rows: Vec<ReferrerRow> = sql_query(
        "SELECT f.upload_id, f.session_id, s.status, f.number, f.path, s.key_prefix
         FROM sync_sessions s JOIN file_uploads f ON f.session_id = s.id
         WHERE s.project_id = $1 AND s.status NOT IN ('pending', 'in_progress', 'paused') AND f.upload_id IS NOT NULL
         LIMIT $2",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<BigInt, _>(limit)
    .load(conn.raw())
    .await?;
    rows.into_iter().map(ReferrerRow::read).collect()
}

#[derive(QueryableByName)]
struct UploadRow {
    #[diesel(sql_type = Text)]
    upload_id: String,
}

/// Which of these uploads a session that is not finished refers to, of any company: two may share a bucket.
///
/// # Errors
/// The database's.
pub async fn in_use(conn: &mut SystemConn, upload_ids: &[String]) -> Result<Vec<String>, DatabaseError> {
    let rows: Vec<UploadRow> = sql_query(
        "SELECT DISTINCT f.upload_id FROM sync_sessions s JOIN file_uploads f ON f.session_id = s.id
         WHERE s.status IN ('pending', 'in_progress', 'paused') AND f.upload_id IS NOT NULL AND f.upload_id = ANY($1)",
    )
    .bind::<Array<Text>, _>(upload_ids)
    .load(conn.raw())
    .await?;
    Ok(rows.into_iter().map(|row| row.upload_id).collect())
}

/// Forgets uploads that are aborted, whatever their sessions do: whoever would go on with one begins anew.
///
/// # Errors
/// The database's.
pub async fn forget(conn: &mut TenantConn, aborted: &[Referrer]) -> Result<(), DatabaseError> {
    sql_query(
        "UPDATE file_uploads f SET upload_id = NULL, part_size_bytes = NULL
         FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS a(session_id, number, upload_id)
         WHERE f.session_id = a.session_id AND f.number = a.number AND f.upload_id = a.upload_id",
    )
    .bind::<Array<SqlUuid>, _>(aborted.iter().map(|file| file.session_id.0).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(aborted.iter().map(|file| file.number).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        aborted
            .iter()
            .map(|file| file.upload_id.as_str())
            .collect::<Vec<_>>(),
    )
    .execute(conn.raw())
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_below_others_are_left_out() {
        let of = |prefixes: &[&str]| outermost(prefixes.iter().map(ToString::to_string).collect());
        assert_eq!(
            of(&["a/C2/", "a/C1/x/", "a/C1/", "a/C1/", "a/C10/"]),
            ["a/C1/", "a/C10/", "a/C2/"]
        );
        assert_eq!(of(&["C1/", "", "C2/"]), [""]);
        assert!(of(&[]).is_empty());
    }
}
