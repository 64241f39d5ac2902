//! `PATCH /api/users/{id}`.

use super::{MembershipChange, User, change_membership, check_change};
use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::patch::not_null;
use crate::person::{check_email, check_line};
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::{patch, web};
use database::accounts;
use domain::{Permission, Role, UserId};
use serde::Deserialize;
use utoipa::ToSchema;

/// What to change; absent leaves a thing as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateUser {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    email: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    full_name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Role, required = false)]
    role: Option<Role>,
}

/// Change a person of one's company.
///
/// The name and address of a person who also belongs to another company are out of reach (`shared_account`).
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path)),
    request_body = UpdateUser,
    responses(
        (status = 200, description = "Changed", body = User),
        (status = 409, description = "`own_account`, `last_owner`, `email_taken`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[patch("/api/users/{id}")]
pub(crate) async fn update(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<UserId>,
    body: Body<UpdateUser>,
) -> Result<web::Json<User>, ApiError> {
    actor.require(Permission::UserWrite)?;
    let request = body.read()?;
    let mut problems = Problems::default();
    if let Some(email) = &request.email {
        check_email("/email", email, &mut problems);
    }
    if let Some(name) = &request.full_name {
        check_line("/full_name", name, 0, &mut problems);
    }
    problems.finish()?;

    let company_id = actor.company_id;
    let change = MembershipChange {
        role: request.role,
        is_active: None,
    };
    // Looked at first, so that what is refused changes nothing.
    let caller = actor.clone();
    state
        .database
        .tenant(company_id, async move |conn| {
            check_change(conn, &caller, id, change).await
        })
        .await?;
    if request.email.is_some() || request.full_name.is_some() {
        state
            .database
            .system(async move |conn| {
                if accounts::belongs_elsewhere(conn, id, company_id).await? {
                    return Err(ApiError::new(Code::SharedAccount));
                }
                let (email, full_name) = (request.email.as_deref(), request.full_name.as_deref());
                accounts::update_profile(conn, id, email, full_name)
                    .await
                    .map_err(ApiError::from)
            })
            .await?;
    }
    let member = state
        .database
        .tenant(company_id, async move |conn| {
            change_membership(conn, &actor, id, change).await
        })
        .await?;
    state.sign_ins.forget();
    Ok(web::Json(member.into()))
}
