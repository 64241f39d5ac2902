//! `POST /api/users/{id}/activate`.

use super::{MembershipChange, User, change_membership};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{post, web};
use domain::{Permission, UserId};

/// Let a person sign in to one's company again.
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path)),
    responses(
        (status = 200, description = "Active", body = User),
        (status = 409, description = "`own_account`, `last_owner`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/users/{id}/activate")]
pub(crate) async fn activate(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<UserId>,
) -> Result<web::Json<User>, ApiError> {
    actor.require(Permission::UserWrite)?;
    let company_id = actor.company_id;
    let member = state
        .database
        .tenant(company_id, async move |conn| {
            let change = MembershipChange {
                role: None,
                is_active: Some(true),
            };
            change_membership(conn, &actor, id, change).await
        })
        .await?;
    state.sign_ins.forget();
    Ok(web::Json(member.into()))
}
