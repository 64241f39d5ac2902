//! `POST /api/auth/logout`.

use super::refresh::{family_of_cookie, refresh_cookie};
use crate::actor::NewcomerOrActor;
use crate::cookies;
use crate::error::{ApiError, Code};
use crate::request::Body;
use crate::state::State;
use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::Utc;
use database::refresh_tokens;
use identity::RefreshToken;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

/// Nothing is needed with an access token, which names the sign-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogoutRequest {
    /// Where the access token has expired: the sign-in's refresh token.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    refresh_token: Option<SecretString>,
}

/// End this sign-in: its access and refresh tokens count no more.
///
/// The access token says which one, or else the refresh token in the body or in the cookie; one that is not known (any
/// more) is as good as signed out. Browsers forget their cookies.
#[utoipa::path(
    tag = "sign-in",
    security((), ("bearer" = []), ("cookie" = [])),
    request_body = Option<LogoutRequest>,
    responses((status = 204, description = "Signed out")),
)]
#[post("/api/auth/logout")]
pub(crate) async fn logout(
    state: web::Data<State>,
    caller: Result<NewcomerOrActor, ApiError>,
    http: HttpRequest,
    body: Body<LogoutRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.read();
    let now = Utc::now();
    match caller {
        Ok(NewcomerOrActor(actor)) => {
            request?;
            state
                .database
                .system(async move |conn| refresh_tokens::revoke_family(conn, actor.family_id, now).await)
                .await?;
        }
        Err(refused) if refused.code() == Code::Unauthenticated => {
            let presented = match request.ok().and_then(|request| request.refresh_token) {
                Some(presented) => RefreshToken::parse(presented.expose_secret()),
                None => {
                    let cookie = refresh_cookie(&state, &http).ok_or(refused)?;
                    if let Some(family_id) = family_of_cookie(&state, &http).await? {
                        cookies::check(&http, &state, family_id)?;
                    }
                    Some(cookie)
                }
            };
            if let Some(token) = presented {
                let hash = token.hash();
                state
                    .database
                    .system(async move |conn| refresh_tokens::revoke_family_of(conn, &hash, now).await)
                    .await?;
            }
        }
        Err(error) => return Err(error),
    }
    state.sign_ins.forget();
    let mut response = HttpResponse::NoContent();
    for cookie in cookies::forgotten(&state) {
        response.cookie(cookie);
    }
    Ok(response.finish())
}
