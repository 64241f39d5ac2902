//! `POST /api/auth/login`.

use super::{Device, Me, SignedInAnswer, Tokens, open_sign_in};
use crate::actor::Actor;
use crate::cookies;
use crate::error::{ApiError, Code};
use crate::request::Body;
use crate::state::State;
use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::{SubsecRound as _, Utc};
use database::accounts::{self, SignedIn};
use identity::RefreshToken;
use identity::refresh::FAMILY_LIFETIME;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    /// The username, or the e-mail address.
    username: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// For browsers: the tokens as cookies, and not in the body. What changes anything then needs `X-CSRF-Token`.
    #[serde(default)]
    use_cookies: bool,
}

/// Sign in with username (or e-mail address) and password.
///
/// The answer and its time are the same for an unknown user, a wrong password and a person who may not sign in.
/// A person with several companies is signed in to the one they have belonged to longest.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body = LoginRequest,
    responses((status = 200, description = "Signed in", body = Tokens)),
)]
#[post("/api/auth/login")]
pub(crate) async fn login(
    state: web::Data<State>,
    device: Device,
    http: HttpRequest,
    body: Body<LoginRequest>,
) -> Result<HttpResponse, ApiError> {
    let LoginRequest {
        username,
        password,
        use_cookies,
    } = body.read()?;
    if use_cookies {
        // A page of others could sign a browser in as somebody else.
        cookies::check_origin(&http, &state)?;
    }
    let name = username.trim().to_owned();
    let found = state
        .database
        .system(async move |conn| {
            let Some(credentials) = accounts::credentials(conn, &name).await? else {
                return Ok((None, None));
            };
            let memberships = accounts::memberships(conn, credentials.user.id).await?;
            Ok::<_, ApiError>((Some(credentials), memberships.into_iter().next()))
        })
        .await?;
    let (credentials, membership) = found;
    let stored_hash = credentials
        .as_ref()
        .map(|credentials| credentials.password_hash.as_str());
    let is_right = state
        .passwords
        .verify(password.expose_secret(), stored_hash)
        .await
        .map_err(ApiError::internal)?;
    let signed_in = match (credentials, membership) {
        (Some(credentials), Some(membership)) if is_right && credentials.user.is_active => SignedIn {
            user: credentials.user,
            membership,
        },
        _ => return Err(ApiError::new(Code::InvalidCredentials)),
    };

    // As Postgres keeps it, so that this answer and the next agree.
    let now = Utc::now().trunc_subsecs(6);
    let refresh_token = RefreshToken::generate();
    let issued = refresh_token.clone();
    let (user, family_id) = state
        .database
        .system(async move |conn| {
            let ends_at = now + FAMILY_LIFETIME;
            let family_id = open_sign_in(conn, &signed_in, &issued, &device, ends_at, now).await?;
            accounts::record_login(conn, signed_in.user.id, now).await?;
            let mut actor = Actor::new(signed_in, family_id);
            actor.user.last_login_at = Some(now);
            Ok::<_, ApiError>((Me::load(conn, actor).await?, family_id))
        })
        .await?;
    tracing::info!(user_id = %user.id, "signed in");
    let answer = SignedInAnswer {
        user,
        family_id,
        refresh_token,
        now,
        uses_cookies: use_cookies,
    };
    answer.into_response(&state)
}
