//! What an answer that is no success means: which failure it is, and whether trying again can help.

use crate::bucket::Bucket;
use crate::error::{Failure, StorageErrorKind, is_credential_code};
use crate::request::Call;
use crate::xml::ErrorAnswer;
use http::header::{DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

const MESSAGE_CHARS: usize = 300;

impl Bucket {
    /// What an answer that is no success means.
    pub(crate) fn judge(
        &self,
        call: &Call<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        answer: Option<ErrorAnswer>,
    ) -> Failure {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let answer = answer.unwrap_or_default();
        let code = answer.code.filter(|code| !code.is_empty());
        let region = answer.region.or_else(|| header("x-amz-bucket-region"));
        let kind = self.kind_of(call, status, code.as_deref(), region.as_deref());
        let message = match kind {
            StorageErrorKind::WrongRegion => match region {
                Some(region) => format!("the bucket is in the region {region}, not {}", self.shared.region),
                None => format!(
                    "the store redirects to {}; set the right region and endpoint",
                    header(LOCATION.as_str()).unwrap_or_else(|| "another address".to_owned())
                ),
            },
            StorageErrorKind::ClockSkewed => format!(
                "this machine's clock differs too much from the store's, which says {}; set it",
                header(DATE.as_str()).unwrap_or_else(|| "nothing about the time".to_owned())
            ),
            _ => printable(&answer.message.unwrap_or_default()),
        };
        // The answer to HEAD has no code.
        let is_by_clock = kind == StorageErrorKind::ClockSkewed || (status == 403 && code.is_none());
        Failure {
            kind,
            status: Some(status.as_u16()),
            retryable: is_passing(kind, status, code.as_deref())
                || is_by_clock && self.shared.clock.learn(headers),
            code,
            message,
            request_id: answer
                .request_id
                .or_else(|| header("x-amz-request-id"))
                .map(|id| printable(&id)),
            retry_after: header(RETRY_AFTER.as_str())
                .and_then(|seconds| seconds.trim().parse().ok())
                .map(Duration::from_secs),
        }
    }

    fn kind_of(
        &self,
        call: &Call<'_>,
        status: StatusCode,
        code: Option<&str>,
        region: Option<&str>,
    ) -> StorageErrorKind {
        use StorageErrorKind as Kind;
        let elsewhere = region.is_some_and(|region| region != self.shared.region);
        match (code.unwrap_or_default(), status.as_u16()) {
            ("NoSuchBucket", _) => Kind::NoSuchBucket,
            ("NoSuchUpload", _) => Kind::NoSuchUpload,
            ("NoSuchKey", _) => Kind::NoSuchKey,
            ("RequestTimeTooSkewed", _) => Kind::ClockSkewed,
            ("PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException", _) => {
                Kind::WrongRegion
            }
            ("AuthorizationHeaderMalformed", _) | ("", 400) if elsewhere => Kind::WrongRegion,
            ("RequestTimeout", _) => Kind::Timeout,
            ("BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch", _) => {
                Kind::ChecksumMismatch
            }
            (code, _) if is_throttle_code(code) => Kind::Throttled,
            (code, _) if is_credential_code(code) => Kind::AccessDenied,
            (_, 401 | 403) => Kind::AccessDenied,
            (_, 412) => Kind::PreconditionFailed,
            (_, 408) => Kind::Timeout,
            (_, 429 | 503) => Kind::Throttled,
            (_, 300..=399) => Kind::WrongRegion,
            ("", 404) if call.key.is_some() => Kind::NoSuchKey,
            ("", 404) => Kind::NoSuchBucket,
            _ => Kind::Other {
                status: status.as_u16(),
            },
        }
    }
}

fn is_throttle_code(code: &str) -> bool {
    code.starts_with("SlowDown")
        || matches!(
            code,
            "ServiceUnavailable"
                | "Throttling"
                | "ThrottlingException"
                | "RequestLimitExceeded"
                | "RequestThrottled"
                | "TooManyRequests"
        )
}

/// The failure passes, or a fresh transfer of the same bytes may go better.
fn is_passing(kind: StorageErrorKind, status: StatusCode, code: Option<&str>) -> bool {
    use StorageErrorKind as Kind;
    matches!(kind, Kind::Throttled | Kind::Timeout | Kind::ChecksumMismatch)
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && code != Some("NotImplemented")
        || matches!(
            code,
            Some("InternalError" | "OperationAborted" | "ConditionalRequestConflict" | "IncompleteBody")
        )
}

/// What the store says may be anything; a log line and a database row take this much of it.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut_and_cleaned() {
        assert_eq!(printable("a\nb\u{1b}[0m"), "a b [0m");
        assert_eq!(printable(&"x".repeat(1000)).len(), MESSAGE_CHARS);
    }
}
