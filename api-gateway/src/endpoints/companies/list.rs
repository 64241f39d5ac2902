//! `GET /api/companies`.

use super::Company;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::Query;
use crate::state::State;
use actix_web::{get, web};
use database::companies;
use domain::CompanyId;

/// All companies, the oldest first. Platform admins only.
#[utoipa::path(
    tag = "companies",
    params(PageParams),
    responses((status = 200, description = "A page of companies", body = Page<Company>)),
)]
#[get("/api/companies")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    mut query: Query,
) -> Result<web::Json<Page<Company>>, ApiError> {
    actor.require_platform_admin()?;
    let page = PageRequest::<CompanyId>::read(&mut query);
    query.finish()?;
    let (after, limit) = (page.after, page.rows());
    let rows = state
        .database
        .system(async move |conn| companies::list(conn, after, limit).await.map_err(ApiError::from))
        .await?;
    page.page(rows, |last| last.id, Company::from).map(web::Json)
}
