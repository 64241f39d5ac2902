//! Tokens of browsers: in cookies that no script can read. Whatever changes anything must then also prove that a page of
//! ours sent it: by a header that a page of others cannot set, bound to the sign-in, and by where it says it comes from.

use crate::error::{ApiError, Code};
use crate::state::State;
use actix_web::HttpRequest;
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use uuid::Uuid;

/// Carries what `GET /api/auth/csrf` gave.
pub(crate) const CSRF_HEADER: &str = "X-CSRF-Token";
/// Where the refresh token is of use; it goes nowhere else.
const REFRESH_PATH: &str = "/api/auth";

/// Which token a cookie carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Access,
    Refresh,
}

impl Kind {
    /// Browsers take a prefixed name over TLS alone, and from nobody else on the same host.
    fn name(self, is_behind_tls: bool) -> &'static str {
        match (self, is_behind_tls) {
            (Self::Access, true) => "__Host-uploader_access",
            (Self::Refresh, true) => "__Secure-uploader_refresh",
            (Self::Access, false) => "uploader_access",
            (Self::Refresh, false) => "uploader_refresh",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Access => "/",
            Self::Refresh => REFRESH_PATH,
        }
    }

    /// A cookie that the browser keeps for so long.
    pub(crate) fn cookie(self, state: &State, token: &str, lifetime_s: i64) -> Cookie<'static> {
        Cookie::build(self.name(state.is_behind_tls), token.to_owned())
            .path(self.path())
            .secure(state.is_behind_tls)
            .http_only(true)
            .same_site(SameSite::Strict)
            .max_age(Duration::seconds(lifetime_s))
            .finish()
    }

    /// The token in the request's cookie.
    pub(crate) fn token(self, request: &HttpRequest, state: &State) -> Option<String> {
        let cookie = request.cookie(self.name(state.is_behind_tls))?;
        Some(cookie.value().to_owned()).filter(|token| !token.is_empty())
    }
}

/// The cookies that make a browser forget both tokens.
pub(crate) fn forgotten(state: &State) -> [Cookie<'static>; 2] {
    [Kind::Access, Kind::Refresh].map(|kind| kind.cookie(state, "", 0))
}

/// Goes on only if a request with cookies comes from a page of ours: one that changes nothing may come from anywhere.
pub(crate) fn check(request: &HttpRequest, state: &State, sign_in_id: Uuid) -> Result<(), ApiError> {
    if request.method().is_safe() {
        return Ok(());
    }
    check_origin(request, state)?;
    let token = request.headers().get(CSRF_HEADER);
    let token = token.and_then(|token| token.to_str().ok()).unwrap_or_default();
    if state.csrf_key.is_token_of(sign_in_id, token) {
        return Ok(());
    }
    Err(ApiError::new(Code::CsrfFailed).detail(format!(
        "With cookies, send {CSRF_HEADER} with the token of GET /api/auth/csrf."
    )))
}

/// Goes on unless the browser says that another site's page sent this.
pub(crate) fn check_origin(request: &HttpRequest, state: &State) -> Result<(), ApiError> {
    let is = |name: header::HeaderName, expected: &str| match request.headers().get(name) {
        Some(value) => value.as_bytes() == expected.as_bytes(),
        None => true,
    };
    if is(header::ORIGIN, &state.public_origin)
        && is(header::HeaderName::from_static("sec-fetch-site"), "same-origin")
    {
        return Ok(());
    }
    Err(ApiError::new(Code::CsrfFailed).detail(format!(
        "With cookies, only pages of {} may do this.",
        state.public_origin
    )))
}
