//! `GET /api/projects/{id}/cycles`.

use super::Cycle;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{get, web};
use database::cycles::{self, After, Order};
use database::projects;
use domain::{CycleId, CycleStatus, Permission, ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which cycles.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what list reads")]
struct ListParams {
    /// In this status.
    status: Option<CycleStatus>,
    /// `-cycle_number` (default), `cycle_number`, `created_at` or `-created_at`.
    sort: Option<String>,
}

/// The last cycle of a page; it holds for one order only.
#[derive(Serialize, Deserialize)]
enum Cursor {
    #[serde(rename = "n")]
    Number(i32),
    #[serde(rename = "c")]
    Created(CycleId),
}

/// A project's cycles, the highest number first.
#[utoipa::path(
    tag = "cycles",
    params(("id" = ProjectId, Path, description = "The project"), PageParams, ListParams),
    responses((status = 200, description = "A page of cycles", body = Page<Cycle>)),
)]
#[get("/api/projects/{id}/cycles")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    Id(project_id): Id<ProjectId>,
    mut query: Query,
) -> Result<web::Json<Page<Cycle>>, ApiError> {
    actor.require(Permission::CycleRead)?;
    let page = PageRequest::<Cursor>::read(&mut query);
    let status: Option<CycleStatus> = query.value("status");
    let sort = query.text("sort").unwrap_or_else(|| "-cycle_number".into());
    let (order, descending) = match sort.as_str() {
        "cycle_number" => (Order::Number, false),
        "-cycle_number" => (Order::Number, true),
        "created_at" => (Order::Created, false),
        "-created_at" => (Order::Created, true),
        _ => {
            query.problem(
                "sort",
                "must be cycle_number, -cycle_number, created_at or -created_at",
            );
            (Order::Number, true)
        }
    };
    let after = match (&page.after, order) {
        (None, _) => None,
        (Some(Cursor::Number(number)), Order::Number) => Some(After::Number(*number)),
        (Some(Cursor::Created(id)), Order::Created) => Some(After::Created(*id)),
        (Some(_), _) => {
            query.problem("cursor", "belongs to another order");
            None
        }
    };
    query.finish()?;
    let limit = page.rows();
    let rows = state
        .database
        .tenant(actor.company_id, async move |conn| {
            projects::get(conn, project_id).await?;
            cycles::list(conn, project_id, status, (order, descending), after, limit)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let key = |last: &cycles::Cycle| match order {
        Order::Number => Cursor::Number(last.cycle_number),
        Order::Created => Cursor::Created(last.id),
    };
    page.page(rows, key, Cycle::from).map(web::Json)
}
