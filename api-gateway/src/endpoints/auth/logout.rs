//! `POST /api/auth/logout`.

use crate::actor::NewcomerOrActor;
use crate::error::{ApiError, Code};
use crate::request::Body;
use crate::state::State;
use actix_web::{HttpResponse, post, web};
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
/// The access token says which one, or else the refresh token in the body; one that is not known (any more) is as good
/// as signed out.
#[utoipa::path(
    tag = "sign-in",
    security((), ("bearer" = [])),
    request_body = Option<LogoutRequest>,
    responses((status = 204, description = "Signed out")),
)]
#[post("/api/auth/logout")]
pub(crate) async fn logout(
    state: web::Data<State>,
    caller: Result<NewcomerOrActor, ApiError>,
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
            let presented = request
                .ok()
                .and_then(|request| request.refresh_token)
                .ok_or(refused)?;
            if let Some(token) = RefreshToken::parse(presented.expose_secret()) {
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
    Ok(HttpResponse::NoContent().finish())
}
