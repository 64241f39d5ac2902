//! `POST /api/auth/change-password`.

use super::check_own_password;
use crate::actor::NewcomerOrActor;
use crate::error::{ApiError, Problems};
use crate::request::Body;
use crate::state::State;
use actix_web::{HttpResponse, post, web};
use chrono::Utc;
use database::{accounts, refresh_tokens};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

/// The old and the new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePasswordRequest {
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// 12 to 72 bytes.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Change one's own password.
///
/// The sign-ins on other devices end; this one goes on.
#[utoipa::path(
    tag = "sign-in",
    request_body = ChangePasswordRequest,
    responses((status = 204, description = "Changed")),
)]
#[post("/api/auth/change-password")]
pub(crate) async fn change_password(
    state: web::Data<State>,
    caller: NewcomerOrActor,
    body: Body<ChangePasswordRequest>,
) -> Result<HttpResponse, ApiError> {
    let actor = caller.0;
    let request = body.read()?;
    let (current, new) = (
        request.current_password.expose_secret(),
        request.new_password.expose_secret(),
    );
    let mut problems = Problems::default();
    if let Err(problem) = identity::passwords::check(new) {
        problems.add("/new_password", "invalid", problem);
    } else if new == current {
        problems.add("/new_password", "invalid", "must differ from the current one");
    }
    problems.finish()?;

    let user_id = actor.user.id;
    check_own_password(&state, user_id, &request.current_password).await?;
    let hash = state.passwords.hash(new).await.map_err(ApiError::internal)?;
    let (family_id, now) = (actor.family_id, Utc::now());
    state
        .database
        .system(async move |conn| {
            accounts::set_password(conn, user_id, &hash).await?;
            refresh_tokens::revoke_user(conn, user_id, Some(family_id), now)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    state.sign_ins.forget();
    Ok(HttpResponse::NoContent().finish())
}
