//! Plans: what dry runs found. A scan job notes what only its walk can tell ([`note_walk`]), and the finish job counts
//! the rest from the session's files and saves the plan ([`save`]), so that it is right however often either began.

use crate::jobs::{Claim, JobError, renew};
use crate::{DatabaseError, TenantConn};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::plan::{Amount, Excluded, NotSent, Requests, SizedFile};
use domain::{OnExisting, Plan, Planned, ProjectId, SessionId, SessionSettings};
use std::time::Duration;

/// How many of the largest files a plan names.
const LARGEST: i64 = 20;
/// How many ended sessions [`achieved`] looks at.
const RECENT: i64 = 20;

/// Notes what the walk of a dry run counted, in place of what an earlier walk did: one that came to its end counted all
/// of it.
///
/// # Errors
/// [`JobError::Fenced`] when the scan is no longer this worker's.
pub async fn note_walk(
    conn: &mut TenantConn,
    claim: &Claim,
    lease: Duration,
    excluded: Excluded,
    list_requests: u64,
) -> Result<(), JobError> {
    renew(conn, claim, lease).await?;
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sql_query(
        "INSERT INTO session_plans (session_id, company_id, run, files_excluded, directories_excluded, list_requests)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (session_id) DO UPDATE SET run = excluded.run, files_excluded = excluded.files_excluded,
            directories_excluded = excluded.directories_excluded, list_requests = excluded.list_requests, plan = NULL",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<SqlUuid, _>(claim.company_id.0)
    .bind::<Integer, _>(claim.run)
    .bind::<BigInt, _>(count(excluded.files))
    .bind::<BigInt, _>(count(excluded.directories))
    .bind::<BigInt, _>(count(list_requests))
    .execute(conn.raw())
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct WalkRow {
    #[diesel(sql_type = BigInt)]
    files_excluded: i64,
    #[diesel(sql_type = BigInt)]
    directories_excluded: i64,
    #[diesel(sql_type = BigInt)]
    list_requests: i64,
}

/// Counts the files of a dry run all of whose files have their outcome, and saves the plan of this run; nothing where
/// no walk of this run was noted. The caller ends the session in the same transaction.
///
/// # Errors
/// The database's.
pub async fn save(
    conn: &mut TenantConn,
    claim: &Claim,
    settings: &SessionSettings,
) -> Result<(), DatabaseError> {
    let walk: Option<WalkRow> = sql_query(
        "SELECT files_excluded, directories_excluded, list_requests FROM session_plans
         WHERE session_id = $1 AND run = $2",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Integer, _>(claim.run)
    .get_result(conn.raw())
    .await
    .optional()?;
    let Some(walk) = walk else { return Ok(()) };
    let mut plan = Plan {
        excluded: Excluded {
            files: unsigned(walk.files_excluded),
            directories: unsigned(walk.directories_excluded),
        },
        requests: Requests {
            list_objects: unsigned(walk.list_requests),
            ..Requests::default()
        },
        ..Plan::default()
    };
    if !add_files(conn, claim.session_id, settings, &mut plan).await? {
        return Ok(());
    }
    add_requests(conn, claim.session_id, settings, &mut plan).await?;
    plan.largest = largest(conn, claim.session_id).await?;
    let plan = serde_json::to_value(&plan)
        .map_err(|error| diesel::result::Error::SerializationError(error.into()))?;
    sql_query("UPDATE session_plans SET plan = $3 WHERE session_id = $1 AND run = $2")
        .bind::<SqlUuid, _>(claim.session_id.0)
        .bind::<Integer, _>(claim.run)
        .bind::<Jsonb, _>(plan)
        .execute(conn.raw())
        .await?;
    Ok(())
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[derive(QueryableByName)]
struct GroupRow {
    #[diesel(sql_type = Nullable<Text>)]
    planned: Option<String>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    error_code: Option<String>,
    #[diesel(sql_type = BigInt)]
    files: i64,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = Array<Text>)]
    example_paths: Vec<String>,
}

/// Counts the files by what would be done with them, or why nothing would; `false`: of some that is not known, because a
/// worker recorded them that knew no plans.
async fn add_files(
    conn: &mut TenantConn,
    id: SessionId,
    settings: &SessionSettings,
    plan: &mut Plan,
) -> Result<bool, DatabaseError> {
    let groups: Vec<GroupRow> = sql_query(
        "WITH groups AS (
             SELECT planned, status, error_code, count(*) AS files, coalesce(sum(size_bytes), 0)::bigint AS size_bytes
             FROM file_uploads WHERE session_id = $1 GROUP BY planned, status, error_code)
         SELECT g.*, CASE WHEN g.planned IS NULL THEN ARRAY(
                    SELECT path FROM file_uploads f
                    WHERE f.session_id = $1 AND f.planned IS NULL AND f.status = g.status
                      AND f.error_code IS NOT DISTINCT FROM g.error_code
                    ORDER BY f.number LIMIT 5) ELSE '{}' END AS example_paths
         FROM groups g ORDER BY files DESC, error_code",
    )
    .bind::<SqlUuid, _>(id.0)
    .load(conn.raw())
    .await?;
    if settings.on_existing != OnExisting::Overwrite {
        plan.overwrite = Some(Amount::default());
    }
    for group in groups {
        let amount = Amount {
            files: unsigned(group.files),
            size_bytes: unsigned(group.size_bytes),
        };
        // A word of a later version has no place in a plan, and keeps no session from its end.
        match (group.planned, group.error_code) {
            (Some(planned), _) => match planned.parse() {
                Err(_) => return Ok(false),
                Ok(Planned::Send) => plan.send = plan.send + amount,
                Ok(Planned::Overwrite) => {
                    plan.send = plan.send + amount;
                    plan.overwrite = Some(amount);
                }
                Ok(Planned::Compare) => plan.compare = amount,
            },
            (None, Some(error_code)) => {
                let Ok(error_code) = error_code.parse() else {
                    return Ok(false);
                };
                plan.add_not_sent(
                    group.status.parse()?,
                    NotSent {
                        error_code,
                        count: amount.files,
                        size_bytes: amount.size_bytes,
                        example_paths: group.example_paths,
                    },
                );
            }
            (None, None) => return Ok(false),
        }
    }
    Ok(true)
}

#[derive(QueryableByName)]
struct SizeRow {
    #[diesel(sql_type = Bool)]
    is_compared: bool,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = BigInt)]
    files: i64,
}

/// Adds the requests that the files take. All that go whole take the same; the others are looked at by size.
async fn add_requests(
    conn: &mut TenantConn,
    id: SessionId,
    settings: &SessionSettings,
    plan: &mut Plan,
) -> Result<(), DatabaseError> {
    let sizes: Vec<SizeRow> = sql_query(
        "SELECT planned = 'compare' AS is_compared, greatest(size_bytes, $2) AS size_bytes, count(*) AS files
         FROM file_uploads WHERE session_id = $1 AND planned IS NOT NULL GROUP BY 1, 2",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<BigInt, _>(i64::try_from(settings.part_size_bytes).unwrap_or(i64::MAX))
    .load(conn.raw())
    .await?;
    for row in sizes {
        let requests = if row.is_compared {
            &mut plan.compare_requests
        } else {
            &mut plan.requests
        };
        requests.add_files(settings, unsigned(row.size_bytes), unsigned(row.files));
    }
    Ok(())
}

#[derive(QueryableByName)]
struct LargestRow {
    #[diesel(sql_type = Text)]
    path: String,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
}

async fn largest(conn: &mut TenantConn, id: SessionId) -> Result<Vec<SizedFile>, DatabaseError> {
    let rows: Vec<LargestRow> = sql_query(
        "SELECT path, size_bytes FROM file_uploads WHERE session_id = $1 AND planned IS NOT NULL
         ORDER BY size_bytes DESC, number LIMIT $2",
    )
    .bind::<SqlUuid, _>(id.0)
    .bind::<BigInt, _>(LARGEST)
    .load(conn.raw())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SizedFile {
            path: row.path,
            size_bytes: unsigned(row.size_bytes),
        })
        .collect())
}

#[derive(QueryableByName)]
struct PlanRow {
    #[diesel(sql_type = Jsonb)]
    plan: serde_json::Value,
}

/// The plan that this run of a session saved, if it did.
///
/// # Errors
/// The database's.
pub async fn get(
    conn: &mut TenantConn,
    session_id: SessionId,
    run: i32,
) -> Result<Option<Plan>, DatabaseError> {
    let row: Option<PlanRow> =
        sql_query("SELECT plan FROM session_plans WHERE session_id = $1 AND run = $2 AND plan IS NOT NULL")
            .bind::<SqlUuid, _>(session_id.0)
            .bind::<Integer, _>(run)
            .get_result(conn.raw())
            .await
            .optional()?;
    let read = |row: PlanRow| serde_json::from_value(row.plan);
    row.map(read)
        .transpose()
        .map_err(|error| diesel::result::Error::DeserializationError(error.into()).into())
}

/// What ended sessions got done.
#[derive(Clone, Copy, Debug, PartialEq, QueryableByName)]
pub struct Achieved {
    /// How many sessions.
    #[diesel(sql_type = BigInt)]
    pub sessions: i64,
    /// Files that they sent.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// The bytes of those.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// How long they took together, in seconds.
    #[diesel(sql_type = Double)]
    pub seconds: f64,
}

/// What the latest ended sessions of a project, or of the whole company, got done. Those that had a limit of bandwidth
/// say nothing of others, nor do those that were retried: their bytes are all runs', their time is the last one's.
///
/// # Errors
/// The database's.
pub async fn achieved(
    conn: &mut TenantConn,
    project_id: Option<ProjectId>,
) -> Result<Achieved, DatabaseError> {
    let company_id = conn.company_id();
    Ok(sql_query(
        "SELECT count(*) AS sessions, coalesce(sum(files_uploaded), 0)::bigint AS files,
                coalesce(sum(bytes_uploaded), 0)::bigint AS bytes,
                coalesce(extract(epoch FROM sum(finished_at - started_at)), 0)::float8 AS seconds
         FROM (SELECT files_uploaded, bytes_uploaded, started_at, finished_at FROM sync_sessions
               WHERE company_id = $1 AND ($2 IS NULL OR project_id = $2) AND run = 1 AND files_uploaded > 0
                 AND status IN ('completed', 'completed_with_errors') AND finished_at > started_at
                 AND settings ->> 'bandwidth_limit_bytes_per_s' IS NULL
               ORDER BY id DESC LIMIT $3) AS recent",
    )
    .bind::<SqlUuid, _>(company_id.0)
    .bind::<Nullable<SqlUuid>, _>(project_id.map(|id| id.0))
    .bind::<BigInt, _>(RECENT)
    .get_result(conn.raw())
    .await?)
}
