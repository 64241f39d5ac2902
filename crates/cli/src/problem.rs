//! What can go wrong, told so that a person knows what to do next. [`Failure`] is everything the command
//! explains itself; anything else (a full disk, a closed pipe) travels as the plain error it is.

use crate::render::printable;
use serde::Deserialize;
use std::fmt;

/// An error that this command knows how to explain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// The server said no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No answer came.
    #[error(
        "no answer from {url}: {cause}\nhint: is the server running, and is the address right (--api-url or UPLOADER_API_URL)?"
    )]
    Unreachable {
        /// The server's address.
        url: String,
        /// Why, in the words of the transport.
        cause: String,
    },
    /// There is no credential for this server.
    #[error("{reason}\nhint: sign in with `uploader login`")]
    NotSignedIn {
        /// Why there is none.
        reason: String,
    },
}

impl Failure {
    /// A command line that makes no sense.
    pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
        Self::Usage(text.into()).into()
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => problem.status >= 500 || matches!(problem.status, 408 | 429),
            Self::Usage(_) | Self::NotSignedIn { .. } => false,
        }
    }

    /// Whether the server understood, and does not accept what it was given.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Problem(problem) if matches!(problem.status, 400 | 401 | 403 | 422))
    }

    /// What happened, in a few words for a line of progress.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Unreachable { cause, .. } => cause.clone(),
            Self::Problem(problem) => format!("the server answered {}", problem.status),
            other => other.to_string(),
        }
    }
}

/// A refusal by the server: `application/problem+json` (RFC 9457), read leniently.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    title: Option<String>,
    detail: Option<String>,
    /// The stable cause, such as `validation_failed`.
    pub(crate) code: Option<String>,
    request_id: Option<String>,
    errors: Option<Vec<FieldProblem>>,
    #[serde(skip)]
    retry_after: Option<String>,
}

/// One field that the server did not accept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldProblem {
    pointer: Option<String>,
    code: Option<String>,
    detail: Option<String>,
}

impl Problem {
    /// Reads a refusal from an answer's status, headers and body; the body may be anything.
    pub(crate) fn read(status: u16, headers: &reqwest::header::HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_default();
        problem.status = status;
        problem.request_id = problem.request_id.or_else(|| header("x-request-id"));
        problem.retry_after = header("retry-after");
        problem
    }

    fn hint(&self) -> Option<String> {
        let text = match (self.status, self.code.as_deref()) {
            (_, Some("invalid_credentials")) => "check the name and the password",
            (_, Some("password_change_required")) => "change it with `uploader change-password`",
            (401, _) => "sign in with `uploader login` (or renew the token in UPLOADER_TOKEN)",
            (403, _) => "your role does not allow this; ask an owner or admin of your company",
            (404, _) if self.title.is_none() => "is this the address of Data Uploader (--api-url)?",
            (404, _) => "check the id; the `list` commands show what you can see",
            (_, Some("cycle_busy")) => {
                "another upload of this cycle is not finished: see `uploader sessions list`, then watch or cancel it"
            }
            (_, Some("no_receipt")) => {
                "a receipt has what came to its end as completed, or completed with errors"
            }
            (429, _) => {
                return Some(self.retry_after.as_ref().map_or_else(
                    || "wait a little, then try again".to_owned(),
                    |wait| format!("try again in {} s", printable(wait)),
                ));
            }
            (502..=504, _) => "a part of the service is down; try again in a moment",
            (500.., _) => "this is a fault of the server; its operator finds it by the request id",
            (300..=399, _) => "the server sends elsewhere; give its final address (--api-url)",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.title {
            Some(title) => f.write_str(&printable(title))?,
            None => write!(f, "the server answered {}", self.status)?,
        }
        // A detail that says the title again says nothing.
        let says_more = |detail: &&String| self.title.as_deref() != Some(detail.trim_end_matches('.'));
        if let Some(detail) = self.detail.as_ref().filter(says_more) {
            write!(f, ": {}", printable(detail))?;
        }
        for field in self.errors.iter().flatten() {
            let text = field.detail.as_ref().or(field.code.as_ref());
            write!(
                f,
                "\n  {}: {}",
                printable(field.pointer.as_deref().unwrap_or("?")),
                printable(text.map_or("not accepted", String::as_str))
            )?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\nrequest id: {}", printable(id))?;
        }
        match self.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};

    #[test]
    fn a_refusal_shows_fields_request_id_and_hint() {
        let body = br#"{"title":"Validation failed","status":422,"detail":"1 field","code":"validation_failed",
            "request_id":"r-1","errors":[{"pointer":"/settings/concurrency","code":"range","detail":"must be 1 to 256"}]}"#;
        let text = Problem::read(422, &HeaderMap::new(), body).to_string();
        assert_eq!(
            text,
            "Validation failed: 1 field\n  /settings/concurrency: must be 1 to 256\nrequest id: r-1"
        );
        let text = Problem::read(
            401,
            &HeaderMap::new(),
            br#"{"title":"Unauthorized","detail":"Unauthorized.","errors":null}"#,
        )
        .to_string();
        assert_eq!(
            text,
            "Unauthorized\nhint: sign in with `uploader login` (or renew the token in UPLOADER_TOKEN)"
        );
    }

    #[test]
    fn a_body_that_is_no_problem_still_tells_the_status() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("r-2"));
        let text = Problem::read(502, &headers, b"<html>bad gateway</html>").to_string();
        assert!(
            text.starts_with("the server answered 502\nrequest id: r-2\nhint: "),
            "{text}"
        );
    }

    #[test]
    fn only_passing_troubles_are_worth_another_attempt() {
        let problem = |status| {
            Failure::Problem(Box::new(Problem {
                status,
                ..Problem::default()
            }))
        };
        assert!(problem(503).is_passing() && problem(429).is_passing());
        assert!(!problem(404).is_passing() && !problem(401).is_passing());
    }
}
