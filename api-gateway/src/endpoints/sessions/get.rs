//! `GET /api/sessions/{id}`.

use super::view::Session;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use database::sessions;
use domain::{Permission, SessionId};

/// One session, as it is now.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses((status = 200, description = "The session", body = Session)),
)]
#[get("/api/sessions/{id}")]
pub(crate) async fn get(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<web::Json<Session>, ApiError> {
    actor.require(Permission::SessionRead)?;
    let session = state
        .database
        .tenant(actor.company_id, async move |conn| {
            sessions::get(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    Ok(web::Json(Session::load(&state, session).await))
}
