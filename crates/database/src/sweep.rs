//! The sweeper's half in Postgres: what was left behind is found and put right. Every worker has a sweeper; an
//! advisory lock lets one work at a time.

use crate::jobs::{self, Ending, JobError};
use crate::{DatabaseError, SystemConn};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::{CompanyId, JobId, QueuedJob, SessionId};
use uuid::Uuid;

/// The lock that one sweeper holds at a time ("sweep" in ASCII).
const LOCK_KEY: i64 = 0x73_7765_6570;

/// A job whose worker vanished so often, and no file is to blame, is given up.
pub const MAX_CRASHES: i32 = 5;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Whether this transaction is the one that sweeps.
///
/// # Errors
/// The database's.
pub async fn lock(conn: &mut SystemConn) -> Result<bool, DatabaseError> {
    try_lock(conn, LOCK_KEY).await
}

/// Whether this transaction is the one that has the advisory lock `key`, until it ends. A transaction that then idles is
/// ended by the server, so that one that hangs does not keep the lock.
pub(crate) async fn try_lock(conn: &mut SystemConn, key: i64) -> Result<bool, DatabaseError> {
    conn.raw()
        .batch_execute("SET LOCAL idle_in_transaction_session_timeout = '5s'")
        .await?;
    let row: Locked = sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
        .bind::<BigInt, _>(key)
        .get_result(conn.raw())
        .await?;
    Ok(row.locked)
}

/// A running job whose lease is over by the database's clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, QueryableByName)]
pub struct Overdue {
    /// The job.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Its epoch.
    #[diesel(sql_type = Integer)]
    pub epoch: i32,
    /// Its lease.
    #[diesel(sql_type = Timestamptz)]
    pub lease_until: DateTime<Utc>,
}

/// The running jobs whose lease is over. One of them has expired only when it is seen unchanged for a whole
/// lease more, during which the database could be reached: its worker had the chance to renew.
///
/// # Errors
/// The database's.
pub async fn overdue(conn: &mut SystemConn) -> Result<Vec<Overdue>, DatabaseError> {
    Ok(sql_query(
        "SELECT id, epoch, lease_until FROM jobs WHERE state = 'running' AND lease_until < now() LIMIT 10000",
    )
    .load(conn.raw())
    .await?)
}

#[derive(QueryableByName)]
struct ExpiredRow {
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = Integer)]
    crashes: i32,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    suspect_file: Option<i64>,
}

/// Takes an overdue job from the worker that vanished with it, if it is still as it was seen: it is ready again
/// and has one crash more. The file that it was sending alone fails instead, for it is to blame; without one the job
/// is given up after [`MAX_CRASHES`]. Gives what is to be pushed because of that.
///
/// # Errors
/// The database's.
pub async fn expire(conn: &mut SystemConn, job: &Overdue) -> Result<Option<QueuedJob>, DatabaseError> {
    let row: Option<ExpiredRow> = sql_query(
        // Whoever has the row locked is alive.
        "UPDATE jobs SET crashes = crashes + 1, last_error = 'its worker ' || worker_id || ' vanished'
         WHERE id = (SELECT id FROM jobs WHERE id = $1 AND epoch = $2 AND lease_until = $3 AND state = 'running'
                     FOR UPDATE SKIP LOCKED)
         RETURNING company_id, session_id, crashes, kind, suspect_file",
    )
    .bind::<BigInt, _>(job.id)
    .bind::<Integer, _>(job.epoch)
    .bind::<Timestamptz, _>(job.lease_until)
    .load(conn.raw())
    .await?
    .pop();
    let Some(row) = row else { return Ok(None) };
    tracing::warn!(job_id = job.id, session_id = %row.session_id, crashes = row.crashes, "a worker vanished");
    if let Some(number) = row.suspect_file {
        tracing::warn!(session_id = %row.session_id, number, "a file makes workers vanish: it fails");
        jobs::fail_suspect(conn.raw(), row.session_id, number, row.crashes).await?;
        sql_query("UPDATE jobs SET suspect_file = NULL, crashes = $2 WHERE id = $1")
            .bind::<BigInt, _>(job.id)
            .bind::<Integer, _>(jobs::ISOLATE_AFTER_CRASHES)
            .execute(conn.raw())
            .await?;
    }
    // A finish job is never given up: nothing else can end the session.
    if row.crashes >= MAX_CRASHES && row.suspect_file.is_none() && row.kind != "finish" {
        return match jobs::end_running(
            conn.raw(),
            JobId(job.id),
            job.epoch,
            Ending::Dead,
            CompanyId(row.company_id),
        )
        .await
        {
            Ok(finish) => Ok(finish),
            Err(JobError::Fenced) => Ok(None),
            Err(JobError::Database(error)) => Err(error),
        };
    }
    sql_query(
        "UPDATE jobs SET state = 'ready', worker_id = NULL, lease_until = NULL, pushed_at = NULL,
                run_after = CASE WHEN (SELECT s.stop_flag FROM sync_sessions s WHERE s.id = jobs.session_id FOR SHARE)
                                      = 'pause' AND kind <> 'finish' THEN 'infinity' ELSE now() END
         WHERE id = $1",
    )
    .bind::<BigInt, _>(job.id)
    .execute(conn.raw())
    .await?;
    Ok(None)
}

#[derive(QueryableByName)]
struct SessionRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Closes the waiting jobs of sessions that are told to end: those that came back after the stop.
///
/// # Errors
/// The database's.
pub async fn close_stopped(conn: &mut SystemConn) -> Result<Vec<QueuedJob>, DatabaseError> {
    let sessions: Vec<SessionRow> = sql_query(
        "SELECT s.id FROM sync_sessions s
         WHERE s.status IN ('pending', 'in_progress', 'paused') AND s.stop_flag IN ('cancel', 'fail')
           AND EXISTS (SELECT FROM jobs j WHERE j.company_id = s.company_id AND j.session_id = s.id
                       AND j.state = 'ready' AND j.kind <> 'finish')
         FOR UPDATE OF s SKIP LOCKED",
    )
    .load(conn.raw())
    .await?;
    let mut finishes = Vec::new();
    for session in sessions {
        finishes.extend(jobs::close_ready(conn.raw(), SessionId(session.id)).await?);
    }
    Ok(finishes)
}

/// Adds the `finish` job of each session that has neither an open job nor one.
///
/// # Errors
/// The database's.
pub async fn add_missing_finishes(conn: &mut SystemConn) -> Result<usize, DatabaseError> {
    Ok(sql_query(
        "INSERT INTO jobs (company_id, session_id, run, location, kind)
         SELECT s.company_id, s.id, s.run, 'any', 'finish' FROM sync_sessions s
         WHERE s.status IN ('pending', 'in_progress', 'paused') AND s.open_jobs = 0 AND s.queued_at IS NOT NULL
           -- ON CONFLICT alone would wait for each finish job that is just being written.
           AND NOT EXISTS (SELECT FROM jobs f WHERE f.session_id = s.id AND f.run = s.run AND f.kind = 'finish')
         ON CONFLICT DO NOTHING",
    )
    .execute(conn.raw())
    .await?)
}

/// How many due jobs wait in one list, by the database.
#[derive(Clone, Debug, QueryableByName)]
pub struct DueCount {
    /// The location.
    #[diesel(sql_type = Text)]
    pub location: String,
    /// The company.
    #[diesel(sql_type = SqlUuid)]
    pub company_id: Uuid,
    /// Jobs.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// Whether the company may run one more.
    #[diesel(sql_type = Bool)]
    pub has_room: bool,
}

/// The due jobs, counted by list.
///
/// # Errors
/// The database's.
pub async fn due_counts(conn: &mut SystemConn) -> Result<Vec<DueCount>, DatabaseError> {
    Ok(sql_query(
        "WITH due AS (
             SELECT location, company_id, count(*) AS count FROM jobs
             WHERE state = 'ready' AND run_after <= now() GROUP BY location, company_id)
         SELECT d.location, d.company_id, d.count,
                c.max_concurrent_jobs IS NULL OR c.max_concurrent_jobs >
                    (SELECT count(*) FROM jobs r WHERE r.company_id = c.id AND r.state = 'running' AND r.kind = 'upload')
                AS has_room
         FROM due d JOIN companies c ON c.id = d.company_id",
    )
    .load(conn.raw())
    .await?)
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// The due jobs of one list, oldest first.
///
/// # Errors
/// The database's.
pub async fn due_jobs(
    conn: &mut SystemConn,
    location: &str,
    company_id: CompanyId,
    limit: i64,
) -> Result<Vec<QueuedJob>, DatabaseError> {
    let rows: Vec<DueRow> = sql_query(
        "SELECT id, kind FROM jobs
         WHERE state = 'ready' AND run_after <= now() AND location = $1 AND company_id = $2 ORDER BY id LIMIT $3",
    )
    .bind::<Text, _>(location)
    .bind::<SqlUuid, _>(company_id.0)
    .bind::<BigInt, _>(limit)
    .load(conn.raw())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| QueuedJob {
            id: JobId(row.id),
            company_id,
            location: location.to_owned(),
            at_head: row.kind == "finish",
        })
        .collect())
}

/// Notes when jobs were pushed, for people who look.
///
/// # Errors
/// The database's.
pub async fn note_pushed(conn: &mut SystemConn, ids: &[JobId]) -> Result<(), DatabaseError> {
    // Who holds a job is left alone: these are locked in no order that others keep.
    sql_query(
        "UPDATE jobs SET pushed_at = now()
         WHERE id IN (SELECT id FROM jobs WHERE id = ANY($1) AND state = 'ready' FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Array<BigInt>, _>(ids.iter().map(|id| id.0).collect::<Vec<_>>())
    .execute(conn.raw())
    .await?;
    Ok(())
}
