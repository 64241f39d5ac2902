//! `GET /api/cycles/{id}`.

use super::Cycle;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use database::cycles;
use domain::{CycleId, Permission};

/// One cycle.
#[utoipa::path(
    tag = "cycles",
    params(("id" = CycleId, Path)),
    responses((status = 200, description = "The cycle", body = Cycle)),
)]
#[get("/api/cycles/{id}")]
pub(crate) async fn get(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CycleId>,
) -> Result<web::Json<Cycle>, ApiError> {
    actor.require(Permission::CycleRead)?;
    let cycle = state
        .database
        .tenant(actor.company_id, async move |conn| {
            cycles::get(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    Ok(web::Json(cycle.into()))
}
