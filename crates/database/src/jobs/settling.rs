//! Before the end of a session that has a receipt: every file has its outcome, and how the session ends is decided.

use super::finishing::{close_files, recount};
use super::{Claim, JobError, clean, renew};
use crate::sessions::Session;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Double, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{SessionErrorCode, SessionStatus, StopFlag};
use std::time::Duration;

/// A session all of whose files have their outcome, and whose receipt is due.
#[derive(Clone, Debug)]
pub enum Settled {
    /// Nothing was begun yet; the session as it will end, and when its last file had its outcome.
    Now(Box<Session>, DateTime<Utc>),
    /// The receipt was begun earlier.
    Before {
        /// Its header, in its canonical form.
        header: String,
        /// How long ago that was.
        age: Duration,
        /// Whether somebody wants the session to end now.
        is_cancelled: bool,
    },
}

/// Gives every file of the session its outcome and counts them anew, where the session comes to `completed` or
/// `completed_with_errors` and has a receipt to write; `None`: it ends otherwise, or was a dry run.
///
/// Once a receipt is begun, the session ends as it says; what was asked for later (a cancellation) comes too late.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn settle(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
) -> Result<Option<Settled>, JobError> {
    conn.allow_long_statements().await?;
    let flag = renew(conn, claim, lease).await?;
    if let Some(begun) = begun_receipt(conn, claim).await? {
        let age = Duration::try_from_secs_f64(begun.age_s).unwrap_or_default();
        return Ok(Some(Settled::Before {
            header: begun.header,
            age,
            is_cancelled: flag == StopFlag::Cancel,
        }));
    }
    if matches!(flag, StopFlag::Cancel | StopFlag::Fail) {
        return Ok(None);
    }
    let session = crate::sessions::get(conn, claim.session_id).await?;
    if session.settings.dry_run || !session.scan_complete {
        return Ok(None);
    }
    close_files(conn, claim.session_id, flag).await?;
    // This locks the session: whoever wants to cancel it waits until the receipt is begun.
    recount(conn.raw(), claim.session_id).await?;
    let mut session = crate::sessions::get(conn, claim.session_id).await?;
    if matches!(session.stop_flag, StopFlag::Cancel | StopFlag::Fail) {
        return Ok(None);
    }
    session.status = if session.files.failed + session.files.cancelled > 0 {
        SessionStatus::CompletedWithErrors
    } else {
        SessionStatus::Completed
    };
    let now: NowRow = sql_query("SELECT now() AS now").get_result(conn.raw()).await?;
    Ok(Some(Settled::Now(Box::new(session), now.now)))
}

#[derive(QueryableByName)]
struct NowRow {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
pub(super) struct BegunRow {
    #[diesel(sql_type = Text)]
    pub(super) status: String,
    #[diesel(sql_type = Text)]
    header: String,
    #[diesel(sql_type = Double)]
    age_s: f64,
}

/// The receipt of this very run that was begun.
pub(super) async fn begun_receipt(
    conn: &mut TenantConn,
    claim: &Claim,
) -> Result<Option<BegunRow>, DatabaseError> {
    Ok(sql_query(
        "SELECT status, header, extract(epoch FROM now() - begun_at)::float8 AS age_s FROM receipts
         WHERE session_id = $1 AND run = $2",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Integer, _>(claim.run)
    .get_result(conn.raw())
    .await
    .optional()?)
}

/// The receipt waits for the store: gives the finish job back until `delay` is over, and says so to those who watch.
///
/// # Errors
/// [`JobError::Fenced`] when the job is no longer this worker's.
pub async fn await_receipt(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    delay: Duration,
    detail: &str,
) -> Result<(), JobError> {
    renew(conn, claim, lease).await?;
    sql_query("UPDATE sync_sessions SET error_code = $2, error_detail = $3 WHERE id = $1")
        .bind::<SqlUuid, _>(claim.session_id.0)
        .bind::<Text, _>(SessionErrorCode::StorageUnreachable.as_str())
        .bind::<Text, _>(clean(detail))
        .execute(conn.raw())
        .await?;
    super::release(conn, claim, delay, Some(detail)).await
}

/// Says of a session that has just ended that its receipt is not in the bucket, or that one is which does not hold any
/// more, and why. What it failed with is still told first.
///
/// # Errors
/// The database's.
pub async fn receipt_missing(
    conn: &mut TenantConn,
    claim: &Claim,
    detail: &str,
) -> Result<(), DatabaseError> {
    sql_query(
        "UPDATE sync_sessions SET error_code = coalesce(error_code, $2), error_detail = concat_ws('; ', error_detail, $3)
         WHERE id = $1",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Text, _>(SessionErrorCode::ReceiptMissing.as_str())
    .bind::<Text, _>(clean(detail))
    .execute(conn.raw())
    .await?;
    Ok(())
}
