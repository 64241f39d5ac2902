//! `POST /api/sessions/{id}/resume`.

use super::view::Session;
use super::{accepted, require_control};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpResponse, post, web};
use database::sessions;
use domain::{Permission, SessionId};

/// Let a paused session go on where it stopped.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 202, description = "Handed to the workers", body = Session),
        (status = 409, description = "`wrong_status`: it is not paused", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/sessions/{id}/resume")]
pub(crate) async fn resume(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionControl)?;
    let moved = state
        .database
        .tenant(actor.company_id, async move |conn| {
            require_control(conn, &actor, id).await?;
            sessions::resume(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    failpoint::at!("gateway.resume.before_push");
    Ok(accepted(&state, moved).await)
}
