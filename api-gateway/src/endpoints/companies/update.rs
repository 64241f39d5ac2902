//! `PATCH /api/companies/{id}`.

use super::Company;
use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::patch::{not_null, nullable};
use crate::person::{check_email, check_line};
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::{patch, web};
use database::companies::{self, CompanyChange};
use domain::{CompanyId, Permission};
use serde::Deserialize;
use utoipa::ToSchema;

/// What to change; absent leaves a thing as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateCompany {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    company_name: Option<String>,
    /// Null: nobody.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    contact_email: Option<Option<String>>,
    /// Whether its people may sign in. Platform admins only, and not of the company they are signed in to.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = bool, required = false)]
    is_active: Option<bool>,
    /// Platform admins only.
    #[serde(default)]
    quota: UpdateQuota,
}

/// What to change of a company's limits; absent leaves a limit as it is.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateQuota {
    /// At least 1; null: no limit.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    max_concurrent_jobs: Option<Option<i32>>,
}

/// Change a company: an owner the name and address of their own, a platform admin anything of any.
///
/// A raised limit takes effect within seconds; a lowered one ends no job that runs.
#[utoipa::path(
    tag = "companies",
    params(("id" = CompanyId, Path)),
    request_body = UpdateCompany,
    responses(
        (status = 200, description = "Changed", body = Company),
        (status = 409, description = "`own_account`: one's own company stays active",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[patch("/api/companies/{id}")]
pub(crate) async fn update(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CompanyId>,
    body: Body<UpdateCompany>,
) -> Result<web::Json<Company>, ApiError> {
    let is_own = id == actor.company_id;
    if !actor.user.is_platform_admin {
        actor.require(Permission::CompanyWrite)?;
        if !is_own {
            return Err(ApiError::new(Code::NotFound));
        }
    }
    let request = body.read()?;
    if request.is_active.is_some() || request.quota.max_concurrent_jobs.is_some() {
        actor.require_platform_admin()?;
    }
    if is_own && request.is_active == Some(false) {
        return Err(ApiError::new(Code::OwnAccount).detail("You are signed in to this company."));
    }
    let mut problems = Problems::default();
    if let Some(name) = &request.company_name {
        check_line("/company_name", name, 1, &mut problems);
    }
    if let Some(Some(email)) = &request.contact_email {
        check_email("/contact_email", email, &mut problems);
    }
    if let Some(Some(limit)) = request.quota.max_concurrent_jobs
        && limit < 1
    {
        problems.add(
            "/quota/max_concurrent_jobs",
            "invalid",
            "must be at least 1, or null for no limit",
        );
    }
    problems.finish()?;
    let change = CompanyChange {
        company_name: request.company_name,
        contact_email: request.contact_email,
        is_active: request.is_active,
        max_concurrent_jobs: request.quota.max_concurrent_jobs,
    };
    let company = state
        .database
        .system(async move |conn| companies::update(conn, id, change).await.map_err(ApiError::from))
        .await?;
    // Its people carry its name, and may have lost or regained their access.
    state.sign_ins.forget();
    Ok(web::Json(company.into()))
}
