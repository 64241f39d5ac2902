//! The people of one company, as the company sees them: their membership, and never their passwords.

use crate::accounts::User;
use crate::schema::{memberships, users};
use crate::sessions::like_pattern;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{Role, UserId};

/// A person in a company.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub user: User,
    /// What they may do here.
    pub role: Role,
    /// Whether they may sign in to this company.
    pub is_active: bool,
    /// Since when they belong to it.
    pub created_at: DateTime<Utc>,
}

/// Which people to list.
#[derive(Debug, Default)]
pub struct Filter {
    /// Of this role.
    pub role: Option<Role>,
    /// Active ones, or the others.
    pub is_active: Option<bool>,
    /// A text in username, name or address.
    pub q: Option<String>,
}

type Row = (User, String, bool, DateTime<Utc>);

fn member((user, role, is_active, created_at): Row) -> Result<Member, DatabaseError> {
    let is_active = is_active && user.is_active;
    Ok(Member {
        user,
        role: role.parse()?,
        is_active,
        created_at,
    })
}

/// One person of the company.
///
/// # Errors
/// [`DatabaseError::NotFound`] for nobody of this company.
pub async fn get(conn: &mut TenantConn, user_id: UserId) -> Result<Member, DatabaseError> {
    let row: Row = memberships::table
        .inner_join(users::table)
        .filter(memberships::user_id.eq(user_id.0))
        .select((
            User::as_select(),
            memberships::role,
            memberships::is_active,
            memberships::created_at,
        ))
        .first(conn.raw())
        .await?;
    member(row)
}

/// People in the order of their making, after `cursor`.
///
/// # Errors
/// When the query fails.
pub async fn list(
    conn: &mut TenantConn,
    filter: &Filter,
    cursor: Option<UserId>,
    limit: i64,
) -> Result<Vec<Member>, DatabaseError> {
    let mut query = memberships::table
        .inner_join(users::table)
        .select((
            User::as_select(),
            memberships::role,
            memberships::is_active,
            memberships::created_at,
        ))
        .order(memberships::user_id.asc())
        .limit(limit)
        .into_boxed();
    if let Some(role) = filter.role {
        query = query.filter(memberships::role.eq(role.as_str()));
    }
    if let Some(is_active) = filter.is_active {
        query = query.filter(memberships::is_active.and(users::is_active).eq(is_active));
    }
    if let Some(q) = &filter.q {
        let pattern = like_pattern(q);
        query = query.filter(
            users::username
                .ilike(pattern.clone())
                .or(users::full_name.ilike(pattern.clone()))
                .or(users::email.ilike(pattern)),
        );
    }
    if let Some(cursor) = cursor {
        query = query.filter(memberships::user_id.gt(cursor.0));
    }
    let rows: Vec<Row> = query.load(conn.raw()).await?;
    rows.into_iter().map(member).collect()
}

/// How many active owners the company has. Its memberships stay locked until the transaction ends, so that two
/// owners cannot demote each other at once.
///
/// # Errors
/// When the query fails.
pub async fn lock_and_count_owners(conn: &mut TenantConn) -> Result<usize, DatabaseError> {
    let owners: Vec<uuid::Uuid> = memberships::table
        .filter(
            memberships::role
                .eq(Role::Owner.as_str())
                .and(memberships::is_active),
        )
        .select(memberships::user_id)
        .order(memberships::user_id)
        .for_update()
        .load(conn.raw())
        .await?;
    Ok(owners.len())
}

/// Changes a membership; `None` leaves a thing as it is.
///
/// # Errors
/// [`DatabaseError::NotFound`] for nobody of this company.
pub async fn update(
    conn: &mut TenantConn,
    user_id: UserId,
    role: Option<Role>,
    is_active: Option<bool>,
) -> Result<(), DatabaseError> {
    if role.is_none() && is_active.is_none() {
        return Ok(());
    }
    let changed = diesel::update(memberships::table.filter(memberships::user_id.eq(user_id.0)))
        .set((
            role.map(|role| memberships::role.eq(role.as_str())),
            is_active.map(|is_active| memberships::is_active.eq(is_active)),
        ))
        .execute(conn.raw())
        .await?;
    if changed == 0 {
        Err(DatabaseError::NotFound)
    } else {
        Ok(())
    }
}
