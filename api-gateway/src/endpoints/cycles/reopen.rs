//! `POST /api/cycles/{id}/reopen`.

use super::{Cycle, status};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{post, web};
use database::cycles;
use domain::{CycleId, Permission};

/// Let a completed cycle take sessions again. Asked again, it changes nothing.
#[utoipa::path(
    tag = "cycles",
    params(("id" = CycleId, Path)),
    responses((status = 200, description = "Open", body = Cycle)),
)]
#[post("/api/cycles/{id}/reopen")]
pub(crate) async fn reopen(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CycleId>,
) -> Result<web::Json<Cycle>, ApiError> {
    actor.require(Permission::CycleWrite)?;
    let cycle = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let present = cycles::lock(conn, id).await?;
            status::reopen(conn, present).await
        })
        .await?;
    Ok(web::Json(cycle.into()))
}
