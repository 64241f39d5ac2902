//! `POST /api/sessions/{id}/retry`.

use super::view::Session;
use super::{accepted, require_control};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::{HttpResponse, post, web};
use database::sessions;
use domain::{FileErrorCode, Permission, SessionId};
use serde::Deserialize;
use utoipa::ToSchema;

/// Which files.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetrySession {
    /// Only those that failed of this cause; absent: all that failed.
    error_code: Option<FileErrorCode>,
}

/// Start the session's next run with the files that failed.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    request_body = Option<RetrySession>,
    responses(
        (status = 202, description = "Handed to the workers", body = Session),
        (status = 409, description = "`wrong_status`, `nothing_to_retry`, `cycle_busy`, `files_dropped`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/sessions/{id}/retry")]
pub(crate) async fn retry(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
    body: Body<RetrySession>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionControl)?;
    let cause = body.read()?.error_code;
    let moved = state
        .database
        .tenant(actor.company_id, async move |conn| {
            require_control(conn, &actor, id).await?;
            sessions::retry(conn, id, cause).await.map_err(ApiError::from)
        })
        .await?;
    failpoint::at!("gateway.retry.before_push");
    Ok(accepted(&state, moved).await)
}
