//! `DELETE /api/sessions/{id}`.

use super::require_control;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpResponse, delete, web};
use database::sessions;
use domain::{Permission, SessionId};

/// Delete the record of an ended session. What it uploaded stays in the bucket.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "`wrong_status`: it has not ended", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/api/sessions/{id}")]
pub(crate) async fn delete(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionControl)?;
    state
        .database
        .tenant(actor.company_id, async move |conn| {
            require_control(conn, &actor, id).await?;
            sessions::delete(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
