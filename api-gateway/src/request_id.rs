//! What every request gets: an id, the headers of security, and one line in the log.
//!
//! A client's own `X-Request-Id` is taken where it is harmless, so that a request can be followed through several
//! programs. Log lines hold the route's pattern, not the address: no query string, no body, no secret.

use crate::state::State;
use actix_web::HttpMessage as _;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web;
use domain::{CompanyId, UserId};
use std::time::Instant;
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const MAX_LEN: usize = 64;

tokio::task_local! {
    static CURRENT: String;
}

/// Who made the request, once that is known; for the log.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub user_id: UserId,
    pub company_id: CompanyId,
}

/// The id of the request being served.
pub(crate) fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

fn accepted(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    ((1..=MAX_LEN).contains(&text.len()) && text.bytes().all(harmless)).then(|| text.to_owned())
}

/// The middleware.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let begun = Instant::now();
    let id = accepted(request.headers()).unwrap_or_else(|| Uuid::now_v7().to_string());
    let method = request.method().clone();
    let mut response = CURRENT.scope(id.clone(), next.call(request)).await?;
    let path = response.request().path().to_owned();
    let is_behind_tls = response
        .request()
        .app_data::<web::Data<State>>()
        .is_some_and(|state| state.is_behind_tls);
    add_headers(response.headers_mut(), &id, &path, is_behind_tls);
    let route = response.request().match_pattern();
    let caller = response.request().extensions().get::<Caller>().copied();
    tracing::info!(
        request_id = id,
        method = %method,
        route = route.as_deref().unwrap_or("-"),
        status = response.status().as_u16(),
        duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        user_id = caller.map(|caller| tracing::field::display(caller.user_id)),
        company_id = caller.map(|caller| tracing::field::display(caller.company_id)),
        "request"
    );
    Ok(response)
}

fn add_headers(headers: &mut HeaderMap, id: &str, path: &str, is_behind_tls: bool) {
    if is_behind_tls {
        let policy = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, policy);
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HEADER, id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Swagger UI styles elements as it draws them; its scripts are files of ours.
    let policy = if path.starts_with("/docs") {
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if !path.starts_with("/docs") && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(text).unwrap());
        accepted(&headers).is_some()
    }

    #[test]
    fn only_harmless_ids_are_taken_over() {
        assert!(accepts("abc_DEF-123"));
        assert!(accepts(&"x".repeat(64)));
        for bad in ["", "a b", "a;b", "<script>", &"x".repeat(65)] {
            assert!(!accepts(bad), "{bad:?}");
        }
    }
}
