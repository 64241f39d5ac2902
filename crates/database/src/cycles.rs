//! Cycles: the delivery rounds of a project.

use crate::projects::{self, Sessions, UNFINISHED};
use crate::schema::{cycles, sync_sessions};
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{CycleId, CycleStatus, ProjectId};
use uuid::Uuid;

/// A delivery round.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// Its id.
    pub id: CycleId,
    /// The project.
    pub project_id: ProjectId,
    /// 1, 2, 3 …; unique in the project.
    pub cycle_number: i32,
    /// For people; see [`default_name`].
    pub cycle_name: String,
    /// Follows the project's prefix in every key.
    pub s3_prefix: String,
    /// For people.
    pub description: String,
    /// Where it stands.
    pub status: CycleStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was declared complete.
    pub completed_at: Option<DateTime<Utc>>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = cycles, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: Uuid,
    project_id: Uuid,
    cycle_number: i32,
    cycle_name: String,
    s3_prefix: String,
    description: String,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Cycle {
    type Error = DatabaseError;

    fn try_from(row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: CycleId(row.id),
            project_id: ProjectId(row.project_id),
            cycle_number: row.cycle_number,
            cycle_name: row.cycle_name,
            s3_prefix: row.s3_prefix,
            description: row.description,
            status: row.status.parse()?,
            created_at: row.created_at,
            updated_at: row.updated_at,
            completed_at: row.completed_at,
        })
    }
}

/// A cycle to be made.
#[derive(Debug)]
pub struct NewCycle {
    /// The project.
    pub project_id: ProjectId,
    /// `None`: the [`next_number`].
    pub cycle_number: Option<i32>,
    /// `None`: the [`default_name`].
    pub cycle_name: Option<String>,
    /// `None`: the cycle's name and a slash.
    pub s3_prefix: Option<String>,
    /// For people.
    pub description: String,
}

/// What to change of a cycle: `None` leaves a thing as it is.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = cycles)]
#[allow(missing_docs, reason = "the fields of Cycle")]
pub struct CycleChange {
    pub cycle_name: Option<String>,
    pub s3_prefix: Option<String>,
    pub description: Option<String>,
}

/// The name of a cycle that was given none: `C{cycle_number}`.
#[must_use]
pub fn default_name(cycle_number: i32) -> String {
    format!("C{cycle_number}")
}

/// The prefix of a cycle that was given none: `{cycle_name}/`.
#[must_use]
pub fn default_prefix(cycle_name: &str) -> String {
    format!("{cycle_name}/")
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By number.
    Number,
    /// By making, which is by id.
    Created,
}

/// The last cycle of the page before.
#[derive(Clone, Copy, Debug)]
pub enum After {
    /// In [`Order::Number`].
    Number(i32),
    /// In [`Order::Created`].
    Created(CycleId),
}

/// One more than the highest number of a project's cycles. The project stays locked until the transaction ends, so
/// that nobody else gets the same.
///
/// # Errors
/// [`DatabaseError::NotFound`] for an unknown project.
pub async fn next_number(conn: &mut TenantConn, project_id: ProjectId) -> Result<i32, DatabaseError> {
    let project = projects::lock(conn, project_id).await?;
    let highest: Option<i32> = cycles::table
        .filter(cycles::project_id.eq(project.id.0))
        .select(diesel::dsl::max(cycles::cycle_number))
        .first(conn.raw())
        .await?;
    Ok(highest.unwrap_or(0).saturating_add(1))
}

/// Makes a cycle.
///
/// # Errors
/// [`DatabaseError::NotFound`] for an unknown project, [`DatabaseError::Conflict`] with
/// `cycles_project_id_cycle_number_key`.
pub async fn create(conn: &mut TenantConn, new: NewCycle) -> Result<Cycle, DatabaseError> {
    let project = projects::lock(conn, new.project_id).await?;
    let cycle_number = match new.cycle_number {
        Some(number) => number,
        None => next_number(conn, project.id).await?,
    };
    let cycle_name = new.cycle_name.unwrap_or_else(|| default_name(cycle_number));
    let s3_prefix = new.s3_prefix.unwrap_or_else(|| default_prefix(&cycle_name));
    let company_id = conn.company_id().0;
    let row: Row = diesel::insert_into(cycles::table)
        .values((
            cycles::id.eq(CycleId::new().0),
            cycles::company_id.eq(company_id),
            cycles::project_id.eq(project.id.0),
            cycles::cycle_number.eq(cycle_number),
            cycles::cycle_name.eq(cycle_name),
            cycles::s3_prefix.eq(s3_prefix),
            cycles::description.eq(new.description),
        ))
        .returning(Row::as_returning())
        .get_result(conn.raw())
        .await?;
    row.try_into()
}

/// One cycle.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn get(conn: &mut TenantConn, id: CycleId) -> Result<Cycle, DatabaseError> {
    let row: Row = cycles::table
        .find(id.0)
        .select(Row::as_select())
        .first(conn.raw())
        .await?;
    row.try_into()
}

/// As [`get`]; the row stays locked until the transaction ends, so that no session is made meanwhile.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn lock(conn: &mut TenantConn, id: CycleId) -> Result<Cycle, DatabaseError> {
    let row: Row = cycles::table
        .find(id.0)
        .select(Row::as_select())
        .for_update()
        .first(conn.raw())
        .await?;
    row.try_into()
}

/// At most `limit` cycles of a project.
///
/// # Errors
/// When the query fails; an unknown project has none.
pub async fn list(
    conn: &mut TenantConn,
    project_id: ProjectId,
    status: Option<CycleStatus>,
    (order, descending): (Order, bool),
    after: Option<After>,
    limit: i64,
) -> Result<Vec<Cycle>, DatabaseError> {
    let mut query = cycles::table
        .filter(cycles::project_id.eq(project_id.0))
        .select(Row::as_select())
        .limit(limit)
        .into_boxed();
    if let Some(status) = status {
        query = query.filter(cycles::status.eq(status.as_str()));
    }
    query = match (after, descending) {
        (Some(After::Number(number)), false) => query.filter(cycles::cycle_number.gt(number)),
        (Some(After::Number(number)), true) => query.filter(cycles::cycle_number.lt(number)),
        (Some(After::Created(id)), false) => query.filter(cycles::id.gt(id.0)),
        (Some(After::Created(id)), true) => query.filter(cycles::id.lt(id.0)),
        (None, _) => query,
    };
    query = match (order, descending) {
        (Order::Number, false) => query.order(cycles::cycle_number.asc()),
        (Order::Number, true) => query.order(cycles::cycle_number.desc()),
        (Order::Created, false) => query.order(cycles::id.asc()),
        (Order::Created, true) => query.order(cycles::id.desc()),
    };
    query
        .load(conn.raw())
        .await?
        .into_iter()
        .map(Cycle::try_from)
        .collect()
}

/// Changes a cycle.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn update(conn: &mut TenantConn, id: CycleId, change: CycleChange) -> Result<Cycle, DatabaseError> {
    let row: Row = diesel::update(cycles::table.find(id.0))
        .set((change, cycles::updated_at.eq(diesel::dsl::now)))
        .returning(Row::as_returning())
        .get_result(conn.raw())
        .await?;
    row.try_into()
}

/// Moves a cycle to another status.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn set_status(
    conn: &mut TenantConn,
    id: CycleId,
    status: CycleStatus,
) -> Result<Cycle, DatabaseError> {
    let completed_at = (status == CycleStatus::Completed).then(Utc::now);
    let row: Row = diesel::update(cycles::table.find(id.0))
        .set((
            cycles::status.eq(status.as_str()),
            cycles::completed_at.eq(completed_at),
            cycles::updated_at.eq(diesel::dsl::now),
        ))
        .returning(Row::as_returning())
        .get_result(conn.raw())
        .await?;
    row.try_into()
}

/// Deletes a cycle with its sessions and files. What was uploaded stays in the bucket.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn delete(conn: &mut TenantConn, id: CycleId) -> Result<(), DatabaseError> {
    match diesel::delete(cycles::table.find(id.0))
        .execute(conn.raw())
        .await?
    {
        0 => Err(DatabaseError::NotFound),
        _ => Ok(()),
    }
}

/// Whether a cycle has sessions.
///
/// # Errors
/// When the query fails.
pub async fn sessions_of(conn: &mut TenantConn, id: CycleId) -> Result<Sessions, DatabaseError> {
    let all = sync_sessions::table.filter(sync_sessions::cycle_id.eq(id.0));
    let (unfinished, any): (bool, bool) = diesel::select((
        diesel::dsl::exists(all.filter(sync_sessions::status.eq_any(UNFINISHED))),
        diesel::dsl::exists(all),
    ))
    .get_result(conn.raw())
    .await?;
    Ok(Sessions::of(unfinished, any))
}
