//! The people of one's company, by their memberships.

mod activate;
mod create;
mod deactivate;
mod get;
mod list;
mod update;

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use chrono::{DateTime, Utc};
use database::TenantConn;
use database::members::{self, Member};
use domain::{Permission, Role, UserId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(list::list)
        .service(create::create)
        .service(get::get)
        .service(update::update)
        .service(activate::activate)
        .service(deactivate::deactivate);
}

/// A person in one's company.
#[derive(Serialize, ToSchema)]
struct User {
    id: UserId,
    username: String,
    email: String,
    full_name: String,
    role: Role,
    /// Whether they may sign in to this company.
    is_active: bool,
    must_change_password: bool,
    last_login_at: Option<DateTime<Utc>>,
    /// Since when they belong to the company.
    created_at: DateTime<Utc>,
}

impl From<Member> for User {
    fn from(member: Member) -> Self {
        let Member {
            user,
            role,
            is_active,
            created_at,
        } = member;
        Self {
            id: user.id,
            username: user.username,
            email: user.email,
            full_name: user.full_name,
            role,
            is_active,
            must_change_password: user.must_change_password,
            last_login_at: user.last_login_at,
            created_at,
        }
    }
}

/// What of a membership changes.
#[derive(Clone, Copy, Default)]
struct MembershipChange {
    role: Option<Role>,
    is_active: Option<bool>,
}

/// Whether a change is within the rules: nobody demotes or deactivates themselves or the last owner, and only owners
/// touch owners. The company's owners stay locked until the transaction ends.
async fn check_change(
    conn: &mut TenantConn,
    actor: &Actor,
    user_id: UserId,
    change: MembershipChange,
) -> Result<(), ApiError> {
    let owners = members::lock_and_count_owners(conn).await?;
    let present = members::get(conn, user_id).await?;
    let changes_role = change.role.is_some_and(|role| role != present.role);
    let deactivates = change.is_active == Some(false);
    if present.role == Role::Owner || changes_role && change.role == Some(Role::Owner) {
        actor.require(Permission::OwnerAssign)?;
    }
    if user_id == actor.user.id && (changes_role || deactivates) {
        return Err(ApiError::new(Code::OwnAccount)
            .detail("Nobody changes their own role or deactivates themselves."));
    }
    let loses_owner = present.role == Role::Owner && present.is_active && (changes_role || deactivates);
    if loses_owner && owners <= 1 {
        return Err(ApiError::new(Code::LastOwner));
    }
    Ok(())
}

/// Changes a membership within the rules.
async fn change_membership(
    conn: &mut TenantConn,
    actor: &Actor,
    user_id: UserId,
    change: MembershipChange,
) -> Result<Member, ApiError> {
    check_change(conn, actor, user_id, change).await?;
    members::update(conn, user_id, change.role, change.is_active).await?;
    members::get(conn, user_id).await.map_err(ApiError::from)
}
