//! `POST /api/auth/refresh`.

use super::{Me, Tokens, tokens};
use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::Body;
use crate::state::State;
use actix_web::{post, web};
use chrono::Utc;
use database::refresh_tokens::{self, Rotation};
use identity::RefreshToken;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

/// The token to exchange.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshRequest {
    #[schema(value_type = String, format = Password)]
    refresh_token: SecretString,
}

/// Exchange a refresh token for new tokens.
///
/// A refresh token is good for one use. One that comes back ends the sign-in on that device, except within ten
/// seconds and while its successor is unused: then the answer was lost, and another one is given.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body = RefreshRequest,
    responses((status = 200, description = "New tokens", body = Tokens)),
)]
#[post("/api/auth/refresh")]
pub(crate) async fn refresh(
    state: web::Data<State>,
    body: Body<RefreshRequest>,
) -> Result<web::Json<Tokens>, ApiError> {
    let request = body.read()?;
    let refused =
        || ApiError::new(Code::Unauthenticated).detail("The refresh token is not valid (any more).");
    let presented = RefreshToken::parse(request.refresh_token.expose_secret()).ok_or_else(refused)?;
    let successor = RefreshToken::generate();
    let (old, new) = (presented.hash(), successor.hash());
    let now = Utc::now();
    let outcome = state
        .database
        .system(async move |conn| {
            match refresh_tokens::rotate(conn, &old, &new, identity::refresh::LIFETIME, now).await? {
                Rotation::Rotated { signed_in, family_id } => {
                    let user = Me::load(conn, Actor::new(signed_in, family_id)).await?;
                    Ok(Some((user, family_id)))
                }
                Rotation::Replayed { family_id } => {
                    tracing::warn!(%family_id, "a used refresh token came back: its sign-in was ended");
                    Ok(None)
                }
                Rotation::Refused => Ok::<_, ApiError>(None),
            }
        })
        .await?;
    let Some((user, family_id)) = outcome else {
        state.sign_ins.forget();
        return Err(refused());
    };
    tokens(&state, user, family_id, &successor, now).map(web::Json)
}
