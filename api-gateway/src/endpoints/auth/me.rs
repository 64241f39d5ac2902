//! `GET /api/auth/me`.

use super::Me;
use crate::actor::NewcomerOrActor;
use crate::error::ApiError;
use crate::state::State;
use actix_web::{get, web};

/// The person signed in, their company, and what they may do there.
#[utoipa::path(
    tag = "sign-in",
    responses((status = 200, description = "You", body = Me)),
)]
#[get("/api/auth/me")]
pub(crate) async fn me(state: web::Data<State>, caller: NewcomerOrActor) -> Result<web::Json<Me>, ApiError> {
    let actor = caller.0;
    let me = state
        .database
        .system(async move |conn| Me::load(conn, actor).await)
        .await?;
    Ok(web::Json(me))
}
