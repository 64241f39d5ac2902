//! `POST /api/cycles/{id}/complete`.

use super::{Cycle, status};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{post, web};
use database::cycles;
use domain::{CycleId, Permission};

/// Declare a cycle complete: it takes no more sessions until it is reopened. Asked again, it changes nothing.
#[utoipa::path(
    tag = "cycles",
    params(("id" = CycleId, Path)),
    responses(
        (status = 200, description = "Complete", body = Cycle),
        (status = 409, description = "`session_running`", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/cycles/{id}/complete")]
pub(crate) async fn complete(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CycleId>,
) -> Result<web::Json<Cycle>, ApiError> {
    actor.require(Permission::CycleWrite)?;
    let cycle = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let present = cycles::lock(conn, id).await?;
            status::complete(conn, present).await
        })
        .await?;
    Ok(web::Json(cycle.into()))
}
