//! Projects: where deliveries go.

use crate::accounts::lower;
use crate::schema::{projects, sync_sessions};
use crate::sessions::like_pattern;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::ProjectId;
use uuid::Uuid;

/// A delivery target.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = projects, check_for_backend(diesel::pg::Pg))]
pub struct Project {
    /// Its id.
    #[diesel(deserialize_as = Uuid)]
    pub id: ProjectId,
    /// Unique in the company, whatever the case.
    pub name: String,
    /// For people.
    pub description: String,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The store, where it is not the installation's default.
    pub endpoint_url: Option<String>,
    /// What every key begins with; used verbatim.
    pub prefix: String,
    /// A profile of the worker's AWS configuration.
    pub aws_profile: Option<String>,
    /// Sealed; `None`: the worker's own credentials.
    pub credentials_sealed: Option<Vec<u8>>,
    /// S3's storage class for what is uploaded.
    pub storage_class: Option<String>,
    /// Who in the company sees it.
    pub visibility: String,
    /// Whether sessions may be made.
    pub is_active: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A project to be made.
#[derive(Insertable)]
#[diesel(table_name = projects)]
#[allow(missing_docs, reason = "the fields of Project")]
pub struct NewProject {
    pub name: String,
    pub description: String,
    pub bucket: String,
    pub region: String,
    pub endpoint_url: Option<String>,
    pub prefix: String,
    pub aws_profile: Option<String>,
    pub credentials_sealed: Option<Vec<u8>>,
    pub storage_class: Option<String>,
    pub is_active: bool,
}

/// What to change of a project: `None` leaves a thing as it is, `Some(None)` clears it.
#[derive(Default, AsChangeset)]
#[diesel(table_name = projects)]
#[allow(missing_docs, reason = "the fields of Project")]
pub struct ProjectChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub bucket: Option<String>,
    pub region: Option<String>,
    pub endpoint_url: Option<Option<String>>,
    pub prefix: Option<String>,
    pub aws_profile: Option<Option<String>>,
    pub credentials_sealed: Option<Option<Vec<u8>>>,
    pub storage_class: Option<Option<String>>,
    pub is_active: Option<bool>,
}

/// The order of a list, each with the cursor to go on after.
#[derive(Clone, Debug)]
pub enum Order {
    /// By making, which is by id.
    Created {
        /// Newest first.
        descending: bool,
        /// The last one seen.
        after: Option<ProjectId>,
    },
    /// By name, whatever the case.
    Name {
        /// From Z to A.
        descending: bool,
        /// The name of the last one seen.
        after: Option<String>,
    },
}

/// Which projects to list.
#[derive(Debug, Default)]
pub struct Filter {
    /// A text in name, description or bucket.
    pub q: Option<String>,
    /// Active ones, or the others.
    pub is_active: Option<bool>,
}

/// Makes a project. Its id is chosen by the caller, because its credentials are sealed to it.
///
/// # Errors
/// [`DatabaseError::Conflict`] with `projects_name_key`.
pub async fn create(conn: &mut TenantConn, id: ProjectId, new: NewProject) -> Result<Project, DatabaseError> {
    let company_id = conn.company_id().0;
    Ok(diesel::insert_into(projects::table)
        .values((projects::id.eq(id.0), projects::company_id.eq(company_id), new))
        .returning(Project::as_returning())
        .get_result(conn.raw())
        .await?)
}

/// One project.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn get(conn: &mut TenantConn, id: ProjectId) -> Result<Project, DatabaseError> {
    Ok(projects::table
        .find(id.0)
        .select(Project::as_select())
        .first(conn.raw())
        .await?)
}

/// As [`get`]; the row stays locked until the transaction ends.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn lock(conn: &mut TenantConn, id: ProjectId) -> Result<Project, DatabaseError> {
    Ok(projects::table
        .find(id.0)
        .select(Project::as_select())
        .for_update()
        .first(conn.raw())
        .await?)
}

/// At most `limit` projects.
///
/// # Errors
/// When the query fails.
pub async fn list(
    conn: &mut TenantConn,
    filter: &Filter,
    order: Order,
    limit: i64,
) -> Result<Vec<Project>, DatabaseError> {
    let mut query = projects::table
        .select(Project::as_select())
        .limit(limit)
        .into_boxed();
    if let Some(is_active) = filter.is_active {
        query = query.filter(projects::is_active.eq(is_active));
    }
    if let Some(q) = &filter.q {
        let pattern = like_pattern(q);
        query = query.filter(
            projects::name
                .ilike(pattern.clone())
                .or(projects::description.ilike(pattern.clone()))
                .or(projects::bucket.ilike(pattern)),
        );
    }
    query = match order {
        Order::Created {
            descending: false,
            after,
        } => {
            let query = query.order(projects::id.asc());
            if let Some(id) = after {
                query.filter(projects::id.gt(id.0))
            } else {
                query
            }
        }
        Order::Created {
            descending: true,
            after,
        } => {
            let query = query.order(projects::id.desc());
            if let Some(id) = after {
                query.filter(projects::id.lt(id.0))
            } else {
                query
            }
        }
        Order::Name {
            descending: false,
            after,
        } => {
            let query = query.order(lower(projects::name).asc());
            if let Some(name) = after {
                query.filter(lower(projects::name).gt(lower(name)))
            } else {
                query
            }
        }
        Order::Name {
            descending: true,
            after,
        } => {
            let query = query.order(lower(projects::name).desc());
            if let Some(name) = after {
                query.filter(lower(projects::name).lt(lower(name)))
            } else {
                query
            }
        }
    };
    Ok(query.load(conn.raw()).await?)
}

/// Changes a project.
///
/// # Errors
/// [`DatabaseError::NotFound`], or [`DatabaseError::Conflict`] with `projects_name_key`.
pub async fn update(
    conn: &mut TenantConn,
    id: ProjectId,
    change: ProjectChange,
) -> Result<Project, DatabaseError> {
    Ok(diesel::update(projects::table.find(id.0))
        .set((change, projects::updated_at.eq(diesel::dsl::now)))
        .returning(Project::as_returning())
        .get_result(conn.raw())
        .await?)
}

/// Deletes a project with its cycles, sessions and files. What was uploaded stays in the bucket.
///
/// # Errors
/// [`DatabaseError::NotFound`] when it is not in this company.
pub async fn delete(conn: &mut TenantConn, id: ProjectId) -> Result<(), DatabaseError> {
    match diesel::delete(projects::table.find(id.0))
        .execute(conn.raw())
        .await?
    {
        0 => Err(DatabaseError::NotFound),
        _ => Ok(()),
    }
}

/// Whether there are sessions below a project or cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// None.
    None,
    /// Some, all of them ended.
    Ended,
    /// At least one that is not ended.
    Unfinished,
}

impl Sessions {
    pub(crate) fn of(unfinished: bool, any: bool) -> Self {
        match (unfinished, any) {
            (true, _) => Self::Unfinished,
            (false, true) => Self::Ended,
            (false, false) => Self::None,
        }
    }
}

pub(crate) const UNFINISHED: [&str; 3] = ["pending", "in_progress", "paused"];

/// Whether a project has sessions.
///
/// # Errors
/// When the query fails.
pub async fn sessions_of(conn: &mut TenantConn, id: ProjectId) -> Result<Sessions, DatabaseError> {
    let all = sync_sessions::table.filter(sync_sessions::project_id.eq(id.0));
    let (unfinished, any): (bool, bool) = diesel::select((
        diesel::dsl::exists(all.filter(sync_sessions::status.eq_any(UNFINISHED))),
        diesel::dsl::exists(all),
    ))
    .get_result(conn.raw())
    .await?;
    Ok(Sessions::of(unfinished, any))
}
