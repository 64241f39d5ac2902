//! `GET /api/companies/{id}`.

use super::Company;
use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use database::companies;
use domain::{CompanyId, Permission};

/// One's own company; platform admins: any.
#[utoipa::path(
    tag = "companies",
    params(("id" = CompanyId, Path)),
    responses((status = 200, description = "The company", body = Company)),
)]
#[get("/api/companies/{id}")]
pub(crate) async fn get(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CompanyId>,
) -> Result<web::Json<Company>, ApiError> {
    actor.require(Permission::CompanyRead)?;
    if id != actor.company_id && !actor.user.is_platform_admin {
        return Err(ApiError::new(Code::NotFound));
    }
    let company = state
        .database
        .system(async move |conn| companies::get(conn, id).await.map_err(ApiError::from))
        .await?;
    Ok(web::Json(company.into()))
}
