//! `PATCH /api/cycles/{id}`.

use super::{Cycle, check_fields, status};
use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::patch::{not_null, nullable, or_default};
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::{patch, web};
use database::cycles::{self, CycleChange};
use database::projects::Sessions;
use domain::{CycleId, CycleStatus, Permission};
use serde::Deserialize;
use utoipa::ToSchema;

/// What to change: absent leaves a thing as it is, null gives the default back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateCycle {
    /// As it is: it cannot be changed.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = i32, required = false)]
    cycle_number: Option<i32>,
    /// 1 to 64 characters without "/". The prefix stays as it is.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    cycle_name: Option<Option<String>>,
    /// Only as long as the cycle has no session.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    s3_prefix: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// As it is, or `completed` as by `complete`, or what `reopen` makes of a completed one.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = CycleStatus, required = false)]
    status: Option<CycleStatus>,
}

/// Change a cycle.
#[utoipa::path(
    tag = "cycles",
    params(("id" = CycleId, Path)),
    request_body = UpdateCycle,
    responses(
        (status = 200, description = "Changed", body = Cycle),
        (status = 409, description = "`cycle_has_sessions` where the prefix would change; `session_running`, `conflict` where the status would",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[patch("/api/cycles/{id}")]
pub(crate) async fn update(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CycleId>,
    body: Body<UpdateCycle>,
) -> Result<web::Json<Cycle>, ApiError> {
    actor.require(Permission::CycleWrite)?;
    let request = body.read()?;
    let mut problems = Problems::default();
    let given = |field: &Option<Option<String>>| field.clone().flatten();
    check_fields(
        given(&request.cycle_name).as_ref(),
        given(&request.s3_prefix).as_ref(),
        given(&request.description).as_ref(),
        &mut problems,
    );
    problems.finish()?;
    let cycle = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let present = cycles::lock(conn, id).await?;
            if request
                .cycle_number
                .is_some_and(|number| number != present.cycle_number)
            {
                let mut problems = Problems::default();
                problems.add("/cycle_number", "invalid", "cannot be changed");
                return Err(problems.into_error());
            }
            let cycle_name = request
                .cycle_name
                .map(|name| name.unwrap_or_else(|| cycles::default_name(present.cycle_number)));
            let name = cycle_name.as_ref().unwrap_or(&present.cycle_name);
            let s3_prefix = request
                .s3_prefix
                .map(|prefix| prefix.unwrap_or_else(|| cycles::default_prefix(name)));
            let moves = s3_prefix
                .as_ref()
                .is_some_and(|prefix| *prefix != present.s3_prefix);
            if moves && cycles::sessions_of(conn, id).await? != Sessions::None {
                return Err(ApiError::new(Code::CycleHasSessions)
                    .detail("The cycle has sessions, whose objects are below its present prefix."));
            }
            let change = CycleChange {
                cycle_name,
                s3_prefix,
                description: or_default(request.description),
            };
            let changed = cycles::update(conn, id, change).await?;
            match request.status {
                Some(wanted) => status::move_to(conn, changed, wanted).await,
                None => Ok(changed),
            }
        })
        .await?;
    Ok(web::Json(cycle.into()))
}
