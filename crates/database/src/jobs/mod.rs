//! The job protocol's half in Postgres: claim, fence, outcomes, the end of a job and of a session.
//!
//! Redis says *there may be work*; what is here says *whose it is*. Every transaction of a worker begins with
//! the fence: its job's row, under its epoch, still running. What an earlier holder writes is so refused
//! ([`JobError::Fenced`]), and with it everything else in that transaction.
//!
//! Locks are taken session before job where a job is *ready* (claim, cancel, retry), and job before session where
//! it is *running* (flush, end): the two never wait for each other in a circle.

mod away;
mod delivered;
mod ending;
mod finishing;
mod scanning;
mod settling;
mod uploading;

use crate::projects::Project;
use crate::schema::companies;
use crate::sessions::Session;
use crate::{DatabaseError, SystemConn, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{ANY_LOCATION, CompanyId, JobId, JobKind, QueuedJob, SessionId, SessionStatus, StopFlag};
use std::time::Duration;
use uuid::Uuid;

pub(crate) use away::forget_outage;
pub use away::{StoreAway, await_store, store_answers};
pub use delivered::{DeliveredFile, are_earlier_forgotten, delivered_files, earlier_sessions};
pub use ending::{Ending, disown, end, fail_session, release};
pub(crate) use ending::{close_ready, end_running, stop_session};
pub(crate) use finishing::recount;
pub use finishing::{
    DoubtfulFile, contradict, doubtful_files, finish_session, open_uploads, paths_of_session, uploads_aborted,
};
pub use scanning::{FoundFile, ObjectMarks, emit_batch, recorded_paths};
pub use settling::{Settled, await_receipt, receipt_missing, settle};
pub(crate) use uploading::fail_suspect;
pub(crate) use uploading::outcomes_statement;
pub use uploading::{FileOutcome, PendingFile, multipart_opened, pending_files, record_outcomes, suspect};

/// Why a worker's write was refused.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The job is no longer this worker's: stop, and send nothing more, not even an abort.
    #[error("the job is no longer this worker's")]
    Fenced,
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<diesel::result::Error> for JobError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

fn finish_job(id: i64, company_id: CompanyId) -> QueuedJob {
    QueuedJob {
        id: JobId(id),
        company_id,
        location: ANY_LOCATION.to_owned(),
        at_head: true,
    }
}

/// A job that is this worker's as long as it renews the lease: the proof that the fence checks.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job.
    pub job_id: JobId,
    /// How often it was claimed, this time included.
    pub epoch: i32,
    /// The tenant.
    pub company_id: CompanyId,
    /// Its session.
    pub session_id: SessionId,
    /// The session's run.
    pub run: i32,
    /// What to do.
    pub kind: JobKind,
    /// The range of file numbers of an upload job.
    pub numbers: Option<(i64, i64)>,
    /// How often it ended with an error that may pass.
    pub errors: i32,
    /// How often its worker vanished.
    pub crashes: i32,
    /// Whether its end makes room for another of its company.
    pub is_limited: bool,
    /// For how long the store had failed the session's jobs when this one was claimed, with nothing delivered between;
    /// `None`: it answered.
    pub away_for: Option<Duration>,
}

/// After so many crashes a job runs alone in its worker, one file at a time, each named first ([`suspect`]): the next
/// crash then tells which file is to blame.
pub const ISOLATE_AFTER_CRASHES: i32 = 2;

impl Claim {
    /// Whether the job is to run alone, one file at a time.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.crashes >= ISOLATE_AFTER_CRASHES
    }
}

/// What became of an attempt to claim a job.
#[derive(Debug)]
pub enum Claiming {
    /// It is this worker's.
    Claimed(Claim),
    /// Its company has as many upload jobs running as it may: put it back, and take the company off its ring.
    Full(QueuedJob),
    /// It is somebody else's, or ended, or not due, or its session is told to stop: drop the id.
    Gone,
}

#[derive(QueryableByName)]
struct Candidate {
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
    #[diesel(sql_type = Text)]
    location: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Bool)]
    is_limited: bool,
    #[diesel(sql_type = Nullable<Double>)]
    away_s: Option<f64>,
}

#[derive(QueryableByName)]
struct Room {
    #[diesel(sql_type = Bool)]
    has_room: bool,
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Text)]
    stop_flag: String,
}

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(sql_type = Integer)]
    epoch: i32,
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = Integer)]
    run: i32,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    first_number: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_number: Option<i64>,
    #[diesel(sql_type = Integer)]
    errors: i32,
    #[diesel(sql_type = Integer)]
    crashes: i32,
}

/// Makes `job_id` this worker's, if it is ready, due, its session is not told to stop, and its company has room.
///
/// # Errors
/// The database's.
pub async fn claim(
    conn: &mut SystemConn,
    job_id: JobId,
    worker_id: &str,
    lease: Duration,
) -> Result<Claiming, DatabaseError> {
    let candidate: Option<Candidate> = sql_query(
        "SELECT j.session_id, j.company_id, j.location, s.status,
                j.kind = 'upload' AND c.max_concurrent_jobs IS NOT NULL AS is_limited,
                extract(epoch FROM now() - o.since)::float8 AS away_s
         FROM jobs j JOIN sync_sessions s ON s.id = j.session_id JOIN companies c ON c.id = j.company_id
              LEFT JOIN store_outages o ON o.session_id = s.id
         WHERE j.id = $1 AND j.state = 'ready' AND j.run_after <= now()",
    )
    .bind::<BigInt, _>(job_id.0)
    .get_result(conn.raw())
    .await
    .optional()?;
    let Some(candidate) = candidate else {
        return Ok(Claiming::Gone);
    };
    // The session's first claim changes its status: it takes the stronger lock at once, for two that share the
    // weaker one and both want the stronger wait for each other.
    let first = candidate.status == SessionStatus::Pending.as_str();
    let strength = if first { "FOR NO KEY UPDATE" } else { "FOR SHARE" };
    let flag: Option<Flag> = sql_query(format!(
        "SELECT stop_flag FROM sync_sessions WHERE id = $1 {strength}"
    ))
    .bind::<SqlUuid, _>(candidate.session_id)
    .get_result(conn.raw())
    .await
    .optional()?;
    let Some(flag) = flag else {
        return Ok(Claiming::Gone);
    };
    if candidate.is_limited && !has_room(conn, candidate.company_id).await? {
        return Ok(Claiming::Full(QueuedJob {
            id: job_id,
            company_id: CompanyId(candidate.company_id),
            location: candidate.location,
            at_head: true,
        }));
    }
    // A stopped session is still finished.
    let claimed: Option<ClaimedRow> = sql_query(
        "UPDATE jobs SET state = 'running', epoch = epoch + 1, worker_id = $2, suspect_file = NULL,
                lease_until = clock_timestamp() + make_interval(secs => $3)
         WHERE id = $1 AND state = 'ready' AND run_after <= now() AND (kind = 'finish' OR $4 = 'run')
         RETURNING epoch, company_id, session_id, run, kind, first_number, last_number, errors, crashes",
    )
    .bind::<BigInt, _>(job_id.0)
    .bind::<Text, _>(worker_id)
    .bind::<Double, _>(lease.as_secs_f64())
    .bind::<Text, _>(&flag.stop_flag)
    .get_result(conn.raw())
    .await
    .optional()?;
    let Some(row) = claimed else {
        return Ok(Claiming::Gone);
    };
    if first {
        sql_query(
            "UPDATE sync_sessions SET status = 'in_progress', started_at = coalesce(started_at, now())
             WHERE id = $1 AND status = 'pending'",
        )
        .bind::<SqlUuid, _>(row.session_id)
        .execute(conn.raw())
        .await?;
    }
    Ok(Claiming::Claimed(Claim {
        job_id,
        epoch: row.epoch,
        company_id: CompanyId(row.company_id),
        session_id: SessionId(row.session_id),
        run: row.run,
        kind: row.kind.parse()?,
        numbers: row.first_number.zip(row.last_number),
        errors: row.errors,
        crashes: row.crashes,
        is_limited: candidate.is_limited,
        away_for: candidate
            .away_s
            .map(|away_s| Duration::try_from_secs_f64(away_s).unwrap_or_default()),
    }))
}

/// Whether a company may run one more upload job. Its row stays locked until the claim is committed, so that two
/// claims cannot both take the last place.
async fn has_room(conn: &mut SystemConn, company_id: Uuid) -> Result<bool, DatabaseError> {
    sql_query("SELECT FROM companies WHERE id = $1 FOR NO KEY UPDATE")
        .bind::<SqlUuid, _>(company_id)
        .execute(conn.raw())
        .await?;
    let room: Room = sql_query(
        "SELECT (SELECT count(*) FROM jobs WHERE company_id = $1 AND state = 'running' AND kind = 'upload')
                < coalesce((SELECT max_concurrent_jobs FROM companies WHERE id = $1), 2147483647) AS has_room",
    )
    .bind::<SqlUuid, _>(company_id)
    .get_result(conn.raw())
    .await?;
    Ok(room.has_room)
}

/// The fence: renews the lease if the job is still this worker's, and tells what its session wants.
///
/// # Errors
/// [`JobError::Fenced`] when it is not.
pub async fn renew(conn: &mut TenantConn, claim: &Claim, lease: Duration) -> Result<StopFlag, JobError> {
    let flag: Option<Flag> = sql_query(
        "WITH mine AS (
             UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => $3)
             WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING session_id)
         SELECT s.stop_flag FROM mine JOIN sync_sessions s ON s.id = mine.session_id",
    )
    .bind::<BigInt, _>(claim.job_id.0)
    .bind::<Integer, _>(claim.epoch)
    .bind::<Double, _>(lease.as_secs_f64())
    .get_result(conn.raw())
    .await
    .optional()?;
    let flag = flag.ok_or(JobError::Fenced)?;
    Ok(flag.stop_flag.parse().map_err(DatabaseError::from)?)
}

/// What a worker needs to know to work on a claimed job.
#[derive(Clone)]
pub struct WorkOrder {
    /// The session as it is now.
    pub session: Session,
    /// Its project, with the sealed credentials.
    pub project: Project,
    /// The company's code, which decides the source roots it may read.
    pub company_code: String,
}

/// The session, project and company of a claimed job.
///
/// # Errors
/// [`DatabaseError::NotFound`] when they were deleted meanwhile.
pub async fn work_order(conn: &mut TenantConn, claim: &Claim) -> Result<WorkOrder, DatabaseError> {
    let session = crate::sessions::get(conn, claim.session_id).await?;
    let project = crate::projects::get(conn, session.project_id).await?;
    let company_code = companies::table
        .find(claim.company_id.0)
        .select(companies::company_code)
        .first(conn.raw())
        .await?;
    Ok(WorkOrder {
        session,
        project,
        company_code,
    })
}

/// A text that Postgres takes, of a length that a page takes.
fn clean(detail: &str) -> String {
    detail
        .chars()
        .filter(|character| *character != '\0')
        .take(1_000)
        .collect()
}
