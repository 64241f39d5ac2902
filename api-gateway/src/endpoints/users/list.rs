//! `GET /api/users`.

use super::User;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::Query;
use crate::state::State;
use actix_web::{get, web};
use database::members::{self, Filter};
use domain::{Permission, Role, UserId};
use utoipa::IntoParams;

/// Which people.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what list reads")]
struct ListParams {
    /// Of this role.
    role: Option<Role>,
    /// Active ones, or the others.
    is_active: Option<bool>,
    /// A text in username, name or address.
    q: Option<String>,
}

/// The people of one's company, in the order they were entered.
#[utoipa::path(
    tag = "users",
    params(PageParams, ListParams),
    responses((status = 200, description = "A page of people", body = Page<User>)),
)]
#[get("/api/users")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    mut query: Query,
) -> Result<web::Json<Page<User>>, ApiError> {
    actor.require(Permission::UserRead)?;
    let page = PageRequest::<UserId>::read(&mut query);
    let filter = Filter {
        role: query.value("role"),
        is_active: query.value("is_active"),
        q: query.text("q"),
    };
    query.finish()?;
    let (after, limit) = (page.after, page.rows());
    let rows = state
        .database
        .tenant(actor.company_id, async move |conn| {
            members::list(conn, &filter, after, limit)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    page.page(rows, |last| last.user.id, User::from).map(web::Json)
}
