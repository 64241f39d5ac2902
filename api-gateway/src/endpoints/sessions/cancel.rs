//! `POST /api/sessions/{id}/cancel`.

use super::view::Session;
use super::{accepted, require_control, tell_workers};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpResponse, post, web};
use database::sessions;
use domain::{Permission, SessionId};

/// End a session: no further file is begun, open multipart uploads are aborted. Asked again, it changes nothing.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 202, description = "Its workers are told", body = Session),
        (status = 409, description = "`wrong_status`: it has ended", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/sessions/{id}/cancel")]
pub(crate) async fn cancel(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionControl)?;
    let moved = state
        .database
        .tenant(actor.company_id, async move |conn| {
            require_control(conn, &actor, id).await?;
            sessions::cancel(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    failpoint::at!("gateway.cancel.before_hint");
    tell_workers(&state, id).await;
    Ok(accepted(&state, moved).await)
}
