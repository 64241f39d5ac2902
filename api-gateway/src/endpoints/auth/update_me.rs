//! `PATCH /api/auth/me`.

use super::{Me, check_own_password};
use crate::actor::Actor;
use crate::error::{ApiError, Problems};
use crate::patch::not_null;
use crate::person::{check_email, check_line};
use crate::request::Body;
use crate::state::State;
use actix_web::{patch, web};
use database::accounts;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

/// What to change; absent leaves a thing as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateMe {
    /// Needs `current_password`: whoever reads mail to it may set a new password.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    email: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    full_name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, format = Password, required = false)]
    current_password: Option<SecretString>,
}

/// Change one's own name or e-mail address, which are the same in every company.
///
/// Somebody who signs in with the address as username signs in with the new one from then on.
#[utoipa::path(
    tag = "sign-in",
    request_body = UpdateMe,
    responses(
        (status = 200, description = "You, as you are now", body = Me),
        (status = 409, description = "`email_taken`, `username_taken`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[patch("/api/auth/me")]
pub(crate) async fn update_me(
    state: web::Data<State>,
    mut actor: Actor,
    body: Body<UpdateMe>,
) -> Result<web::Json<Me>, ApiError> {
    let request = body.read()?;
    let email = request.email.filter(|email| *email != actor.user.email);
    let mut problems = Problems::default();
    if let Some(email) = &email {
        check_email("/email", email, &mut problems);
        if request.current_password.is_none() {
            problems.add(
                "/current_password",
                "required",
                "is required to change the address",
            );
        }
    }
    if let Some(name) = &request.full_name {
        check_line("/full_name", name, 0, &mut problems);
    }
    problems.finish()?;
    if let Some(password) = &request.current_password {
        check_own_password(&state, actor.user.id, password).await?;
    }
    let me = state
        .database
        .system(async move |conn| {
            let id = actor.user.id;
            accounts::update_profile(conn, id, email.as_deref(), request.full_name.as_deref()).await?;
            actor.user = accounts::credentials_of(conn, id).await?.user;
            Me::load(conn, actor).await
        })
        .await?;
    state.sign_ins.forget();
    Ok(web::Json(me))
}
