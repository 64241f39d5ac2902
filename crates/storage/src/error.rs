//! The one error of the client: what happened, to what, and whether trying again can help.

use std::fmt;

/// A request to the store that failed, for good or after all its attempts.
///
/// Its text says the operation, the object, the store's code and message and the request id, and no secrets.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(Box<Details>);

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The store refused the credentials, or refused them this.
    AccessDenied,
    /// No such bucket.
    NoSuchBucket,
    /// The multipart upload was completed or aborted, or never was.
    NoSuchUpload,
    /// No such object.
    NoSuchKey,
    /// The store asked for fewer requests.
    Throttled,
    /// No answer, or no progress, in time.
    Timeout,
    /// The store received or holds other bytes than were meant.
    ChecksumMismatch,
    /// The object exists and may not be overwritten.
    PreconditionFailed,
    /// No connection: name not found, refused, no route, certificate not trusted.
    Unreachable,
    /// The connection broke while the request was under way.
    ConnectionLost,
    /// No credentials were found.
    CredentialsMissing,
    /// The bucket is in another region, or behind another address.
    WrongRegion,
    /// The clocks of this machine and the store differ too much.
    ClockSkewed,
    /// The request cannot be sent like this (an empty key, a header value that is no text).
    InvalidRequest,
    /// The answer is not one of S3.
    InvalidResponse,
    /// Any other answer.
    Other {
        /// The HTTP status.
        status: u16,
    },
}

/// A failed attempt, before it is known which request it belonged to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: StorageErrorKind,
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<std::time::Duration>,
}

impl Failure {
    /// A failure that no answer of the store stands behind; repeated when its kind is a passing one.
    pub(crate) fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        use StorageErrorKind as Kind;
        Self {
            kind,
            status: None,
            code: None,
            message: message.into(),
            request_id: None,
            retryable: matches!(
                kind,
                Kind::Timeout | Kind::Unreachable | Kind::ConnectionLost | Kind::Throttled
            ),
            retry_after: None,
        }
    }

    /// Nobody knows whether the store carried the request out.
    pub(crate) fn is_ambiguous(&self) -> bool {
        use StorageErrorKind as Kind;
        matches!(
            self.kind,
            Kind::Timeout | Kind::ConnectionLost | Kind::InvalidResponse
        ) || self.status.is_some_and(|status| status >= 500)
    }

    pub(crate) fn for_request(self, operation: &'static str, target: String, attempts: u32) -> StorageError {
        StorageError(Box::new(Details {
            operation,
            target,
            attempts,
            failure: self,
        }))
    }
}

#[derive(Debug)]
struct Details {
    operation: &'static str,
    target: String,
    attempts: u32,
    failure: Failure,
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = &self.failure;
        write!(f, "{} {}: ", self.operation, self.target)?;
        match (failure.code.as_deref(), failure.status) {
            (Some(code), Some(status)) => write!(f, "{code} ({status})")?,
            (Some(code), None) => f.write_str(code)?,
            (None, Some(status)) => write!(f, "status {status}")?,
            (None, None) => f.write_str(failure.kind.text())?,
        }
        if !failure.message.is_empty() {
            write!(f, ": {}", failure.message)?;
        }
        if let Some(request_id) = &failure.request_id {
            write!(f, " [request {request_id}]")?;
        }
        if self.attempts > 1 {
            write!(f, " (after {} attempts)", self.attempts)?;
        }
        Ok(())
    }
}

impl StorageErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::AccessDenied => "access denied",
            Self::NoSuchBucket => "no such bucket",
            Self::NoSuchUpload => "no such multipart upload",
            Self::NoSuchKey => "no such object",
            Self::Throttled => "throttled",
            Self::Timeout => "timed out",
            Self::ChecksumMismatch => "checksum mismatch",
            Self::PreconditionFailed => "the object exists",
            Self::Unreachable => "cannot connect",
            Self::ConnectionLost => "connection lost",
            Self::CredentialsMissing => "no credentials",
            Self::WrongRegion => "wrong region",
            Self::ClockSkewed => "clock skewed",
            Self::InvalidRequest => "invalid request",
            Self::InvalidResponse => "unexpected answer",
            Self::Other { .. } => "storage error",
        }
    }
}

/// Codes that say the credentials themselves are no good, whatever object was asked for.
const CREDENTIAL_CODES: &[&str] = &[
    "AccountProblem",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "CredentialsNotSupported",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
];

impl StorageError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StorageErrorKind {
        self.0.failure.kind
    }

    /// The store's code, such as `SlowDown`, when it gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.failure.code.as_deref()
    }

    /// The HTTP status, when there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.failure.status
    }

    /// How often the request was sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Sending the request again, later, may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.failure.retryable
    }

    /// No other request to this bucket will do better: the credentials are refused or missing, or the bucket is
    /// not there. A plain `AccessDenied` may concern one object alone and does not count.
    #[must_use]
    pub fn is_permanent_for_bucket(&self) -> bool {
        use StorageErrorKind as Kind;
        matches!(
            self.kind(),
            Kind::NoSuchBucket | Kind::CredentialsMissing | Kind::WrongRegion | Kind::ClockSkewed
        ) || self.code().is_some_and(is_credential_code)
    }
}

/// The code says that the credentials themselves are no good.
pub(crate) fn is_credential_code(code: &str) -> bool {
    CREDENTIAL_CODES.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_happened_to_what() {
        let mut failure = Failure::new(StorageErrorKind::AccessDenied, "Access Denied");
        failure.status = Some(403);
        failure.code = Some("AccessDenied".to_owned());
        failure.request_id = Some("4442587FB7D0A2F9".to_owned());
        let error = failure.for_request("put", "s3://photos/a b.jpg".to_owned(), 3);
        assert_eq!(
            error.to_string(),
            "put s3://photos/a b.jpg: AccessDenied (403): Access Denied [request 4442587FB7D0A2F9] (after 3 attempts)"
        );
        assert!(!error.is_permanent_for_bucket());
    }

    #[test]
    fn refused_credentials_concern_the_whole_bucket() {
        for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"] {
            let mut failure = Failure::new(StorageErrorKind::AccessDenied, "");
            failure.code = Some(code.to_owned());
            assert!(
                failure
                    .for_request("put", String::new(), 1)
                    .is_permanent_for_bucket(),
                "{code}"
            );
        }
    }
}
