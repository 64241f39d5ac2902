//! `POST /api/users`.

use super::User;
use crate::actor::Actor;
use crate::error::{ApiError, Problems};
use crate::person::{check_email, check_line, check_username};
use crate::request::Body;
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, post, web};
use database::accounts::{self, NewUser};
use database::{companies, members};
use domain::{CompanyId, Permission, Role};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

/// A person to be entered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    username: String,
    email: String,
    full_name: Option<String>,
    /// Only owners make owners.
    role: Role,
    /// 12 to 72 bytes.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    #[serde(default)]
    must_change_password: bool,
    /// From platform admins only; absent: one's own company.
    company_id: Option<CompanyId>,
}

impl CreateUser {
    fn check(&self) -> Result<(), ApiError> {
        let mut problems = Problems::default();
        check_username(&self.username, &self.email, &mut problems);
        check_email("/email", &self.email, &mut problems);
        check_line(
            "/full_name",
            self.full_name.as_deref().unwrap_or_default(),
            0,
            &mut problems,
        );
        if let Err(problem) = identity::passwords::check(self.password.expose_secret()) {
            problems.add("/password", "invalid", problem);
        }
        problems.finish()
    }
}

/// Enter a person into one's company.
#[utoipa::path(
    tag = "users",
    request_body = CreateUser,
    responses(
        (status = 201, description = "Entered", body = User,
         headers(("Location" = String, description = "Where they are"))),
        (status = 409, description = "`username_taken`, `email_taken`", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/users")]
pub(crate) async fn create(
    state: web::Data<State>,
    actor: Actor,
    body: Body<CreateUser>,
) -> Result<HttpResponse, ApiError> {
    if !actor.user.is_platform_admin {
        actor.require(Permission::UserWrite)?;
    }
    let request = body.read()?;
    let company_id = request.company_id.unwrap_or(actor.company_id);
    if company_id != actor.company_id {
        actor.require_platform_admin()?;
    } else if !actor.user.is_platform_admin && request.role == Role::Owner {
        actor.require(Permission::OwnerAssign)?;
    }
    request.check()?;
    let password_hash = state
        .passwords
        .hash(request.password.expose_secret())
        .await
        .map_err(ApiError::internal)?;
    let user_id = state
        .database
        .system(async move |conn| {
            companies::get(conn, company_id).await?;
            let new = NewUser {
                username: &request.username,
                email: &request.email,
                full_name: request.full_name.as_deref().unwrap_or_default(),
                password_hash: &password_hash,
                is_platform_admin: false,
                must_change_password: request.must_change_password,
            };
            let user_id = accounts::create_user(conn, &new).await?;
            accounts::add_membership(conn, company_id, user_id, request.role).await?;
            Ok::<_, ApiError>(user_id)
        })
        .await?;
    let member = state
        .database
        .tenant(company_id, async move |conn| {
            members::get(conn, user_id).await.map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/users/{user_id}")))
        .json(User::from(member)))
}
