//! What handlers take from a request besides who asks: the body, ids in the path, query parameters.
//!
//! None of the extractors here fails. A handler first settles who asks and whether they may, and then asks for the
//! body or the parameters: so an anonymous request hears 401 whatever else is wrong with it.

use crate::error::{ApiError, Code, Problems};
use actix_web::body::{BodyStream, to_bytes_limited};
use actix_web::dev::{Decompress, Payload};
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use chrono::{DateTime, Datelike as _, Utc};
use futures::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// The most bytes of a body, unpacked.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The same where a list is expected.
pub(crate) const MAX_LIST_BODY_BYTES: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many type errors of one body are gathered.
const MAX_TYPE_ERRORS: usize = 16;

/// A JSON body of at most `MAX_BYTES`, not looked at yet. An empty one stands for `{}`.
pub(crate) struct Body<T, const MAX_BYTES: usize = MAX_BODY_BYTES> {
    bytes: Result<web::Bytes, ApiError>,
    is_json: bool,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned, const MAX_BYTES: usize> Body<T, MAX_BYTES> {
    /// The body as the request's type; what is only a matter of values is the handler's to check.
    pub(crate) fn read(self) -> Result<T, ApiError> {
        self.read_with_hash().map(|(value, _)| value)
    }

    /// As [`Body::read`], with the SHA-256 of the body's meaning (not of its spelling).
    pub(crate) fn read_with_hash(self) -> Result<(T, Vec<u8>), ApiError> {
        let bytes = self.bytes?;
        let value = if bytes.is_empty() {
            Value::Object(serde_json::Map::new())
        } else if self.is_json {
            serde_json::from_slice(&bytes)
                .map_err(|error| ApiError::new(Code::UnreadableBody).detail(format!("No JSON: {error}.")))?
        } else {
            return Err(ApiError::new(Code::UnsupportedMediaType));
        };
        let canonical = serde_json::to_vec(&value).map_err(ApiError::internal)?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &canonical)
            .as_ref()
            .to_vec();
        Ok((from_json(value)?, hash))
    }
}

/// Reads a value and names every field that has the wrong type or is unknown.
fn from_json<T: DeserializeOwned>(mut value: Value) -> Result<T, ApiError> {
    let mut problems = Problems::default();
    if !value.is_object() {
        problems.add("", "invalid_type", "must be a JSON object");
        return Err(problems.into_error());
    }
    refuse_nul(&value, &mut String::new(), &mut problems);
    let mut seen: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return problems.finish().map(|()| read),
            Err(error) => error,
        };
        let (pointer, code, detail) = describe(&error);
        let is_new = !seen.contains(&pointer);
        if is_new {
            problems.add(pointer.as_str(), code, detail);
        }
        // The rest can be looked at without the bad field, unless it is one that must be there.
        if !is_new || code == "required" || seen.len() >= MAX_TYPE_ERRORS || !remove(&mut value, &pointer) {
            return Err(problems.into_error());
        }
        seen.push(pointer);
    }
}

/// Where and what is wrong, in our words.
fn describe(error: &serde_path_to_error::Error<serde_json::Error>) -> (String, &'static str, String) {
    let mut pointer = String::new();
    for segment in error.path() {
        let name = match segment {
            serde_path_to_error::Segment::Map { key } => key.clone(),
            serde_path_to_error::Segment::Seq { index } => index.to_string(),
            _ => continue,
        };
        pointer = format!("{pointer}/{}", escape(&name));
    }
    let message = error.inner().to_string();
    let quoted = message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("missing field") {
        return (
            format!("{pointer}/{}", escape(quoted)),
            "required",
            "is required".into(),
        );
    }
    if message.starts_with("unknown field") {
        let own = format!("/{}", escape(quoted));
        let pointer = if pointer.ends_with(&own) {
            pointer
        } else {
            pointer + &own
        };
        return (pointer, "unknown_field", "is not known here".into());
    }
    if message.starts_with("unknown variant") {
        let known = message
            .split_once("expected ")
            .map_or("", |(_, known)| known)
            .replace("one of ", "");
        return (
            pointer,
            "invalid",
            format!("must be {}", known.replace('`', "\"")),
        );
    }
    // The rest of the message repeats the value, which may be a secret.
    let expected = match message.rsplit_once(", expected ").map(|(_, expected)| expected) {
        None => return (pointer, "invalid", "is not valid".into()),
        Some(text) if text.starts_with("struct ") => "an object",
        Some("u8" | "u16" | "u32" | "u64" | "usize" | "i16" | "i32" | "i64") => "a whole number in its range",
        Some("a sequence") => "a list",
        Some(text) => text,
    };
    (pointer, "invalid_type", format!("must be {expected}"))
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn remove(value: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        return false;
    };
    let name = last.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(&name).is_some(),
        Some(Value::Array(items)) => match name.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Postgres stores no text with U+0000, and no name here has one.
fn refuse_nul(value: &Value, pointer: &mut String, problems: &mut Problems) {
    let mut below = |name: &str, value: &Value, problems: &mut Problems| {
        let len = pointer.len();
        pointer.push('/');
        pointer.push_str(&escape(name));
        refuse_nul(value, pointer, problems);
        pointer.truncate(len);
    };
    match value {
        Value::String(text) if text.contains('\0') => {
            problems.add(pointer.as_str(), "invalid", "has the character U+0000");
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                below(&index.to_string(), item, problems);
            }
        }
        Value::Object(map) => {
            for (name, item) in map {
                below(name, item, problems);
            }
        }
        _ => {}
    }
}

impl<T: 'static, const MAX_BYTES: usize> FromRequest for Body<T, MAX_BYTES> {
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| {
                value
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_ascii_lowercase()
            })
            .is_some_and(|kind| {
                kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
            });
        let stream = BodyStream::new(Decompress::from_headers(payload.take(), request.headers()));
        Box::pin(async move {
            let arrival = tokio::time::timeout(BODY_TIMEOUT, to_bytes_limited(stream, MAX_BYTES));
            let bytes = match arrival.await {
                Ok(Ok(Ok(bytes))) => Ok(bytes),
                Ok(Ok(Err(error))) => Err(ApiError::new(Code::UnreadableBody)
                    .detail("The body did not arrive whole.")
                    .cause(error)),
                Ok(Err(_)) => Err(ApiError::new(Code::PayloadTooLarge)
                    .detail(format!("The body may have {MAX_BYTES} bytes."))),
                Err(_) => Err(ApiError::new(Code::RequestTimeout).detail(format!(
                    "The body did not arrive within {} seconds.",
                    BODY_TIMEOUT.as_secs()
                ))),
            };
            Ok(Self {
                bytes,
                is_json,
                kind: PhantomData,
            })
        })
    }
}

/// The id in the path (`{id}`). A malformed one is the nil id, which nothing has: it is answered as an unknown one.
pub(crate) struct Id<T>(pub T);

impl<T: From<Uuid>> FromRequest for Id<T> {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request
            .match_info()
            .get("id")
            .and_then(|text| Uuid::try_parse(text).ok());
        ready(Ok(Self(T::from(id.unwrap_or(Uuid::nil())))))
    }
}

/// Query parameters, not looked at yet.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    problems: Problems,
}

impl Query {
    /// A text; an empty one is absent.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let value = self
            .pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())?;
        if value.contains('\0') {
            self.problem(name, "has the character U+0000");
            return None;
        }
        (!value.is_empty()).then_some(value)
    }

    /// A value of some other type; an empty one is absent.
    pub(crate) fn value<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(name, format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// A time of the years 1 to 9999: Postgres' range is smaller than chrono's. An empty one is absent.
    pub(crate) fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        let time: DateTime<Utc> = self.value(name)?;
        if (1..=9999).contains(&time.year()) {
            return Some(time);
        }
        self.problem(name, "must be in the years 1 to 9999");
        None
    }

    /// Notes a parameter that is not valid.
    pub(crate) fn problem(&mut self, name: &str, detail: impl std::fmt::Display) {
        self.problems.add(format!("/{name}"), "invalid", detail);
    }

    /// The error that names every parameter that was not valid.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        self.problems.finish()
    }
}

impl FromRequest for Query {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = url::form_urlencoded::parse(request.query_string().as_bytes())
            .into_owned()
            .collect();
        ready(Ok(Self {
            pairs,
            problems: Problems::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read into")]
    struct Sample {
        name: String,
        count: Option<u8>,
        list: Option<Vec<u8>>,
    }

    fn problems(value: Value) -> String {
        from_json::<Sample>(value).unwrap_err().to_string()
    }

    #[test]
    fn every_bad_field_is_named() {
        let text = problems(json!({"name": "x", "count": "many", "list": [1, "two"], "colour": 1}));
        for part in [
            "count must be a whole number",
            "list/1 must be a whole number",
            "colour is not known here",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn times_stay_within_what_postgres_can_keep() {
        let read = |time: &str| {
            let mut query = Query {
                pairs: vec![("from".into(), time.into())],
                problems: Problems::default(),
            };
            let time = query.time("from");
            (time.is_some(), query.finish().is_ok())
        };
        for good in [
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2026-01-01T00:00:00+02:00",
        ] {
            assert_eq!(read(good), (true, true), "{good}");
        }
        assert_eq!(read(""), (false, true));
        for bad in [
            "0000-12-31T23:59:59Z",
            "+10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "yesterday",
        ] {
            assert_eq!(read(bad), (false, false), "{bad}");
        }
    }

    #[test]
    fn a_missing_field_and_a_non_object_are_named() {
        assert!(problems(json!({})).contains("name is required"));
        assert!(problems(json!(["x"])).contains("must be a JSON object"));
        assert!(problems(json!({"name": null})).contains("name must be a string"));
        assert!(problems(json!({"name": "a\0b"})).contains("U+0000"));
    }
}
