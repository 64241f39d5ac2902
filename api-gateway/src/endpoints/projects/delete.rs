//! `DELETE /api/projects/{id}`.

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{HttpResponse, delete, web};
use database::projects::{self, Sessions};
use domain::{Permission, ProjectId};

/// Delete a project with its cycles. What was uploaded stays in the bucket.
#[utoipa::path(
    tag = "projects",
    params(
        ("id" = ProjectId, Path),
        ("cascade" = Option<bool>, Query, description = "Delete its sessions, too"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "`project_has_sessions` without `cascade`, `session_running` with or without",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/api/projects/{id}")]
pub(crate) async fn delete(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<ProjectId>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::ProjectWrite)?;
    let cascade = query.value("cascade").unwrap_or(false);
    query.finish()?;
    state
        .database
        .tenant(actor.company_id, async move |conn| {
            projects::lock(conn, id).await?;
            match projects::sessions_of(conn, id).await? {
                Sessions::Unfinished => Err(ApiError::new(Code::SessionRunning)
                    .detail("A session of this project is not finished. Cancel it, or wait until it ends.")),
                Sessions::Ended if !cascade => Err(ApiError::new(Code::ProjectHasSessions)
                    .detail("The project has sessions. Use ?cascade=true to delete their record with it.")),
                Sessions::Ended | Sessions::None => projects::delete(conn, id).await.map_err(ApiError::from),
            }
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
