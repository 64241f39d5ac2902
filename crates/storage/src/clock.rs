//! The time that requests are signed with: this machine's, until a store refuses it; from then on the store's.
//!
//! A store refuses requests that were signed a quarter of an hour before or after its own time. Its answer says what
//! that is, so that a machine whose clock is off can work all the same.

use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, DATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Error, Result, SignRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Differences below this are no reason to refuse a request, and come of slow answers, too.
const TOLERANCE_S: i64 = 60;
const X_AMZ_DATE: &str = "x-amz-date";

/// By how many seconds the store's clock is ahead of this machine's, as far as it matters.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    /// Takes the time from an answer that refused ours. Whether a request that is signed by it may do better.
    pub(crate) fn learn(&self, headers: &HeaderMap) -> bool {
        let told = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(told) = told.and_then(|date| Timestamp::parse_rfc2822(date).ok()) else {
            return false;
        };
        let ahead_s = told.as_second() - Timestamp::now().as_second();
        let ahead_s = if ahead_s.abs() > TOLERANCE_S { ahead_s } else { 0 };
        let before_s = self.0.swap(ahead_s, Ordering::Relaxed);
        if (ahead_s - before_s).abs() > TOLERANCE_S {
            tracing::warn!(
                ahead_s,
                "the store's clock differs from this machine's: requests are signed by the store's; set this machine's clock"
            );
        }
        // Others may have learned it while this request was on its way.
        ahead_s != 0 || before_s != 0
    }

    /// The store's time, where it is another than this machine's.
    fn corrected(&self) -> Option<Timestamp> {
        let ahead_s = self.0.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead_s.unsigned_abs());
        match ahead_s {
            0 => None,
            1.. => Some(Timestamp::now() + difference),
            _ => Some(Timestamp::now() - difference),
        }
    }
}

/// Signs for S3 in a region, by that clock.
#[derive(Debug)]
pub(crate) struct ClockedSigner {
    region: String,
    clock: Arc<Clock>,
    signer: RequestSigner,
}

impl ClockedSigner {
    pub(crate) fn new(region: &str, clock: Arc<Clock>) -> Self {
        Self {
            region: region.to_owned(),
            clock,
            signer: RequestSigner::new("s3", region),
        }
    }

    /// Signs once more what is signed, dated `time`: the signer itself knows this machine's time alone.
    fn date(&self, request: &mut Parts, credential: &Credential, time: Timestamp) -> Result<()> {
        let scope = format!("{}/{}/s3/aws4_request", time.format_date(), self.region);
        let date = time.format_iso8601();
        request.headers.insert(X_AMZ_DATE, value(&date)?);
        let names = signed_headers(request)?;
        let canonical = canonical_request(request, &names);
        let digest = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", credential.secret_access_key).into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part);
        }
        let mut authorization = value(&format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            credential.access_key_id,
            hex::encode(mac(&key, &text))
        ))?;
        authorization.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }
}

impl SignRequest for ClockedSigner {
    type Credential = Credential;

    fn required_valid_until(&self, credential: &Credential, expires_in: Option<Duration>) -> Timestamp {
        self.signer.required_valid_until(credential, expires_in)
    }

    async fn sign_request(
        &self,
        context: &Context,
        request: &mut Parts,
        credential: Option<&Credential>,
        expires_in: Option<Duration>,
    ) -> Result<()> {
        self.signer
            .sign_request(context, request, credential, expires_in)
            .await?;
        match (self.clock.corrected(), credential) {
            (Some(time), Some(credential)) => self.date(request, credential, time),
            _ => Ok(()),
        }
    }
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| Error::unexpected("no header value").with_source(error))
}

/// The names that a signature speaks of, as it lists them.
fn signed_headers(request: &Parts) -> Result<String> {
    let authorization = request
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    authorization
        .and_then(|text| text.split("SignedHeaders=").nth(1)?.split(',').next())
        .map(str::to_owned)
        .ok_or_else(|| Error::unexpected("the request is not signed"))
}

/// What is signed. Paths and queries are written as S3 wants them signed already; see `endpoint.rs`.
fn canonical_request(request: &Parts, names: &str) -> String {
    let header = |name: &str| {
        let value = request.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().trim()
    };
    let mut query: Vec<&str> = request
        .uri
        .query()
        .map_or_else(Vec::new, |query| query.split('&').collect());
    query.sort_unstable();
    let headers: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)))
        .collect();
    format!(
        "{}\n{}\n{}\n{headers}\n{names}\n{}",
        request.method,
        request.uri.path(),
        query.join("&"),
        header("x-amz-content-sha256")
    )
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(ahead: i64) -> HeaderMap {
        let time = Timestamp::from_second(Timestamp::now().as_second() + ahead).unwrap();
        let date = time.format_http_date();
        [(DATE, date.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_stores_time_is_taken_and_put_back() {
        let clock = Clock::default();
        assert!(!clock.learn(&HeaderMap::new()) && !clock.learn(&says(5)));
        assert_eq!(clock.corrected(), None);
        for hour in [3_600, -3_600] {
            assert!(clock.learn(&says(hour)));
            let ahead_s = clock.corrected().unwrap().as_second() - Timestamp::now().as_second();
            assert!((ahead_s - hour).abs() <= 1);
            assert!(
                clock.learn(&says(hour)),
                "one that was on its way at the first refusal"
            );
        }
        // Somebody has set this machine's clock.
        assert!(clock.learn(&says(0)));
        assert_eq!(clock.corrected(), None);
        assert!(!clock.learn(&says(0)));
    }

    /// Dated as it was, a request is signed as the signer signs it.
    #[tokio::test]
    async fn the_signature_is_that_of_the_signer() {
        let credential = Credential {
            access_key_id: "key".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: Some("token".to_owned()),
            expires_in: None,
        };
        let signer = ClockedSigner::new("eu-west-1", Arc::default());
        for uri in [
            "http://127.0.0.1:9000/photos/a%20b/%C3%A4%2B%25.jpg",
            "https://photos.s3.eu-west-1.amazonaws.com/a?uploadId=x%2Fy&partNumber=7",
            "https://photos.s3.eu-west-1.amazonaws.com/?uploads=&prefix=a%2F",
        ] {
            let request = http::Request::put(uri).header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            signer
                .sign_request(&Context::new(), &mut head, Some(&credential), None)
                .await
                .unwrap();
            let (signed, now) = (head.headers.clone(), Timestamp::now());
            let seconds = [now, now - Duration::from_secs(1)];
            let time = seconds
                .into_iter()
                .find(|time| signed[X_AMZ_DATE] == time.format_iso8601());
            signer.date(&mut head, &credential, time.unwrap()).unwrap();
            assert_eq!(head.headers, signed, "{uri}");
            signer
                .date(&mut head, &credential, now + Duration::from_secs(3_600))
                .unwrap();
            assert_ne!(head.headers[AUTHORIZATION], signed[AUTHORIZATION]);
        }
    }
}
