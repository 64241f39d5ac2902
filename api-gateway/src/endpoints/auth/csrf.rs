//! `GET /api/auth/csrf`.

use super::refresh::family_of_cookie;
use crate::actor::NewcomerOrActor;
use crate::error::{ApiError, Code};
use crate::state::State;
use actix_web::{HttpRequest, get, web};
use serde::Serialize;
use utoipa::ToSchema;

/// The proof that a page of ours asks.
#[derive(Serialize, ToSchema)]
struct CsrfToken {
    /// Send it as `X-CSRF-Token` with whatever changes something. It is good for as long as the sign-in.
    csrf_token: String,
}

/// The token that requests with cookies need to change anything.
///
/// The refresh token's cookie is enough, so that a page can go on after the access token has expired.
#[utoipa::path(
    tag = "sign-in",
    responses((status = 200, description = "The token", body = CsrfToken)),
)]
#[get("/api/auth/csrf")]
pub(crate) async fn csrf(
    state: web::Data<State>,
    caller: Result<NewcomerOrActor, ApiError>,
    request: HttpRequest,
) -> Result<web::Json<CsrfToken>, ApiError> {
    let family_id = match caller {
        Ok(NewcomerOrActor(actor)) => actor.family_id,
        Err(refused) if refused.code() == Code::Unauthenticated => {
            family_of_cookie(&state, &request).await?.ok_or(refused)?
        }
        Err(error) => return Err(error),
    };
    let csrf_token = state.csrf_key.token(family_id);
    Ok(web::Json(CsrfToken { csrf_token }))
}
