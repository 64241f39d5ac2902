//! A scripted API: answers each request as the test says, and remembers what was asked.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /api/...?...`
    pub(crate) line: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn is_authorized(&self, token: &str) -> bool {
        self.header("authorization") == Some(&format!("Bearer {token}"))
    }
}

/// What to answer.
pub(crate) enum Answer {
    Json(u16, Value),
    Text(u16, &'static str),
    /// Events, and then the stream breaks off.
    EventsThenCut(String),
    /// Events, and then the stream ends as it should.
    Events(String),
    /// Events, and then nothing more, with the stream left open.
    EventsThenSilence(String),
}

/// A refusal as the API words it.
pub(crate) fn problem(status: u16, code: &str, title: &str) -> Answer {
    Answer::Json(
        status,
        json!({"title": title, "status": status, "code": code, "request_id": "r-42"}),
    )
}

/// One server-sent event.
pub(crate) fn event(id: u32, name: &str, data: &Value) -> String {
    format!(": heartbeat\n\nid: {id}\nevent: {name}\ndata: {data}\n\n")
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

pub(crate) struct FakeApi {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeApi {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, Arc::new(script), Arc::clone(&asked)));
        Self { address, asked, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests so far that begin so.
    pub(crate) fn asked_for(&self, line: &str) -> Vec<Asked> {
        self.asked()
            .into_iter()
            .filter(|asked| asked.line.starts_with(line))
            .collect()
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>, asked: Arc<Mutex<Vec<Asked>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
        let service = service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&asked)));
        tokio::spawn(async move {
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A cut stream is an error here, and just what the test wanted.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request = Asked {
        line,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let answer = script(&request);
    asked.lock().unwrap().push(request);
    let (status, kind, body) = match answer {
        Answer::Json(204, _) => (204, "application/json", full(String::new())),
        Answer::Json(status, value) if status >= 400 => {
            (status, "application/problem+json", full(value.to_string()))
        }
        Answer::Json(status, value) => (status, "application/json", full(value.to_string())),
        Answer::Text(status, text) => (status, "text/html", full(text.to_owned())),
        Answer::Events(text) => (200, "text/event-stream", full(text)),
        Answer::EventsThenCut(text) => (200, "text/event-stream", events_then(text, cut())),
        Answer::EventsThenSilence(text) => (200, "text/event-stream", events_then(text, stream::pending())),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(body)
        .unwrap())
}

fn full(text: String) -> BoxBody<Bytes, std::io::Error> {
    Full::from(text).map_err(|never| match never {}).boxed()
}

/// An error, once the server had a turn to send what came before it.
fn cut() -> impl stream::Stream<Item = std::io::Result<Frame<Bytes>>> {
    stream::once(async {
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    })
}

fn events_then(
    text: String,
    rest: impl stream::Stream<Item = std::io::Result<Frame<Bytes>>> + Send + Sync + 'static,
) -> BoxBody<Bytes, std::io::Error> {
    BoxBody::new(StreamBody::new(
        stream::iter([Ok(Frame::data(Bytes::from(text)))]).chain(rest),
    ))
}
