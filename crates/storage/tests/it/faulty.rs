//! A server that misbehaves as a script says, by itself or in front of the development server.

use crate::servers::{config, development};
use bytes::Bytes;
use domain::ChecksumKind;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::{Arc, Mutex};
use storage::{Bucket, Hasher, WriteOptions};
use tokio::net::TcpListener;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) headers: HeaderMap,
}

/// What a server does with a request.
pub(crate) enum Act {
    Answer(Response<Bytes>),
    /// Close the connection without an answer.
    Lose,
    /// Never answer.
    Hang,
    /// Let the development server answer.
    Forward,
    /// Let the development server do it, and keep its answer to oneself.
    ForwardAndLose,
    /// Let the development server do it, and answer this.
    ForwardAndAnswer(&'static str),
}

pub(crate) struct Faulty {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Faulty {
    /// A server that asks `script` about each request; it gets the number of the request, from 0.
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        let upstream = development().await.endpoint_url();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, seen_here) = (Arc::new(script), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen, upstream) =
                    (Arc::clone(&script), Arc::clone(&seen_here), upstream.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let now = Seen {
                        method: request.method().clone(),
                        path_and_query: request.uri().to_string(),
                        headers: request.headers().clone(),
                    };
                    let act = {
                        let mut seen = seen.lock().unwrap();
                        let act = script(seen.len(), &now);
                        seen.push(now);
                        act
                    };
                    perform(act, request, upstream.clone())
                });
                tokio::spawn(async move {
                    // It ends with an error whenever the script says so.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        Bucket::open(config(name, &self.url)).unwrap()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("closed on purpose")]
struct Closed;

async fn perform(
    act: Act,
    request: Request<Incoming>,
    upstream: String,
) -> Result<Response<Full<Bytes>>, Closed> {
    match act {
        Act::Answer(response) => {
            // Read to the end, so that the client is not stopped while it sends.
            let _ = request.into_body().collect().await;
            Ok(response.map(Full::new))
        }
        Act::Lose => Err(Closed),
        Act::Hang => std::future::pending().await,
        Act::Forward => Ok(forwarded(request, &upstream).await),
        Act::ForwardAndAnswer(body) => {
            let answer = forwarded(request, &upstream).await;
            assert!(answer.status().is_success(), "{answer:?}");
            Ok(Response::new(Full::new(Bytes::from_static(body.as_bytes()))))
        }
        Act::ForwardAndLose => {
            let answer = forwarded(request, &upstream).await;
            assert!(answer.status().is_success(), "{answer:?}");
            Err(Closed)
        }
    }
}

async fn forwarded(request: Request<Incoming>, upstream: &str) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    head.uri = format!("{upstream}{}", head.uri).parse().unwrap();
    let body = Full::new(body.collect().await.unwrap().to_bytes());
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client
        .request(Request::from_parts(head, body))
        .await
        .unwrap()
        .into_parts();
    Response::from_parts(head, Full::new(body.collect().await.unwrap().to_bytes()))
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Act::Answer(response.body(Bytes::from(body.to_owned())).unwrap())
}

pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Act {
    answer(
        status,
        &[],
        &format!("<Error><Code>{code}</Code><Message>{message}</Message><RequestId>R1</RequestId></Error>"),
    )
}

pub(crate) const BODY: &[u8] = b"123456789";
/// MD5 and CRC64NVME of the body.
pub(crate) const ETAG: &str = "\"25f9e794323b453885f5181f1b624d0b\"";
pub(crate) const CRC64NVME: &str = "rosUhgp5mIg=";

pub(crate) fn options() -> WriteOptions {
    WriteOptions::new(Hasher::of(ChecksumKind::Crc64nvme, BODY))
}

pub(crate) fn good_put() -> Act {
    answer(
        200,
        &[("etag", ETAG), ("x-amz-checksum-crc64nvme", CRC64NVME)],
        "",
    )
}

pub(crate) async fn put(bucket: &Bucket) -> Result<storage::Stored, storage::StorageError> {
    bucket.put("object", Bytes::from_static(BODY), &options()).await
}

pub(crate) fn with_token() -> WriteOptions {
    WriteOptions {
        token: Some("session/1".to_owned()),
        ..options()
    }
}
