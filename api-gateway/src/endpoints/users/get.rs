//! `GET /api/users/{id}`.

use super::User;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use database::members;
use domain::{Permission, UserId};

/// One person of one's company.
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path)),
    responses((status = 200, description = "The person", body = User)),
)]
#[get("/api/users/{id}")]
pub(crate) async fn get(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<UserId>,
) -> Result<web::Json<User>, ApiError> {
    actor.require(Permission::UserRead)?;
    let member = state
        .database
        .tenant(actor.company_id, async move |conn| {
            members::get(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    Ok(web::Json(member.into()))
}
