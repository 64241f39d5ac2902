//! `GET /.well-known/jwks.json`: the keys that access tokens are signed with.

use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, get, web};

/// The public keys of access tokens (RFC 7517).
#[utoipa::path(
    tag = "service",
    security(()),
    responses((status = 200, description = "A JSON Web Key Set", body = serde_json::Value)),
)]
#[get("/.well-known/jwks.json")]
pub(crate) async fn jwks(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .json(state.verifier.jwks())
}
