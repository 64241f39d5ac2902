//! The end of jobs, and of what waits when a session is stopped.

use super::{Claim, JobError, clean, finish_job, forget_outage};
use crate::{DatabaseError, SystemConn, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{CompanyId, JobId, JobState, QueuedJob, SessionErrorCode, SessionId, StopFlag};
use std::time::Duration;
use uuid::Uuid;

#[derive(QueryableByName)]
struct EndedRow {
    #[diesel(sql_type = Bool)]
    ended: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    finish_id: Option<i64>,
}

/// How a running job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing of it is left to do.
    Done,
    /// A scan that walked the whole source: the session has all its files.
    ScanComplete,
    /// Its session was told to stop.
    Cancelled,
    /// It was given up.
    Dead,
}

/// Ends a running job; the scan or upload job that leaves its session without open jobs adds the `finish` job.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's, or is a finish job that would end undone: that one goes
/// on when its lease runs out.
pub async fn end(
    conn: &mut TenantConn,
    claim: &Claim,
    ending: Ending,
) -> Result<Option<QueuedJob>, JobError> {
    let company_id = claim.company_id;
    end_running(conn.raw(), claim.job_id, claim.epoch, ending, company_id).await
}

pub(crate) async fn end_running(
    conn: &mut AsyncPgConnection,
    job_id: JobId,
    epoch: i32,
    ending: Ending,
    company_id: CompanyId,
) -> Result<Option<QueuedJob>, JobError> {
    let state = match ending {
        Ending::Done | Ending::ScanComplete => JobState::Done,
        Ending::Cancelled => JobState::Cancelled,
        Ending::Dead => JobState::Dead,
    };
    let row: EndedRow = sql_query(
        "WITH ended AS (
             UPDATE jobs SET state = $3, finished_at = now() WHERE id = $1 AND epoch = $2 AND state = 'running'
               -- Nothing but a finish job that is done ends a session.
               AND (kind <> 'finish' OR $3 = 'done')
             RETURNING session_id, kind),
         session AS (
             UPDATE sync_sessions s SET open_jobs = s.open_jobs - 1, scan_complete = s.scan_complete OR $4 FROM ended e
             WHERE s.id = e.session_id AND e.kind <> 'finish' RETURNING s.id, s.company_id, s.run, s.open_jobs),
         finish AS (
             INSERT INTO jobs (company_id, session_id, run, location, kind)
             SELECT company_id, id, run, 'any', 'finish' FROM session WHERE open_jobs = 0
             ON CONFLICT DO NOTHING RETURNING id)
         SELECT EXISTS (SELECT FROM ended) AS ended, (SELECT id FROM finish) AS finish_id",
    )
    .bind::<BigInt, _>(job_id.0)
    .bind::<Integer, _>(epoch)
    .bind::<Text, _>(state.as_str())
    .bind::<Bool, _>(ending == Ending::ScanComplete)
    .get_result(conn)
    .await?;
    if !row.ended {
        return Err(JobError::Fenced);
    }
    Ok(row.finish_id.map(|id| finish_job(id, company_id)))
}

/// Gives a running job back, to be claimed again by anybody after `delay`; parked, where its session is paused (a finish
/// job never is: a cancel would not find it). With `error` it counts as a failed attempt; without (a deploy, a stop) it costs nothing.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn release(
    conn: &mut TenantConn,
    claim: &Claim,
    delay: Duration,
    error: Option<&str>,
) -> Result<(), JobError> {
    if give_back(conn.raw(), claim.job_id, claim.epoch, delay, error).await? {
        Ok(())
    } else {
        Err(JobError::Fenced)
    }
}

#[derive(QueryableByName)]
struct EpochRow {
    #[diesel(sql_type = Integer)]
    epoch: i32,
}

/// Gives back a job whose claim by `worker_id` may have been committed without its answer arriving, so that nobody
/// runs it. It costs no attempt.
///
/// # Errors
/// The database's.
pub async fn disown(conn: &mut SystemConn, job_id: JobId, worker_id: &str) -> Result<bool, DatabaseError> {
    let claimed: Option<EpochRow> =
        sql_query("SELECT epoch FROM jobs WHERE id = $1 AND worker_id = $2 AND state = 'running'")
            .bind::<BigInt, _>(job_id.0)
            .bind::<Text, _>(worker_id)
            .get_result(conn.raw())
            .await
            .optional()?;
    match claimed {
        Some(row) => give_back(conn.raw(), job_id, row.epoch, Duration::ZERO, None).await,
        None => Ok(false),
    }
}

/// Makes a running job ready again, or parked; `false`: it is not running under this epoch any more.
pub(super) async fn give_back(
    conn: &mut AsyncPgConnection,
    job_id: JobId,
    epoch: i32,
    delay: Duration,
    error: Option<&str>,
) -> Result<bool, DatabaseError> {
    let changed = sql_query(
        // The job is locked, then the session: a pause or a resume at the same time is seen, or sees the job.
        "WITH mine AS (
             SELECT id, session_id FROM jobs WHERE id = $1 AND epoch = $2 AND state = 'running' FOR UPDATE),
         session AS (
             SELECT stop_flag FROM sync_sessions WHERE id = (SELECT session_id FROM mine) FOR SHARE)
         UPDATE jobs SET state = 'ready', worker_id = NULL, lease_until = NULL, pushed_at = NULL,
                run_after = CASE WHEN session.stop_flag = 'pause' AND kind <> 'finish'
                                 THEN 'infinity' ELSE now() + make_interval(secs => $3) END,
                errors = errors + CASE WHEN $4 IS NULL THEN 0 ELSE 1 END, last_error = coalesce($4, last_error)
         FROM session WHERE id = $1 AND epoch = $2 AND state = 'running'",
    )
    .bind::<BigInt, _>(job_id.0)
    .bind::<Integer, _>(epoch)
    .bind::<Double, _>(delay.as_secs_f64())
    .bind::<Nullable<Text>, _>(error.map(clean))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Tells a session's jobs to stop and closes those that wait; adds the `finish` job when none runs.
/// The caller holds the session's row, or does so by this very call.
pub(crate) async fn stop_session(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    flag: StopFlag,
) -> Result<Option<QueuedJob>, DatabaseError> {
    sql_query("UPDATE sync_sessions SET stop_flag = $2 WHERE id = $1")
        .bind::<SqlUuid, _>(id.0)
        .bind::<Text, _>(flag.as_str())
        .execute(conn)
        .await?;
    close_ready(conn, id).await
}

#[derive(QueryableByName)]
struct FinishRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
}

/// Closes the ready scan and upload jobs of a session that is told to end.
pub(crate) async fn close_ready(
    conn: &mut AsyncPgConnection,
    id: SessionId,
) -> Result<Option<QueuedJob>, DatabaseError> {
    let finish: Option<FinishRow> = sql_query(
        "WITH closed AS (
             UPDATE jobs SET state = 'cancelled', finished_at = now()
             WHERE session_id = $1 AND state = 'ready' AND kind <> 'finish' RETURNING id),
         session AS (
             UPDATE sync_sessions s SET open_jobs = s.open_jobs - (SELECT count(*) FROM closed)::integer
             WHERE s.id = $1 RETURNING s.id, s.company_id, s.run, s.open_jobs, s.queued_at)
         INSERT INTO jobs (company_id, session_id, run, location, kind)
         SELECT company_id, id, run, 'any', 'finish' FROM session WHERE open_jobs = 0 AND queued_at IS NOT NULL
           -- One that is being written is waited for by ON CONFLICT, while it waits for the session.
           AND NOT EXISTS (SELECT FROM jobs f WHERE f.session_id = session.id AND f.run = session.run AND f.kind = 'finish')
         ON CONFLICT DO NOTHING RETURNING id, company_id",
    )
    .bind::<SqlUuid, _>(id.0)
    .get_result(conn)
    .await
    .optional()?;
    Ok(finish.map(|row| finish_job(row.id, CompanyId(row.company_id))))
}

/// Stops a session that cannot go on, and ends this worker's own job of it. The first cause stays.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn fail_session(
    conn: &mut TenantConn,
    claim: &Claim,
    code: SessionErrorCode,
    detail: &str,
) -> Result<Option<QueuedJob>, JobError> {
    let finish = end(conn, claim, Ending::Cancelled).await?;
    sql_query("UPDATE jobs SET last_error = $2 WHERE id = $1")
        .bind::<BigInt, _>(claim.job_id.0)
        .bind::<Text, _>(clean(&format!("{code}: {detail}")))
        .execute(conn.raw())
        .await?;
    let changed = sql_query(
        "UPDATE sync_sessions SET stop_flag = 'fail', error_code = $2, error_detail = $3
         WHERE id = $1 AND stop_flag IN ('run', 'pause')",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Text, _>(code.as_str())
    .bind::<Text, _>(clean(detail))
    .execute(conn.raw())
    .await?;
    let closed = if changed == 1 {
        forget_outage(conn.raw(), claim.session_id).await?;
        close_ready(conn.raw(), claim.session_id).await?
    } else {
        None
    };
    Ok(finish.or(closed))
}
