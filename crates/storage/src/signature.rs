//! Signatures of requests (AWS Signature Version 4, with the payload's hash in a header), by the store's clock.
//!
//! `reqsign` could do it, and loads the credentials; but it derives the day's key anew for each request and builds the
//! request twice, which came to more than half of what a small file costs. What is signed is written once here, and the
//! key is kept as long as it holds.

use crate::clock::Clock;
use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use reqsign_aws_v4::Credential;
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Error, Result, SignRequest, SigningCredential as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
/// How long credentials must still hold for a request.
const HEADROOM: Duration = Duration::from_secs(10);
/// What is signed of a request is seldom longer.
const USUAL_BYTES: usize = 1 << 10;
const DIGEST_DIGITS: usize = 2 * digest::SHA256_OUTPUT_LEN;

/// Signs for S3 in a region.
#[derive(Debug)]
pub(crate) struct RequestSigner {
    region: String,
    clock: Arc<Clock>,
    latest: Mutex<Option<Arc<Moment>>>,
}

/// What all signatures of one second share.
struct Moment {
    second: i64,
    access_key_id: String,
    secret_access_key: String,
    /// As the header has it.
    date: HeaderValue,
    /// Day, region, service.
    scope: String,
    /// Of that scope.
    key: hmac::Key,
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment")
            .field("second", &self.second)
            .finish_non_exhaustive()
    }
}

impl Moment {
    fn is_of(&self, credential: &Credential) -> bool {
        self.access_key_id == credential.access_key_id
            && self.secret_access_key == credential.secret_access_key
    }
}

impl RequestSigner {
    pub(crate) fn new(region: &str, clock: Arc<Clock>) -> Self {
        Self {
            region: region.to_owned(),
            clock,
            latest: Mutex::default(),
        }
    }

    fn moment(&self, credential: &Credential, time: Timestamp) -> Result<Arc<Moment>> {
        let second = time.as_second();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest.as_ref().filter(|moment| moment.is_of(credential));
        if let Some(moment) = known.filter(|moment| moment.second == second) {
            return Ok(moment.clone());
        }
        let scope = format!("{}/{}/s3/aws4_request", time.format_date(), self.region);
        let key = match known.filter(|moment| moment.scope == scope) {
            Some(moment) => moment.key.clone(),
            None => signing_key(&credential.secret_access_key, &scope),
        };
        let moment = Arc::new(Moment {
            second,
            access_key_id: credential.access_key_id.clone(),
            secret_access_key: credential.secret_access_key.clone(),
            date: header_value(time.format_iso8601())?,
            scope,
            key,
        });
        *latest = Some(moment.clone());
        Ok(moment)
    }

    /// Signs a request whose path and query are written as S3 wants them signed (see `endpoint.rs`), and which says what
    /// its payload's hash is.
    fn sign(&self, request: &mut Parts, credential: &Credential, time: Timestamp) -> Result<()> {
        let moment = self.moment(credential, time)?;
        let Some(host) = request.uri.authority() else {
            return Err(Error::unexpected("the request names no host"));
        };
        let host = header_value(host.as_str().to_owned())?;
        request.headers.insert(HOST, host);
        request.headers.insert(X_AMZ_DATE, moment.date.clone());
        if let Some(token) = &credential.session_token {
            let mut token = header_value(token.clone())?;
            token.set_sensitive(true);
            request.headers.insert(X_AMZ_SECURITY_TOKEN, token);
        }
        let mut headers: Vec<(&str, &HeaderValue)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        headers.sort_unstable_by_key(|(name, _)| *name);
        let mut names = String::with_capacity(USUAL_BYTES / 4);
        for (name, _) in &headers {
            if !names.is_empty() {
                names.push(';');
            }
            names.push_str(name);
        }
        let hash = sha256_hex(&canonical_request(request, &headers, &names));
        let mut text = Vec::with_capacity(USUAL_BYTES / 4);
        for line in [
            b"AWS4-HMAC-SHA256".as_slice(),
            moment.date.as_bytes(),
            moment.scope.as_bytes(),
        ] {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.extend_from_slice(&hash);
        let signature = hex::encode(hmac::sign(&moment.key, &text));
        let mut authorization = header_value(format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            credential.access_key_id, moment.scope
        ))?;
        authorization.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }
}

impl SignRequest for RequestSigner {
    type Credential = Credential;

    fn required_valid_until(&self, _credential: &Credential, _expires_in: Option<Duration>) -> Timestamp {
        Timestamp::now() + HEADROOM
    }

    async fn sign_request(
        &self,
        _context: &Context,
        request: &mut Parts,
        credential: Option<&Credential>,
        expires_in: Option<Duration>,
    ) -> Result<()> {
        let Some(credential) = credential else {
            return Ok(());
        };
        if !credential.is_valid_at(self.required_valid_until(credential, expires_in)) {
            return Err(Error::credential_invalid("the credentials are about to expire"));
        }
        self.sign(request, credential, self.clock.now())
    }
}

fn header_value(text: String) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(|error| Error::unexpected("no header value").with_source(error))
}

/// What is hashed for the signature.
fn canonical_request(request: &Parts, headers: &[(&str, &HeaderValue)], names: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(USUAL_BYTES);
    for part in [request.method.as_str(), request.uri.path()] {
        text.extend_from_slice(part.as_bytes());
        text.push(b'\n');
    }
    if let Some(query) = request.uri.query() {
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.sort_unstable();
        text.extend_from_slice(pairs.join("&").as_bytes());
    }
    text.push(b'\n');
    for (name, value) in headers {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value.as_bytes().trim_ascii());
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(names.as_bytes());
    text.push(b'\n');
    let payload = request.headers.get(X_AMZ_CONTENT_SHA256);
    text.extend_from_slice(payload.map_or(b"".as_slice(), HeaderValue::as_bytes));
    text
}

fn sha256_hex(bytes: &[u8]) -> [u8; DIGEST_DIGITS] {
    let mut digits = [0; DIGEST_DIGITS];
    // There are two digits for each byte.
    let _ = hex::encode_to_slice(digest::digest(&digest::SHA256, bytes), &mut digits);
    digits
}

/// The key of a day, region and service.
fn signing_key(secret_access_key: &str, scope: &str) -> hmac::Key {
    let secret = format!("AWS4{secret_access_key}");
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    for part in scope.split('/') {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(secret: &str, session_token: Option<&str>) -> Credential {
        Credential {
            access_key_id: "key".to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: session_token.map(str::to_owned),
            expires_in: None,
        }
    }

    fn head(uri: &str) -> Parts {
        let request = http::Request::put(uri)
            .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
            .header("x-amz-meta-text", " spaces around ")
            .header("content-type", "text/plain");
        request.body(()).unwrap().into_parts().0
    }

    /// Another implementation comes to the same.
    #[tokio::test]
    async fn the_signature_is_that_of_reqsign() {
        let theirs = reqsign_aws_v4::RequestSigner::new("s3", "eu-west-1");
        let ours = RequestSigner::new("eu-west-1", Arc::default());
        for uri in [
            "http://127.0.0.1:9000/photos/a%20b/%C3%A4%2B%25.jpg",
            "https://photos.s3.eu-west-1.amazonaws.com/a?uploadId=x%2Fy&partNumber=7",
            "https://photos.s3.eu-west-1.amazonaws.com/?uploads=&prefix=a%2F",
        ] {
            // Keys that change are followed.
            for (secret, token) in [
                ("secret", None),
                ("other", Some("token")),
                ("secret", Some("token")),
            ] {
                let credential = credential(secret, token);
                let mut signed = head(uri);
                theirs
                    .sign_request(&Context::new(), &mut signed, Some(&credential), None)
                    .await
                    .unwrap();
                let now = Timestamp::now();
                let time = [now, now - Duration::from_secs(1)]
                    .into_iter()
                    .find(|time| signed.headers[X_AMZ_DATE] == time.format_iso8601());
                let mut head = head(uri);
                ours.sign(&mut head, &credential, time.unwrap()).unwrap();
                assert_eq!(head.headers, signed.headers, "{uri}");
                // The same second again, and another day.
                let mut again = self::head(uri);
                ours.sign(&mut again, &credential, time.unwrap()).unwrap();
                assert_eq!(again.headers, signed.headers, "{uri}");
                ours.sign(&mut again, &credential, now + Duration::from_secs(86_400))
                    .unwrap();
                assert_ne!(again.headers[AUTHORIZATION], signed.headers[AUTHORIZATION]);
            }
        }
    }

    #[tokio::test]
    async fn credentials_that_are_about_to_expire_sign_nothing() {
        let signer = RequestSigner::new("eu-west-1", Arc::default());
        let mut credential = credential("secret", None);
        for (seconds, signs) in [(5, false), (60, true)] {
            credential.expires_in = Some(Timestamp::now() + Duration::from_secs(seconds));
            let signed = signer
                .sign_request(
                    &Context::new(),
                    &mut head("http://host/key"),
                    Some(&credential),
                    None,
                )
                .await;
            assert_eq!(signed.is_ok(), signs);
        }
    }
}
