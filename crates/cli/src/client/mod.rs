//! The HTTP API as this command uses it: addresses, credentials and their renewal, pages of lists, and refusals
//! turned into [`Failure`]s. Answers stay JSON values, so that `--json` shows exactly what the server said.

mod address;
mod credential;

pub(crate) use credential::keep_tokens;

use crate::config::ConfigStore;
use crate::problem::{Failure, Problem};
use address::{is_this_machine, parse_base};
use anyhow::{Context as _, Result};
use credential::{Credential, saved_credential};
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use std::error::Error as _;
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_PAGE: usize = 200;
const DEFAULT_URL: &str = "http://127.0.0.1:8000";

/// A connection to one server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    store: ConfigStore,
    credential: Mutex<Credential>,
}

/// One request, to be sent as often as it takes.
pub(crate) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Value>,
    timeout: Option<Duration>,
}

impl Call {
    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Failure::Usage(format!("{value:?} cannot be sent as {name}")))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }
}

/// Some of a list.
pub(crate) struct Page {
    /// The items, at most as many as asked for.
    pub(crate) items: Vec<Value>,
    /// Whether there are more.
    pub(crate) more: bool,
}

impl Client {
    /// A client for the server named by `api_url`, else by the configuration file, else on this machine.
    /// A saved sign-in is used only with the server it was made for.
    pub(crate) fn new(api_url: Option<&str>, token: Option<&str>, store: ConfigStore) -> Result<Self> {
        let config = store.load()?;
        let given = api_url.filter(|text| !text.is_empty());
        let base = parse_base(given.or(config.api_url.as_deref()).unwrap_or(DEFAULT_URL))?;
        let credential = match token.filter(|text| !text.is_empty()) {
            Some(token) => Credential::Given(token.to_owned()),
            None => saved_credential(&config, &base),
        };
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("uploader/", env!("CARGO_PKG_VERSION")));
        if is_this_machine(&base) {
            http = http.no_proxy();
        }
        Ok(Self {
            http: http.build()?,
            base,
            store,
            credential: Mutex::new(credential),
        })
    }

    /// The server's address, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether a password sent to this server could be read on the way.
    pub(crate) fn is_readable_on_the_way(&self) -> bool {
        self.base.scheme() == "http" && !is_this_machine(&self.base)
    }

    /// Where the sign-in is kept.
    pub(crate) fn store(&self) -> &ConfigStore {
        &self.store
    }

    /// A request to `/api/<segments>`.
    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("api").extend(segments);
        }
        Call {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            timeout: Some(REQUEST_TIMEOUT),
        }
    }

    /// Reads one thing.
    pub(crate) async fn get(&self, segments: &[&str]) -> Result<Value> {
        self.json(&self.call(Method::GET, segments)).await
    }

    /// Reads one thing that is of no use later.
    pub(crate) async fn get_within(&self, segments: &[&str], timeout: Duration) -> Result<Value> {
        let call = Call {
            timeout: Some(timeout),
            ..self.call(Method::GET, segments)
        };
        self.json(&call).await
    }

    /// Sends `body` and reads the answer.
    pub(crate) async fn send(&self, method: Method, segments: &[&str], body: Value) -> Result<Value> {
        let call = Call {
            body: Some(body),
            ..self.call(method, segments)
        };
        self.json(&call).await
    }

    /// Deletes one thing.
    pub(crate) async fn delete(&self, segments: &[&str], query: &[(&str, String)]) -> Result<()> {
        let mut call = self.call(Method::DELETE, segments);
        append_query(&mut call.url, query);
        self.authorized(&call).await.map(drop)
    }

    /// Reads a list, page by page, up to `limit` items.
    pub(crate) async fn list(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        limit: Option<usize>,
    ) -> Result<Page> {
        let mut page = Page {
            items: Vec::new(),
            more: false,
        };
        let mut cursor: Option<String> = None;
        loop {
            let wanted = limit
                .map_or(MAX_PAGE, |limit| limit - page.items.len())
                .min(MAX_PAGE);
            let mut call = self.call(Method::GET, segments);
            append_query(&mut call.url, query);
            append_query(&mut call.url, &[("limit", wanted.to_string())]);
            if let Some(cursor) = cursor.take() {
                append_query(&mut call.url, &[("cursor", cursor)]);
            }
            let mut answer = self.json(&call).await?;
            cursor = answer["next_cursor"].as_str().map(str::to_owned);
            match if answer.is_array() {
                answer
            } else {
                answer["items"].take()
            } {
                Value::Array(items) => page.items.extend(items),
                _ => anyhow::bail!("{} answered with something that is no list", self.base()),
            }
            let full = limit.is_some_and(|limit| page.items.len() >= limit);
            if full || cursor.is_none() {
                let kept = limit.unwrap_or(usize::MAX);
                page.more = cursor.is_some() || page.items.len() > kept;
                page.items.truncate(kept);
                return Ok(page);
            }
        }
    }

    /// Makes a session. An attempt whose answer got lost is repeated under the same idempotency key, so that at
    /// most one session comes of it.
    pub(crate) async fn create_session(&self, body: Value, idempotency_key: &str) -> Result<Value> {
        let call = self
            .call(Method::POST, &["sessions"])
            .header("idempotency-key", idempotency_key)?;
        let call = Call {
            body: Some(body),
            ..call
        };
        let mut attempt = 1;
        loop {
            match self.json(&call).await {
                Err(error) if attempt < 3 && error.downcast_ref().is_some_and(Failure::is_passing) => {
                    tokio::time::sleep(Duration::from_millis(300 * attempt)).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Opens a session's stream of events. The answer may be something else than a stream; its headers tell.
    pub(crate) async fn events(&self, session: &str, last_event_id: Option<&str>) -> Result<Response> {
        let mut call = self.call(Method::GET, &["sessions", session, "events"]);
        call.headers
            .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_event_id {
            call = call.header("last-event-id", id)?;
        }
        call.timeout = None;
        match tokio::time::timeout(REQUEST_TIMEOUT / 2, self.authorized(&call)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    /// Reads something large, piece by piece. What breaks off is an error.
    pub(crate) async fn download(&self, segments: &[&str], into: &mut impl std::io::Write) -> Result<()> {
        let call = Call {
            timeout: None,
            ..self.call(Method::GET, segments)
        };
        let mut answer = match tokio::time::timeout(REQUEST_TIMEOUT, self.authorized(&call)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        loop {
            let piece = match tokio::time::timeout(REQUEST_TIMEOUT, answer.chunk()).await {
                Ok(piece) => piece.map_err(|error| self.transport_error(&error))?,
                Err(_) => return Err(self.unreachable("the answer stopped arriving")),
            };
            match piece {
                Some(piece) => into.write_all(&piece)?,
                None => return Ok(()),
            }
        }
    }

    /// Posts to one of the sign-in addresses, which need no credential.
    pub(crate) async fn post_anonymously(&self, segments: &[&str], body: Value) -> Result<Value> {
        let call = Call {
            body: Some(body),
            ..self.call(Method::POST, segments)
        };
        self.read_json(check(self.attempt(&call, None).await?).await?)
            .await
    }

    async fn json(&self, call: &Call) -> Result<Value> {
        let answer = self.authorized(call).await?;
        self.read_json(answer).await
    }

    async fn read_json(&self, answer: Response) -> Result<Value> {
        let body = answer
            .bytes()
            .await
            .map_err(|error| self.transport_error(&error))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("{} answered with no JSON", self.base()))
    }

    /// Sends a request with the credential, renewing it once where the server no longer takes it.
    async fn authorized(&self, call: &Call) -> Result<Response> {
        let token = self.token().await?;
        let answer = self.attempt(call, Some(&token)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(renewed) = self.renew(&token).await?
        {
            return check(self.attempt(call, Some(&renewed)).await?).await;
        }
        check(answer).await
    }

    async fn attempt(&self, call: &Call, token: Option<&str>) -> Result<Response> {
        let mut request = self
            .http
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone());
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(timeout) = call.timeout {
            request = request.timeout(timeout);
        }
        request.send().await.map_err(|error| self.transport_error(&error))
    }

    fn transport_error(&self, error: &reqwest::Error) -> anyhow::Error {
        let mut cause = error.source();
        let mut text = error.to_string();
        // The innermost cause is the one that says something ("Connection refused").
        while let Some(inner) = cause {
            text = inner.to_string();
            cause = inner.source();
        }
        self.unreachable(if error.is_timeout() {
            "no answer in time"
        } else {
            &text
        })
    }

    fn unreachable(&self, cause: &str) -> anyhow::Error {
        Failure::Unreachable {
            url: self.base().to_owned(),
            cause: cause.to_owned(),
        }
        .into()
    }
}

async fn check(answer: Response) -> Result<Response> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (status, mut headers) = (answer.status().as_u16(), answer.headers().clone());
    if status != StatusCode::TOO_MANY_REQUESTS {
        headers.remove(RETRY_AFTER);
    }
    let body = answer.bytes().await.unwrap_or_default();
    Err(Failure::Problem(Box::new(Problem::read(status, &headers, &body))).into())
}

fn append_query(url: &mut Url, query: &[(&str, String)]) {
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(api_url: &str) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigStore::at(Some(folder.path().join("config.json"))).unwrap();
        Client::new(Some(api_url), None, store).unwrap()
    }

    #[test]
    fn addresses_keep_the_base_path_and_escape_names() {
        let call =
            client("https://example.org/up/").call(Method::GET, &["source-roots", "a b/c?", "entries"]);
        assert_eq!(
            call.url.as_str(),
            "https://example.org/up/api/source-roots/a%20b%2Fc%3F/entries"
        );
    }

    #[test]
    fn passwords_are_safe_over_tls_and_within_this_machine() {
        assert!(client("http://example.org").is_readable_on_the_way());
        for safe in [
            "https://example.org",
            "http://127.0.0.1:1",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert!(!client(safe).is_readable_on_the_way(), "{safe}");
        }
    }
}
