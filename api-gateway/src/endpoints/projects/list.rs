//! `GET /api/projects`.

use super::Project;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::Query;
use crate::state::State;
use actix_web::{get, web};
use database::projects::{self, Filter, Order};
use domain::{Permission, ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which projects.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what list reads")]
struct ListParams {
    /// A text in name, description or bucket.
    q: Option<String>,
    /// Active ones, or the others.
    is_active: Option<bool>,
    /// `name` (default), `-name`, `created_at` or `-created_at`.
    sort: Option<String>,
}

/// The last project of a page; it holds for one order only.
#[derive(Serialize, Deserialize)]
enum Cursor {
    #[serde(rename = "c")]
    Created(ProjectId),
    #[serde(rename = "n")]
    Name(String),
}

/// The company's projects.
#[utoipa::path(
    tag = "projects",
    params(PageParams, ListParams),
    responses((status = 200, description = "A page of projects", body = Page<Project>)),
)]
#[get("/api/projects")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    mut query: Query,
) -> Result<web::Json<Page<Project>>, ApiError> {
    actor.require(Permission::ProjectRead)?;
    let page = PageRequest::<Cursor>::read(&mut query);
    let filter = Filter {
        q: query.text("q"),
        is_active: query.value("is_active"),
    };
    let sort = query.text("sort").unwrap_or_else(|| "name".into());
    let (by, descending) = match sort.strip_prefix('-') {
        Some(by) => (by, true),
        None => (sort.as_str(), false),
    };
    let order = match (by, &page.after) {
        ("created_at", None) => Order::Created {
            descending,
            after: None,
        },
        ("created_at", Some(Cursor::Created(id))) => Order::Created {
            descending,
            after: Some(*id),
        },
        ("name", None) => Order::Name {
            descending,
            after: None,
        },
        ("name", Some(Cursor::Name(name))) => Order::Name {
            descending,
            after: Some(name.clone()),
        },
        ("created_at" | "name", Some(_)) => {
            query.problem("cursor", "belongs to another order");
            Order::Name {
                descending,
                after: None,
            }
        }
        _ => {
            query.problem("sort", "must be name, -name, created_at or -created_at");
            Order::Name {
                descending,
                after: None,
            }
        }
    };
    query.finish()?;
    let by_name = matches!(order, Order::Name { .. });
    let limit = page.rows();
    let rows = state
        .database
        .tenant(actor.company_id, async move |conn| {
            projects::list(conn, &filter, order, limit)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let key = |last: &projects::Project| {
        if by_name {
            Cursor::Name(last.name.clone())
        } else {
            Cursor::Created(last.id)
        }
    };
    page.page(rows, key, Project::from).map(web::Json)
}
