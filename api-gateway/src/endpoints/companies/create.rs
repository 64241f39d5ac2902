//! `POST /api/companies`.

use super::Company;
use crate::actor::Actor;
use crate::error::{ApiError, Problems};
use crate::person::{check_email, check_line};
use crate::request::Body;
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, post, web};
use database::companies;
use serde::Deserialize;
use utoipa::ToSchema;

/// A company to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateCompany {
    company_name: String,
    /// 1 to 32 of A-Z, 0-9, "_" and "-", beginning with a letter or digit. Small letters are made large.
    company_code: String,
    contact_email: Option<String>,
}

/// Make a company. Platform admins only.
#[utoipa::path(
    tag = "companies",
    request_body = CreateCompany,
    responses(
        (status = 201, description = "Made", body = Company,
         headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "`company_code_taken`", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/companies")]
pub(crate) async fn create(
    state: web::Data<State>,
    actor: Actor,
    body: Body<CreateCompany>,
) -> Result<HttpResponse, ApiError> {
    actor.require_platform_admin()?;
    let request = body.read()?;
    let mut problems = Problems::default();
    check_line("/company_name", &request.company_name, 1, &mut problems);
    let code = request.company_code.to_ascii_uppercase();
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let is_code = (1..=32).contains(&code.len())
        && code.bytes().all(|byte| allowed(byte) || b"_-".contains(&byte))
        && code.bytes().next().is_some_and(allowed);
    if !is_code {
        problems.add(
            "/company_code",
            "invalid",
            "must have 1 to 32 letters, digits, \"_\" and \"-\"",
        );
    }
    if let Some(email) = &request.contact_email {
        check_email("/contact_email", email, &mut problems);
    }
    problems.finish()?;
    let company = state
        .database
        .system(async move |conn| {
            companies::create(
                conn,
                &request.company_name,
                &code,
                request.contact_email.as_deref(),
            )
            .await
            .map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/companies/{}", company.id)))
        .json(Company::from(company)))
}
