//! Making a session, and handing its scan to the workers.

use super::{Moved, SessionError, get};
use crate::{DatabaseError, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Bool, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{CompanyId, CycleId, JobId, QueuedJob, SessionId, SessionSettings, UserId};
use uuid::Uuid;

/// A session to be made.
pub struct NewSession {
    /// Its cycle; decides project and company.
    pub cycle_id: CycleId,
    /// Who makes it.
    pub user_id: UserId,
    /// The location of its source root.
    pub source_root: String,
    /// Below the root.
    pub source_path: String,
    /// Checked settings.
    pub settings: SessionSettings,
    /// The session it is made from.
    pub repeats: Option<SessionId>,
    /// The key of the request, and a hash of its body.
    pub idempotency: Option<(String, Vec<u8>)>,
    /// Whether its scan is queued at once.
    pub start: bool,
}

#[derive(QueryableByName)]
struct CycleTarget {
    #[diesel(sql_type = SqlUuid)]
    project_id: Uuid,
    #[diesel(sql_type = Text)]
    prefix: String,
    #[diesel(sql_type = Text)]
    cycle_status: String,
    #[diesel(sql_type = Bool)]
    project_is_active: bool,
}

#[derive(QueryableByName)]
struct FoundId {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Makes a session, with its scan job unless it is to be started later.
///
/// # Errors
/// [`SessionError::NotFound`] for an unknown cycle, and what stands against it.
pub async fn create(conn: &mut TenantConn, new: NewSession) -> Result<Moved, SessionError> {
    if let Some(replay) = find_replay(conn, &new).await? {
        return Ok(replay);
    }
    // The cycle's lock makes two of its sessions see each other; the project's keeps its bucket, and itself, in place.
    let target: CycleTarget = sql_query(
        "SELECT c.project_id, p.prefix || c.s3_prefix AS prefix, c.status AS cycle_status, p.is_active AS project_is_active
         FROM cycles c JOIN projects p ON p.id = c.project_id WHERE c.id = $1 FOR NO KEY UPDATE OF c FOR SHARE OF p",
    )
    .bind::<SqlUuid, _>(new.cycle_id.0)
    .get_result(conn.raw())
    .await?;
    if !target.project_is_active {
        return Err(SessionError::ProjectInactive);
    }
    if target.cycle_status == "completed" {
        return Err(SessionError::CycleCompleted);
    }
    let key_prefix = format!("{}{}", target.prefix, new.settings.target_prefix);
    if !new.settings.dry_run {
        refuse_overlap(conn, new.cycle_id, &key_prefix, None).await?;
    }
    let id = SessionId::new();
    let settings = serde_json::to_value(&new.settings).map_err(|error| {
        SessionError::Database(DatabaseError::Query(diesel::result::Error::SerializationError(
            error.into(),
        )))
    })?;
    let (key, hash) = new.idempotency.unzip();
    sql_query(
        "INSERT INTO sync_sessions (id, company_id, project_id, cycle_id, user_id, source_root, source_path, settings,
                                    key_prefix, repeats, idempotency_key, idempotency_hash)
         VALUES ($1, current_company(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<SqlUuid, _>(target.project_id)
    .bind::<SqlUuid, _>(new.cycle_id.0)
    .bind::<SqlUuid, _>(new.user_id.0)
    .bind::<Text, _>(new.source_root)
    .bind::<Text, _>(new.source_path)
    .bind::<Jsonb, _>(settings)
    .bind::<Text, _>(key_prefix)
    .bind::<Nullable<SqlUuid>, _>(new.repeats.map(|id| id.0))
    .bind::<Nullable<Text>, _>(key)
    .bind::<Nullable<Binary>, _>(hash)
    .execute(conn.raw())
    .await?;
    sql_query(
        "UPDATE cycles SET status = 'in_progress', updated_at = now() WHERE id = $1 AND status = 'pending'",
    )
    .bind::<SqlUuid, _>(new.cycle_id.0)
    .execute(conn.raw())
    .await?;
    let jobs = if new.start {
        vec![queue_scan(conn, id).await?]
    } else {
        Vec::new()
    };
    Ok(Moved {
        session: get(conn, id).await?,
        jobs,
        is_replay: false,
    })
}

#[derive(QueryableByName)]
struct ReplayRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Binary>)]
    hash: Option<Vec<u8>>,
}

async fn find_replay(conn: &mut TenantConn, new: &NewSession) -> Result<Option<Moved>, SessionError> {
    let Some((key, hash)) = &new.idempotency else {
        return Ok(None);
    };
    let found: Option<ReplayRow> = sql_query(
        "SELECT id, idempotency_hash AS hash FROM sync_sessions WHERE user_id = $1 AND idempotency_key = $2",
    )
    .bind::<SqlUuid, _>(new.user_id.0)
    .bind::<Text, _>(key)
    .get_result(conn.raw())
    .await
    .optional()?;
    match found {
        None => Ok(None),
        Some(row) if row.hash.as_ref() == Some(hash) => Ok(Some(Moved {
            session: get(conn, SessionId(row.id)).await?,
            jobs: Vec::new(),
            is_replay: true,
        })),
        Some(_) => Err(SessionError::IdempotencyKeyReused),
    }
}

/// Fails when another unfinished session of the cycle writes where `key_prefix` writes.
pub(super) async fn refuse_overlap(
    conn: &mut TenantConn,
    cycle_id: CycleId,
    key_prefix: &str,
    but: Option<SessionId>,
) -> Result<(), SessionError> {
    let other: Option<FoundId> = sql_query(
        "SELECT id FROM sync_sessions
         WHERE cycle_id = $1 AND status IN ('pending', 'in_progress', 'paused') AND id IS DISTINCT FROM $3
           AND NOT coalesce((settings ->> 'dry_run')::boolean, false)
           AND (starts_with(key_prefix, $2) OR starts_with($2, key_prefix))
         LIMIT 1",
    )
    .bind::<SqlUuid, _>(cycle_id.0)
    .bind::<Text, _>(key_prefix)
    .bind::<Nullable<SqlUuid>, _>(but.map(|id| id.0))
    .get_result(conn.raw())
    .await
    .optional()?;
    other.map_or(Ok(()), |other| {
        Err(SessionError::CycleBusy {
            other: SessionId(other.id),
        })
    })
}

#[derive(QueryableByName)]
pub(super) struct NewJob {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = SqlUuid)]
    company_id: Uuid,
    #[diesel(sql_type = Text)]
    location: String,
}

impl From<NewJob> for QueuedJob {
    fn from(job: NewJob) -> Self {
        Self {
            id: JobId(job.id),
            company_id: CompanyId(job.company_id),
            location: job.location,
            at_head: false,
        }
    }
}

/// Adds the scan job of the session's present run and hands the session to the workers.
pub(super) async fn queue_scan(conn: &mut TenantConn, id: SessionId) -> Result<QueuedJob, SessionError> {
    let job: NewJob = sql_query(
        "WITH session AS (
             UPDATE sync_sessions SET open_jobs = open_jobs + 1, queued_at = now(), scan_complete = false
             WHERE id = $1 RETURNING id, company_id, run, source_root)
         INSERT INTO jobs (company_id, session_id, run, location, kind)
         SELECT company_id, id, run, source_root, 'scan' FROM session RETURNING id, company_id, location",
    )
    .bind::<SqlUuid, _>(id.0)
    .get_result(conn.raw())
    .await?;
    Ok(job.into())
}
