//! The store is away: its session's jobs wait, and for how long is kept with the session, so that it does not
//! matter which worker has them next.

use super::ending::{fail_session, give_back};
use super::{Claim, JobError, clean, renew};
use crate::{DatabaseError, TenantConn};
use diesel::QueryableByName;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{QueuedJob, SessionErrorCode, SessionId};
use std::time::Duration;

/// What a job met that could not reach the store.
#[derive(Clone, Debug)]
pub struct StoreAway {
    /// In words.
    pub detail: String,
    /// When the session's jobs are to ask again.
    pub delay: Duration,
    /// For how long the store may be away before the session fails.
    pub patience: Duration,
    /// The job was begun after that: if nothing was delivered since, the session fails.
    pub is_last: bool,
}

#[derive(QueryableByName)]
struct LeftRow {
    #[diesel(sql_type = Double)]
    left_s: f64,
}

/// Gives a running job back until the store may be there again, and lets its session's other jobs wait as long:
/// they would meet the same. The last of them fails the session; then the `finish` job to push is given.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn await_store(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    away: &StoreAway,
) -> Result<Option<QueuedJob>, JobError> {
    renew(conn, claim, lease).await?;
    let running =
        sql_query("SELECT FROM sync_sessions WHERE id = $1 AND stop_flag = 'run' FOR NO KEY UPDATE")
            .bind::<SqlUuid, _>(claim.session_id.0)
            .execute(conn.raw())
            .await?;
    // One that is paused or told to end waits for something else.
    let left_s = if running == 1 {
        note_outage(conn, claim, away).await?
    } else {
        f64::INFINITY
    };
    if away.is_last && left_s <= 0.0 {
        let detail = format!(
            "{} (for {} s the store took nothing; a retry goes on with what is left)",
            away.detail,
            away.patience.as_secs()
        );
        return fail_session(conn, claim, SessionErrorCode::StorageUnreachable, &detail).await;
    }
    // The last attempt comes when the patience ends.
    let delay_s = away.delay.as_secs_f64().min(left_s.max(0.0));
    sql_query(
        "UPDATE jobs SET run_after = now() + make_interval(secs => $3)
         WHERE company_id = $1 AND session_id = $2 AND state = 'ready' AND kind = 'upload' AND run_after <= now()",
    )
    .bind::<SqlUuid, _>(claim.company_id.0)
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Double, _>(delay_s)
    .execute(conn.raw())
    .await?;
    let delay = Duration::try_from_secs_f64(delay_s).unwrap_or(away.delay);
    if give_back(conn.raw(), claim.job_id, claim.epoch, delay, Some(&away.detail)).await? {
        Ok(None)
    } else {
        Err(JobError::Fenced)
    }
}

/// Notes since when the store is away, and tells people. Gives the seconds of patience that are left.
async fn note_outage(conn: &mut TenantConn, claim: &Claim, away: &StoreAway) -> Result<f64, JobError> {
    sql_query("INSERT INTO store_outages (session_id, company_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind::<SqlUuid, _>(claim.session_id.0)
        .bind::<SqlUuid, _>(claim.company_id.0)
        .execute(conn.raw())
        .await?;
    let left: LeftRow = sql_query(
        "UPDATE sync_sessions s SET error_code = $2,
                error_detail = 'the store is asked again until '
                    || to_char((o.since + make_interval(secs => $4)) AT TIME ZONE 'UTC', 'HH24:MI:SS')
                    || ' UTC, then the session fails: ' || $3
         FROM store_outages o WHERE s.id = $1 AND o.session_id = s.id
         RETURNING extract(epoch FROM o.since - now())::float8 + $4 AS left_s",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Text, _>(SessionErrorCode::StorageUnreachable.as_str())
    .bind::<Text, _>(clean(&away.detail))
    .bind::<Double, _>(away.patience.as_secs_f64())
    .get_result(conn.raw())
    .await?;
    Ok(left.left_s)
}

/// The store took something of this job: the session waits for it no more, and what failed before does not count.
/// The caller has renewed the job's lease in the same transaction.
///
/// # Errors
/// The database's.
pub async fn store_answers(conn: &mut TenantConn, claim: &Claim) -> Result<(), JobError> {
    sql_query("UPDATE jobs SET errors = 0 WHERE id = $1 AND errors > 0")
        .bind::<BigInt, _>(claim.job_id.0)
        .execute(conn.raw())
        .await?;
    // The session before the outage, as everybody has it.
    let waited = sql_query(
        "UPDATE sync_sessions SET error_code = NULL, error_detail = NULL
         WHERE id = $1 AND EXISTS (SELECT FROM store_outages WHERE session_id = $1)",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .execute(conn.raw())
    .await?;
    if waited == 1 {
        forget_outage(conn.raw(), claim.session_id).await?;
    }
    Ok(())
}

/// The session waits for its store no more. The caller has locked its row.
pub(crate) async fn forget_outage(conn: &mut AsyncPgConnection, id: SessionId) -> Result<(), DatabaseError> {
    sql_query("DELETE FROM store_outages WHERE session_id = $1")
        .bind::<SqlUuid, _>(id.0)
        .execute(conn)
        .await?;
    Ok(())
}
