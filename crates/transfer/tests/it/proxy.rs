//! A proxy between the engine and the S3 server. It tells requests apart, counts them, and can hold some
//! kinds of them back until the test lets them go.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Put,
    Create,
    Part,
    ListParts,
    Complete,
    Abort,
    Other,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) arrived: usize,
    pub(crate) in_flight: usize,
    pub(crate) most_in_flight: usize,
}

#[derive(Default)]
struct State {
    counts: HashMap<Kind, Count>,
    held: Vec<Kind>,
    meanwhile: Option<(Kind, Hook)>,
    refusal: Option<Refusal>,
    lost: Option<Kind>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;
/// Says of a request, by its kind and path, whether it is refused, and how.
type Refusal = Arc<dyn Fn(Kind, &str) -> Option<Response<Full<Bytes>>> + Send + Sync>;

pub(crate) struct Proxy {
    pub(crate) url: String,
    state: watch::Sender<State>,
    _server: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target: Uri = target.parse().unwrap();
        let (state, _) = watch::channel(State::default());
        let shared = state.clone();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (target, state, client) = (target.clone(), shared.clone(), client.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        forward(request, target.clone(), state.clone(), client.clone())
                    });
                    // A client that goes away in the middle is what some tests are about.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            url,
            state,
            _server: server,
        }
    }

    /// Holds requests of this kind, too, back until [`Self::release`].
    pub(crate) fn hold(&self, kind: Kind) {
        self.state.send_modify(|state| state.held.push(kind));
    }

    pub(crate) fn release(&self) {
        self.state.send_modify(|state| state.held.clear());
    }

    /// Does something each time a request of this kind has come in, before it goes on.
    pub(crate) fn meanwhile(&self, kind: Kind, hook: impl Fn() + Send + Sync + 'static) {
        self.state
            .send_modify(|state| state.meanwhile = Some((kind, Arc::new(hook))));
    }

    /// Answers those requests itself for which `refusal` has an answer, until [`Self::accept`].
    pub(crate) fn refuse(
        &self,
        refusal: impl Fn(Kind, &str) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static,
    ) {
        self.state
            .send_modify(|state| state.refusal = Some(Arc::new(refusal)));
    }

    /// Has the next request of this kind carried out, and breaks its connection off without an answer.
    pub(crate) fn lose_answer(&self, kind: Kind) {
        self.state.send_modify(|state| state.lost = Some(kind));
    }

    pub(crate) fn accept(&self) {
        self.state.send_modify(|state| state.refusal = None);
    }

    /// Waits until as many requests of this kind have come in.
    pub(crate) async fn arrived(&self, kind: Kind, number: usize) {
        self.counted(kind, number, |count| count.arrived).await;
    }

    /// Waits until as many requests of this kind have been answered.
    pub(crate) async fn answered(&self, kind: Kind, number: usize) {
        self.counted(kind, number, |count| count.arrived - count.in_flight)
            .await;
    }

    async fn counted(&self, kind: Kind, number: usize, counted: fn(&Count) -> usize) {
        let mut state = self.state.subscribe();
        let enough = state.wait_for(|state| {
            state
                .counts
                .get(&kind)
                .is_some_and(|count| counted(count) >= number)
        });
        drop(
            tokio::time::timeout(std::time::Duration::from_secs(30), enough)
                .await
                .unwrap_or_else(|_| panic!("{number} requests of kind {kind:?} never came"))
                .unwrap(),
        );
    }

    pub(crate) fn count(&self, kind: Kind) -> Count {
        self.state.borrow().counts.get(&kind).copied().unwrap_or_default()
    }

    /// How many requests have come in that would change the store.
    pub(crate) fn writes(&self) -> usize {
        [Kind::Put, Kind::Create, Kind::Part, Kind::Complete, Kind::Abort]
            .map(|kind| self.count(kind).arrived)
            .iter()
            .sum()
    }
}

/// Counts a request as under way, also when its client goes away.
struct InFlight {
    state: watch::Sender<State>,
    kind: Kind,
}

impl InFlight {
    fn begin(state: &watch::Sender<State>, kind: Kind) -> Self {
        state.send_modify(|state| {
            let count = state.counts.entry(kind).or_default();
            count.arrived += 1;
            count.in_flight += 1;
            count.most_in_flight = count.most_in_flight.max(count.in_flight);
        });
        Self {
            state: state.clone(),
            kind,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state
            .send_modify(|state| state.counts.entry(self.kind).or_default().in_flight -= 1);
    }
}

async fn forward(
    request: Request<Incoming>,
    target: Uri,
    state: watch::Sender<State>,
    client: Client<HttpConnector, Full<Bytes>>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let kind = kind_of(&request);
    let in_flight = InFlight::begin(&state, kind);
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    state
        .subscribe()
        .wait_for(|state| !state.held.contains(&kind))
        .await?;
    let hook = state.borrow().meanwhile.clone();
    if let Some((_, hook)) = hook.filter(|(hooked, _)| *hooked == kind) {
        hook();
    }
    let refusal = state.borrow().refusal.clone();
    if let Some(answer) = refusal.and_then(|refusal| refusal(kind, head.uri.path())) {
        return Ok(answer);
    }
    let mut uri = target.into_parts();
    uri.path_and_query = head.uri.path_and_query().cloned();
    head.uri = Uri::from_parts(uri)?;
    let answer = client.request(Request::from_parts(head, Full::new(body))).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    drop(in_flight);
    let is_lost = state.send_if_modified(|state| state.lost.take_if(|lost| *lost == kind).is_some());
    if is_lost {
        return Err("the answer is lost".into());
    }
    Ok(Response::from_parts(head, Full::new(body)))
}

/// What a store says that refuses for good: the code and its status.
pub(crate) fn refused(status: u16, code: &str) -> Response<Full<Bytes>> {
    let xml = format!("<Error><Code>{code}</Code><Message>No.</Message></Error>");
    let mut answer = Response::new(Full::new(Bytes::from(xml)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// What a load balancer says in place of the store.
pub(crate) fn bad_gateway() -> Response<Full<Bytes>> {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}

/// What a store says that is to be left alone for as long as a client will wait.
pub(crate) fn busy() -> Response<Full<Bytes>> {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
        .headers_mut()
        .insert("retry-after", HeaderValue::from_static("3600"));
    answer
}

fn kind_of(request: &Request<Incoming>) -> Kind {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match *request.method() {
        Method::PUT if has("partNumber") => Kind::Part,
        Method::PUT => Kind::Put,
        Method::POST if has("uploads") => Kind::Create,
        Method::POST if has("uploadId") => Kind::Complete,
        Method::DELETE if has("uploadId") => Kind::Abort,
        Method::GET if has("uploadId") => Kind::ListParts,
        _ => Kind::Other,
    }
}
