//! What a company has waiting and running, by source root: what explains why an upload has not begun.

use crate::{DatabaseError, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::SessionId;
use uuid::Uuid;

/// How many of the sessions that run at a root are named at most; more are cut off.
pub const MAX_NAMED_SESSIONS: usize = 20;

/// What a company has to do.
#[derive(Debug)]
pub struct Workload {
    /// How many of its upload jobs may run at once; `None`: no limit.
    pub max_concurrent_jobs: Option<i32>,
    /// How many do.
    pub running_uploads: i64,
    /// The source roots it has unfinished sessions of, by location.
    pub roots: Vec<RootWorkload>,
}

/// What a company has to do at one source root. A job counts where its session reads, also where any worker may run
/// it.
#[derive(Debug)]
pub struct RootWorkload {
    /// The root's location.
    pub location: String,
    /// Jobs that may begin now.
    pub waiting: i64,
    /// Those of them that send files.
    pub waiting_uploads: i64,
    /// Jobs that are begun again later, after an error that may pass.
    pub delayed: i64,
    /// Jobs of paused sessions.
    pub paused: i64,
    /// Jobs that a worker has.
    pub running: i64,
    /// Files without an outcome, of sessions that are not told to stop.
    pub files_left: i64,
    /// The bytes of those files.
    pub bytes_left: i64,
    /// Whether all that is left was found: no walk of those sessions is under way.
    pub is_all_found: bool,
    /// Those sessions that were begun; one more than [`MAX_NAMED_SESSIONS`] tells that there are more.
    pub sessions: Vec<SessionId>,
}

impl RootWorkload {
    /// Nothing to do at this location.
    #[must_use]
    pub fn idle(location: String) -> Self {
        Self {
            location,
            waiting: 0,
            waiting_uploads: 0,
            delayed: 0,
            paused: 0,
            running: 0,
            files_left: 0,
            bytes_left: 0,
            is_all_found: true,
            sessions: Vec::new(),
        }
    }
}

#[derive(QueryableByName)]
struct Limits {
    #[diesel(sql_type = Nullable<Integer>)]
    max_concurrent_jobs: Option<i32>,
    #[diesel(sql_type = BigInt)]
    running_uploads: i64,
}

#[derive(QueryableByName)]
struct RootRow {
    #[diesel(sql_type = Text)]
    location: String,
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = BigInt)]
    waiting_uploads: i64,
    #[diesel(sql_type = BigInt)]
    delayed: i64,
    #[diesel(sql_type = BigInt)]
    paused: i64,
    #[diesel(sql_type = BigInt)]
    running: i64,
    #[diesel(sql_type = BigInt)]
    files_left: i64,
    #[diesel(sql_type = BigInt)]
    bytes_left: i64,
    #[diesel(sql_type = Bool)]
    is_all_found: bool,
    #[diesel(sql_type = Array<SqlUuid>)]
    sessions: Vec<Uuid>,
}

/// What the company has to do, and how much of it at once.
///
/// # Errors
/// The database's.
pub async fn workload(conn: &mut TenantConn) -> Result<Workload, DatabaseError> {
    let company_id = conn.company_id();
    let limits: Limits = sql_query(
        "SELECT max_concurrent_jobs,
                (SELECT count(*) FROM jobs j
                 WHERE j.company_id = c.id AND j.state = 'running' AND j.kind = 'upload') AS running_uploads
         FROM companies c WHERE c.id = $1",
    )
    .bind::<SqlUuid, _>(company_id.0)
    .get_result(conn.raw())
    .await?;
    let rows: Vec<RootRow> = sql_query(
        "WITH open AS (
             SELECT * FROM sync_sessions
             WHERE company_id = $1 AND status IN ('pending', 'in_progress', 'paused') AND queued_at IS NOT NULL),
         work AS (
             SELECT o.source_root,
                    count(*) FILTER (WHERE j.state = 'ready' AND j.run_after <= now()) AS waiting,
                    count(*) FILTER (WHERE j.state = 'ready' AND j.run_after <= now() AND j.kind = 'upload')
                        AS waiting_uploads,
                    count(*) FILTER (WHERE j.state = 'ready' AND j.run_after > now() AND j.run_after < 'infinity')
                        AS delayed,
                    count(*) FILTER (WHERE j.state = 'ready' AND j.run_after = 'infinity') AS paused,
                    count(*) FILTER (WHERE j.state = 'running') AS running
             FROM open o
             JOIN jobs j ON j.company_id = o.company_id AND j.session_id = o.id AND j.run = o.run
             WHERE j.state IN ('ready', 'running') GROUP BY o.source_root),
         rest AS (
             SELECT source_root,
                    sum(files_total - files_uploaded - files_skipped - files_failed - files_cancelled)::bigint
                        AS files_left,
                    sum(bytes_total - bytes_uploaded - bytes_skipped - bytes_failed)::bigint AS bytes_left,
                    bool_and(scan_complete) AS is_all_found,
                    array_agg(id ORDER BY id) FILTER (WHERE status = 'in_progress') AS sessions
             FROM open WHERE stop_flag = 'run' GROUP BY source_root)
         SELECT source_root AS location, coalesce(waiting, 0) AS waiting, coalesce(waiting_uploads, 0) AS waiting_uploads,
                coalesce(delayed, 0) AS delayed, coalesce(paused, 0) AS paused, coalesce(running, 0) AS running,
                coalesce(files_left, 0) AS files_left, coalesce(bytes_left, 0) AS bytes_left,
                coalesce(is_all_found, true) AS is_all_found, coalesce(sessions[1:$2], '{}') AS sessions
         FROM work FULL JOIN rest USING (source_root) ORDER BY source_root",
    )
    .bind::<SqlUuid, _>(company_id.0)
    .bind::<Integer, _>(i32::try_from(MAX_NAMED_SESSIONS + 1).unwrap_or(i32::MAX))
    .load(conn.raw())
    .await?;
    Ok(Workload {
        max_concurrent_jobs: limits.max_concurrent_jobs,
        running_uploads: limits.running_uploads,
        roots: rows.into_iter().map(RootWorkload::from).collect(),
    })
}

impl From<RootRow> for RootWorkload {
    fn from(row: RootRow) -> Self {
        Self {
            location: row.location,
            waiting: row.waiting,
            waiting_uploads: row.waiting_uploads,
            delayed: row.delayed,
            paused: row.paused,
            running: row.running,
            files_left: row.files_left,
            bytes_left: row.bytes_left,
            is_all_found: row.is_all_found,
            sessions: row.sessions.into_iter().map(SessionId).collect(),
        }
    }
}
