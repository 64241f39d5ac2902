//! `POST /api/sessions/{id}/pause`.

use super::view::Session;
use super::{accepted, require_control, tell_workers};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpResponse, post, web};
use database::sessions::{self, Moved};
use domain::{Permission, SessionId};

/// Let a session rest: files and parts under way still arrive, nothing further is begun, and what a large file has
/// in the store is kept.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 202, description = "Its workers are told", body = Session),
        (status = 409, description = "`wrong_status`: it was not started, is paused, was told to stop or has ended", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/sessions/{id}/pause")]
pub(crate) async fn pause(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionControl)?;
    let session = state
        .database
        .tenant(actor.company_id, async move |conn| {
            require_control(conn, &actor, id).await?;
            sessions::pause(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    failpoint::at!("gateway.pause.before_hint");
    tell_workers(&state, id).await;
    let moved = Moved {
        session,
        jobs: Vec::new(),
        is_replay: false,
    };
    Ok(accepted(&state, moved).await)
}
