//! `GET /api/projects/{id}`.

use super::Project;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use database::projects;
use domain::{Permission, ProjectId};

/// One project.
#[utoipa::path(
    tag = "projects",
    params(("id" = ProjectId, Path)),
    responses((status = 200, description = "The project", body = Project)),
)]
#[get("/api/projects/{id}")]
pub(crate) async fn get(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<ProjectId>,
) -> Result<web::Json<Project>, ApiError> {
    actor.require(Permission::ProjectRead)?;
    let project = state
        .database
        .tenant(actor.company_id, async move |conn| {
            projects::get(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    Ok(web::Json(project.into()))
}
