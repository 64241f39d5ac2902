//! Companies: the tenants themselves. The platform admin manages them across scopes.

use crate::schema::companies;
use crate::{DatabaseError, SystemConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::CompanyId;
use uuid::Uuid;

/// A tenant.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = companies, check_for_backend(diesel::pg::Pg))]
pub struct Company {
    /// Its id.
    #[diesel(deserialize_as = Uuid)]
    pub id: CompanyId,
    /// What people call it.
    pub company_name: String,
    /// Unique, in capitals; source roots name it.
    pub company_code: String,
    /// Whom to write to.
    pub contact_email: Option<String>,
    /// Whether its people may sign in.
    pub is_active: bool,
    /// How many of its upload jobs run at once; `None`: no limit.
    pub max_concurrent_jobs: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What to change of a company; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = companies)]
pub struct CompanyChange {
    /// What people call it.
    pub company_name: Option<String>,
    /// Whom to write to; `Some(None)`: nobody.
    pub contact_email: Option<Option<String>>,
    /// Whether its people may sign in.
    pub is_active: Option<bool>,
    /// How many of its upload jobs run at once; `Some(None)`: no limit.
    pub max_concurrent_jobs: Option<Option<i32>>,
}

/// Makes a company.
///
/// # Errors
/// [`DatabaseError::Conflict`] with `companies_company_code_key`.
pub async fn create(
    conn: &mut SystemConn,
    company_name: &str,
    company_code: &str,
    contact_email: Option<&str>,
) -> Result<Company, DatabaseError> {
    Ok(diesel::insert_into(companies::table)
        .values((
            companies::id.eq(CompanyId::new().0),
            companies::company_name.eq(company_name),
            companies::company_code.eq(company_code),
            companies::contact_email.eq(contact_email),
        ))
        .returning(Company::as_returning())
        .get_result(conn.raw())
        .await?)
}

/// One company.
///
/// # Errors
/// [`DatabaseError::NotFound`] for none.
pub async fn get(conn: &mut SystemConn, id: CompanyId) -> Result<Company, DatabaseError> {
    Ok(companies::table
        .find(id.0)
        .select(Company::as_select())
        .first(conn.raw())
        .await?)
}

/// Companies in the order of their making, after `cursor`.
///
/// # Errors
/// When the query fails.
pub async fn list(
    conn: &mut SystemConn,
    cursor: Option<CompanyId>,
    limit: i64,
) -> Result<Vec<Company>, DatabaseError> {
    let mut query = companies::table
        .select(Company::as_select())
        .order(companies::id.asc())
        .limit(limit)
        .into_boxed();
    if let Some(cursor) = cursor {
        query = query.filter(companies::id.gt(cursor.0));
    }
    Ok(query.load(conn.raw()).await?)
}

/// Changes a company. What it may run more of begins with the next sweep.
///
/// # Errors
/// [`DatabaseError::NotFound`] for none.
pub async fn update(
    conn: &mut SystemConn,
    id: CompanyId,
    change: CompanyChange,
) -> Result<Company, DatabaseError> {
    Ok(diesel::update(companies::table.find(id.0))
        .set((change, companies::updated_at.eq(diesel::dsl::now)))
        .returning(Company::as_returning())
        .get_result(conn.raw())
        .await?)
}
