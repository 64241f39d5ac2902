//! `DELETE /api/cycles/{id}`.

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{HttpResponse, delete, web};
use database::cycles;
use database::projects::Sessions;
use domain::{CycleId, Permission};

/// Delete a cycle. What was uploaded stays in the bucket.
///
/// Its sessions may be anybody's: to delete them with it is for those who control everybody's.
#[utoipa::path(
    tag = "cycles",
    params(
        ("id" = CycleId, Path),
        ("cascade" = Option<bool>, Query, description = "Delete its sessions, too"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "`cycle_has_sessions` without `cascade`, `session_running` with or without",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/api/cycles/{id}")]
pub(crate) async fn delete(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CycleId>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::CycleWrite)?;
    let cascade = query.value("cascade").unwrap_or(false);
    query.finish()?;
    state
        .database
        .tenant(actor.company_id, async move |conn| {
            cycles::lock(conn, id).await?;
            match cycles::sessions_of(conn, id).await? {
                Sessions::Unfinished => Err(ApiError::new(Code::SessionRunning)
                    .detail("A session of this cycle is not finished. Cancel it, or wait until it ends.")),
                Sessions::Ended if !cascade => Err(ApiError::new(Code::CycleHasSessions)
                    .detail("The cycle has sessions. Use ?cascade=true to delete their record with it.")),
                Sessions::Ended => {
                    actor.require(Permission::SessionControlAll)?;
                    cycles::delete(conn, id).await.map_err(ApiError::from)
                }
                Sessions::None => cycles::delete(conn, id).await.map_err(ApiError::from),
            }
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
