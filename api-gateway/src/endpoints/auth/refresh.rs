//! `POST /api/auth/refresh`.

use super::{Me, SignedInAnswer, Tokens};
use crate::actor::{Actor, bearer};
use crate::cookies::{self, Kind};
use crate::error::{ApiError, Code};
use crate::request::Body;
use crate::state::State;
use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::Utc;
use database::refresh_tokens::{self, Rotation};
use identity::RefreshToken;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The token to exchange.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshRequest {
    /// Absent: the one in the cookie.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    refresh_token: Option<SecretString>,
}

/// Exchange a refresh token for new tokens.
///
/// A refresh token is good for one use. One that comes back ends the sign-in on that device, except within ten
/// seconds and while its successor is unused: then the answer was lost, and another one is given.
///
/// From a cookie, it is exchanged for cookies, and needs `X-CSRF-Token`.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body = Option<RefreshRequest>,
    responses((status = 200, description = "New tokens", body = Tokens)),
)]
#[post("/api/auth/refresh")]
pub(crate) async fn refresh(
    state: web::Data<State>,
    request: HttpRequest,
    body: Body<RefreshRequest>,
) -> Result<HttpResponse, ApiError> {
    let refused =
        || ApiError::new(Code::Unauthenticated).detail("The refresh token is not valid (any more).");
    let given = body.read()?.refresh_token;
    let uses_cookies = given.is_none();
    let presented = match given {
        Some(given) => RefreshToken::parse(given.expose_secret()),
        None => {
            let family_id = family_of_cookie(&state, &request).await?.ok_or_else(refused)?;
            cookies::check(&request, &state, family_id)?;
            refresh_cookie(&state, &request)
        }
    };
    let presented = presented.ok_or_else(refused)?;
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
    let answer = SignedInAnswer {
        user,
        family_id,
        refresh_token: successor,
        now,
        uses_cookies,
    };
    answer.into_response(&state)
}

/// The refresh token in the request's cookie. Beside a bearer, however good that is, cookies do not count.
pub(super) fn refresh_cookie(state: &State, request: &HttpRequest) -> Option<RefreshToken> {
    if bearer(request).is_some() {
        return None;
    }
    RefreshToken::parse(&Kind::Refresh.token(request, state)?)
}

/// The sign-in of the refresh token in the request's cookie, whether or not it can still be used.
pub(super) async fn family_of_cookie(state: &State, request: &HttpRequest) -> Result<Option<Uuid>, ApiError> {
    let Some(token) = refresh_cookie(state, request) else {
        return Ok(None);
    };
    let hash = token.hash();
    state
        .database
        .system(async move |conn| {
            refresh_tokens::family_of(conn, &hash)
                .await
                .map_err(ApiError::from)
        })
        .await
}
