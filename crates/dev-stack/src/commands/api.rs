//! The product's HTTP API for somebody who does not give up: gateways come and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long a request is repeated for.
const INSIST_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who is signed in.
pub(super) struct Api {
    http: Client<HttpConnector, Full<Bytes>>,
    /// Every gateway's URL; each request goes to the next.
    gateways: Arc<[String]>,
    next: AtomicUsize,
    username: String,
    password: String,
    token: Mutex<String>,
}

impl Api {
    pub(super) fn new(gateways: Arc<[String]>, username: &str, password: &str) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            gateways,
            next: AtomicUsize::new(0),
            username: username.to_owned(),
            password: password.to_owned(),
            token: Mutex::default(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        success(path, self.insist(Method::GET, path, None, None).await?)
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        success(path, self.insist(Method::POST, path, Some(body), None).await?)
    }

    /// Repeats a request until there is an answer that is no error of the server's.
    ///
    /// # Errors
    /// When there is none for a minute.
    pub(super) async fn insist(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<(u16, Value)> {
        let start = Instant::now();
        loop {
            let answer = self
                .ask(method.clone(), path, body.as_ref(), idempotency_key)
                .await;
            let failure = match answer {
                Ok((401, _)) => self.sign_in().await.err().map(|error| format!("{error:#}")),
                Ok((status, problem)) if status >= 500 => Some(format!("{status} {problem}")),
                Ok(answer) => return Ok(answer),
                Err(error) => Some(format!("{error:#}")),
            };
            if start.elapsed() > INSIST_LIMIT {
                bail!("{method} {path} has no answer: {}", failure.unwrap_or_default());
            }
            if failure.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn sign_in(&self) -> anyhow::Result<()> {
        let body = json!({ "username": self.username, "password": self.password });
        let (status, answer) = self
            .ask(Method::POST, "/api/auth/login", Some(&body), None)
            .await?;
        let token = answer["access_token"].as_str();
        let token = token.with_context(|| format!("cannot sign in: {status} {answer}"))?;
        token.clone_into(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Asks once.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<(u16, Value)> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let gateway = self
            .gateways
            .get(turn % self.gateways.len())
            .context("there is no gateway")?;
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{gateway}{path}"))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let ask = async {
            let answer = self.http.request(request.body(Full::new(body))?).await?;
            let status = answer.status().as_u16();
            let bytes = answer.into_body().collect().await?.to_bytes();
            Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
        };
        tokio::time::timeout(REQUEST_LIMIT, ask).await?
    }
}

fn success(path: &str, (status, body): (u16, Value)) -> anyhow::Result<Value> {
    if (200..300).contains(&status) {
        Ok(body)
    } else {
        bail!("{path}: {status} {body}")
    }
}

/// A text of a JSON answer.
pub(super) fn text(json: &Value, field: &str) -> anyhow::Result<String> {
    let text = json.get(field).and_then(Value::as_str);
    text.map(str::to_owned)
        .with_context(|| format!("no {field} in {json}"))
}
