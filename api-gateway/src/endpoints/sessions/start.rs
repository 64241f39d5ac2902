//! `POST /api/sessions/{id}/start`.

use super::view::Session;
use super::{accepted, require_control};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpResponse, post, web};
use database::sessions;
use domain::{Permission, SessionId};

/// Start a session that was made with `start: false`.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 202, description = "Handed to the workers", body = Session),
        (status = 409, description = "`wrong_status`: it was started before", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/sessions/{id}/start")]
pub(crate) async fn start(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionControl)?;
    let moved = state
        .database
        .tenant(actor.company_id, async move |conn| {
            require_control(conn, &actor, id).await?;
            sessions::start(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    failpoint::at!("gateway.start.before_push");
    Ok(accepted(&state, moved).await)
}
