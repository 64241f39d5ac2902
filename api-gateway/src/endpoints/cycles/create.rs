//! `POST /api/projects/{id}/cycles`.

use super::{Cycle, check_fields};
use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, post, web};
use database::cycles::{self, NewCycle};
use domain::{Permission, ProjectId};
use serde::Deserialize;
use utoipa::ToSchema;

const MAX_NUMBER: i32 = 1_000_000;

/// A cycle to be made. Everything has a default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateCycle {
    /// 1 to 1,000,000; absent: one more than the highest there is.
    cycle_number: Option<i32>,
    /// 1 to 64 characters without "/"; absent: `C{cycle_number}`.
    cycle_name: Option<String>,
    /// Absent: `{cycle_name}/`.
    s3_prefix: Option<String>,
    description: Option<String>,
}

/// Make a cycle.
#[utoipa::path(
    tag = "cycles",
    params(("id" = ProjectId, Path, description = "The project")),
    request_body = Option<CreateCycle>,
    responses(
        (status = 201, description = "Made", body = Cycle,
         headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "`cycle_number_taken`", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/projects/{id}/cycles")]
pub(crate) async fn create(
    state: web::Data<State>,
    actor: Actor,
    Id(project_id): Id<ProjectId>,
    body: Body<CreateCycle>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::CycleWrite)?;
    let request = body.read()?;
    let mut problems = Problems::default();
    if request
        .cycle_number
        .is_some_and(|number| !(1..=MAX_NUMBER).contains(&number))
    {
        problems.add("/cycle_number", "invalid", "must be 1 to 1,000,000");
    }
    check_fields(
        request.cycle_name.as_ref(),
        request.s3_prefix.as_ref(),
        request.description.as_ref(),
        &mut problems,
    );
    problems.finish()?;
    let mut new = NewCycle {
        project_id,
        cycle_number: request.cycle_number,
        cycle_name: request.cycle_name,
        s3_prefix: request.s3_prefix,
        description: request.description.unwrap_or_default(),
    };
    let cycle = state
        .database
        .tenant(actor.company_id, async move |conn| {
            if new.cycle_number.is_none() {
                let next = cycles::next_number(conn, project_id).await?;
                if next > MAX_NUMBER {
                    return Err(ApiError::new(Code::CycleNumberTaken).detail(
                        "The highest number there can be, 1,000,000, is taken. Give a cycle_number.",
                    ));
                }
                new.cycle_number = Some(next);
            }
            cycles::create(conn, new).await.map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/cycles/{}", cycle.id)))
        .json(Cycle::from(cycle)))
}
