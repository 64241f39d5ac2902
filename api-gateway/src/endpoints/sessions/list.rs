//! `GET /api/sessions`.

use super::view::Session;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::Query;
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use database::sessions::{self, SessionFilter};
use domain::{CycleId, Permission, ProjectId, SessionId, SessionStatus, UserId};
use utoipa::IntoParams;

/// Which sessions.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what list reads")]
struct ListParams {
    project_id: Option<ProjectId>,
    cycle_id: Option<CycleId>,
    /// Made by this person.
    user_id: Option<UserId>,
    status: Option<SessionStatus>,
    /// A text in the source's root or path.
    q: Option<String>,
    /// Made at or after.
    from: Option<DateTime<Utc>>,
    /// Made before.
    to: Option<DateTime<Utc>>,
    /// `-created_at` (default) or `created_at`.
    sort: Option<String>,
}

/// The company's sessions, the newest first.
#[utoipa::path(
    tag = "sessions",
    params(PageParams, ListParams),
    responses((status = 200, description = "A page of sessions", body = Page<Session>)),
)]
#[get("/api/sessions")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    mut query: Query,
) -> Result<web::Json<Page<Session>>, ApiError> {
    actor.require(Permission::SessionRead)?;
    let page = PageRequest::<SessionId>::read(&mut query);
    let filter = SessionFilter {
        project_id: query.value("project_id"),
        cycle_id: query.value("cycle_id"),
        user_id: query.value("user_id"),
        status: query.value("status"),
        q: query.text("q"),
        from: query.time("from"),
        to: query.time("to"),
    };
    let oldest_first = match query.text("sort").as_deref() {
        None | Some("-created_at") => false,
        Some("created_at") => true,
        Some(_) => {
            query.problem("sort", "must be created_at or -created_at");
            false
        }
    };
    query.finish()?;
    let (after, limit) = (page.after, page.rows());
    let rows = state
        .database
        .tenant(actor.company_id, async move |conn| {
            sessions::list(conn, &filter, oldest_first, after, limit)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let page = page.page(rows, |last| last.id, |row| row)?;
    let items = page.items.into_iter().map(|row| Session::load(&state, row));
    Ok(web::Json(Page {
        items: futures::future::join_all(items).await,
        next_cursor: page.next_cursor,
    }))
}
