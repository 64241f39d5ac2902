//! `POST /api/users/{id}/deactivate`.

use super::{MembershipChange, User, change_membership};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{post, web};
use chrono::Utc;
use database::refresh_tokens;
use domain::{Permission, UserId};

/// Keep a person from signing in to one's company; their sign-ins end.
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path)),
    responses(
        (status = 200, description = "Not active", body = User),
        (status = 409, description = "`own_account`, `last_owner`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/users/{id}/deactivate")]
pub(crate) async fn deactivate(
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
                is_active: Some(false),
            };
            change_membership(conn, &actor, id, change).await
        })
        .await?;
    let now = Utc::now();
    state
        .database
        .system(async move |conn| {
            refresh_tokens::revoke_member(conn, company_id, id, now)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    state.sign_ins.forget();
    Ok(web::Json(member.into()))
}
