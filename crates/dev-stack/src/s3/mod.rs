//! An S3 server over a folder: the real protocol with signatures, checksums and multipart uploads, for the demo,
//! development and tests.
//!
//! Bytes are plain, readable files in `{folder}/{bucket}/objects`. The server has threads of its own, so that it
//! outlives the async runtime that started it (tests share one), and ends when it is dropped.

mod backend;
mod bucket;
pub(crate) mod checksums;
mod drip;
mod keys;
mod listings;
mod multipart;
mod objects;
mod page;
mod receive;
mod records;
mod request_body;
mod uploads;
mod weather;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use backend::Backend;
use drip::{Drip, Dripping};
use request_body::RequestBody;
pub use weather::Trouble;
use weather::{Fate, Weather};

/// How long [`S3Server::stop`] lets requests in flight end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What an [`S3Server`] serves, and to whom.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The folder with the buckets; made if missing, kept on stop.
    pub dir: PathBuf,
    /// The one access key that may sign requests.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// The TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
}

impl S3Options {
    /// A folder served to the access key `test`, secret `testsecret`, on a free port.
    pub fn in_folder(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            access_key_id: "test".to_owned(),
            secret_access_key: "testsecret".to_owned(),
            port: 0,
        }
    }
}

/// A running S3 server. Path-style addresses, any region.
pub struct S3Server {
    address: SocketAddr,
    options: S3Options,
    backend: Backend,
    weather: Weather,
    stop: watch::Sender<bool>,
    stopped: oneshot::Receiver<()>,
}

impl S3Server {
    /// Starts serving; requests are answered when this returns.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or the port is taken.
    pub async fn start(options: S3Options) -> anyhow::Result<Self> {
        let folder = options.dir.clone();
        let backend = tokio::task::spawn_blocking(move || Backend::open(folder))
            .await?
            .with_context(|| format!("cannot serve the folder {}", options.dir.display()))?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .with_context(|| format!("cannot listen on port {}", options.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;

        let mut service = S3ServiceBuilder::new(backend.clone());
        service.set_auth(OneKey(
            options.access_key_id.clone(),
            options.secret_access_key.clone().into(),
        ));
        let weather = Weather::default();
        service.set_access(weather.clone());
        let acceptor = Acceptor {
            service: service.build(),
            weather: weather.clone(),
        };
        let (stop, stop_asked) = watch::channel(false);
        let (stopped_tell, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("s3-server".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(acceptor.serve(listener, stop_asked)) {
                    tracing::error!(%error, "the S3 server ended");
                }
                runtime.shutdown_timeout(Duration::from_millis(200));
                // Nobody may be waiting any more.
                let _ = stopped_tell.send(());
            })?;
        Ok(Self {
            address,
            options,
            backend,
            weather,
            stop,
            stopped,
        })
    }

    /// The URL for clients: `http://127.0.0.1:{port}`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The access key that may sign requests.
    pub fn access_key_id(&self) -> &str {
        &self.options.access_key_id
    }

    /// Its secret.
    pub fn secret_access_key(&self) -> &str {
        &self.options.secret_access_key
    }

    /// What it was started with, and the port it got: the same server can be started again from it.
    pub fn options(&self) -> S3Options {
        S3Options {
            port: self.port(),
            ..self.options.clone()
        }
    }

    /// Makes a bucket, if it is not there.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn create_bucket(&self, name: &str) -> anyhow::Result<()> {
        self.backend
            .create_bucket_named(name)
            .with_context(|| format!("cannot make the bucket {name}"))?;
        Ok(())
    }

    /// Removes a bucket with all that is in it, if it is there.
    ///
    /// # Errors
    /// When its folder cannot be removed.
    pub fn remove_bucket(&self, name: &str) -> anyhow::Result<()> {
        self.backend
            .remove_bucket_named(name)
            .with_context(|| format!("cannot remove the bucket {name}"))
    }

    /// Lets every request from now on wait before it is looked at: a far-away server.
    pub fn set_latency(&self, latency: Duration) {
        self.weather.set_latency(latency);
    }

    /// Lets a share of the requests from now on fail.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.weather.set_trouble(trouble);
    }

    /// Lets every multipart upload that is open in a bucket look as if it had been opened so much earlier, until the
    /// server ends.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn age_uploads(&self, bucket: &str, by: Duration) -> anyhow::Result<()> {
        let bucket = self
            .backend
            .bucket(bucket)
            .with_context(|| format!("there is no bucket {bucket}"))?;
        let by_ms = u64::try_from(by.as_millis())?;
        for upload in bucket.state().uploads.values_mut() {
            upload.initiated_ms = upload.initiated_ms.saturating_sub(by_ms);
        }
        Ok(())
    }

    /// How many requests have come in.
    pub fn requests(&self) -> u64 {
        self.weather.requests()
    }

    /// How many of those it looked at were of each operation, by its name in the protocol (`PutObject`).
    pub fn operations(&self) -> BTreeMap<String, u64> {
        self.weather.operations()
    }

    /// How many of them were answered with 503 `SlowDown`.
    pub fn refused(&self) -> u64 {
        self.weather.refused()
    }

    /// How many bytes the bodies of PUT requests have brought, whatever became of them.
    pub fn received_bytes(&self) -> u64 {
        self.weather.received_bytes()
    }

    /// Stops accepting, lets requests in flight end for a moment, and closes the port.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // The other end is gone when the thread has ended, which is all that counts.
        let _ = (&mut self.stopped).await;
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl std::fmt::Debug for S3Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("S3Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The one key pair.
struct OneKey(String, SecretKey);

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0 {
            Ok(self.1.clone())
        } else {
            Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            ))
        }
    }
}

struct Acceptor {
    service: S3Service,
    weather: Weather,
}

impl Acceptor {
    async fn serve(
        self,
        listener: std::net::TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let graceful = hyper_util::server::graceful::GracefulShutdown::new();
        loop {
            let stream = tokio::select! {
                // An error means that the server was dropped.
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    // The client is gone, or there are no descriptors for the moment.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                },
            };
            // Without it small answers wait for acknowledgements.
            let _ = stream.set_nodelay(true);
            let (service, weather) = (self.service.clone(), self.weather.clone());
            let drip = Drip::new(weather.clone());
            let stream = Dripping::new(stream, drip.clone());
            let answer = hyper::service::service_fn(move |request| {
                let (service, weather, drip) = (service.clone(), weather.clone(), drip.clone());
                async move { answer(&service, &weather, &drip, request).await }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // A connection that breaks off is the client's affair.
                let _ = connection.await;
            });
        }
        drop(listener);
        // What has not ended by then is broken off.
        let _ = tokio::time::timeout(STOP_GRACE, graceful.shutdown()).await;
        Ok(())
    }
}

/// The answer to one request, by the weather. An error breaks the connection off.
async fn answer(
    service: &S3Service,
    weather: &Weather,
    drip: &Drip,
    request: http::Request<Incoming>,
) -> std::io::Result<http::Response<s3s::Body>> {
    let (mut fate, _in_flight) = weather.next();
    let is_spared = match fate {
        Fate::Disguised => !completes_upload(&request),
        Fate::Undeletable => !deletes_object(&request),
        _ => false,
    };
    if is_spared {
        fate = Fate::Served;
    }
    let change = weather.change();
    let broken_off = |why: &str| Err(std::io::Error::other(why.to_owned()));
    match fate {
        Fate::Reset => return broken_off("the connection is reset"),
        Fate::Hung => {
            weather.until_over(change).await;
            return broken_off("it was left without an answer");
        }
        Fate::Stalled => drip.begin(change),
        _ => {}
    }
    let latency = weather.latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let is_put = request.method() == http::Method::PUT;
    let counter = is_put.then(|| weather.clone());
    let (head, incoming) = request.into_parts();
    let body = RequestBody::new(incoming, counter);
    let mut answered = match refusal(fate) {
        Some(refusal) => refusal,
        None => {
            let request = http::Request::from_parts(head, s3s::Body::http_body(body.clone()));
            let called = service.call(request).await;
            called.map_err(|error| std::io::Error::other(format!("{error:?}")))?
        }
    };
    match fate {
        Fate::AnswerLost => return broken_off("the answer is lost"),
        Fate::Corrupted if is_put => corrupt(answered.headers_mut()),
        _ => {}
    }
    if !body.drain().await {
        let close = http::HeaderValue::from_static("close");
        answered.headers_mut().insert(http::header::CONNECTION, close);
    }
    Ok(answered)
}

/// What is answered without a look at the request.
fn refusal(fate: Fate) -> Option<http::Response<s3s::Body>> {
    use http::StatusCode;
    let (status, code, message) = match fate {
        Fate::Refused => (
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            "Please reduce your request rate.",
        ),
        Fate::Failed => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "We encountered an internal error. Please try again.",
        ),
        Fate::Disguised => (
            StatusCode::OK,
            "InternalError",
            "We encountered an internal error. Please try again.",
        ),
        Fate::Expired => (
            StatusCode::BAD_REQUEST,
            "ExpiredToken",
            "The provided token has expired.",
        ),
        Fate::Bucketless => (
            StatusCode::NOT_FOUND,
            "NoSuchBucket",
            "The specified bucket does not exist",
        ),
        Fate::Undeletable => (StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"),
        _ => return None,
    };
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut refusal = http::Response::new(s3s::Body::from(xml));
    *refusal.status_mut() = status;
    Some(refusal)
}

fn completes_upload(request: &http::Request<Incoming>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == http::Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId="))
}

fn deletes_object(request: &http::Request<Incoming>) -> bool {
    request.method() == http::Method::DELETE
        && request
            .uri()
            .query()
            .is_none_or(|query| !query.contains("uploadId="))
}

/// Makes an answer tell of other bytes than there are.
fn corrupt(headers: &mut http::HeaderMap) {
    for (name, value) in headers.iter_mut() {
        let is_checksum = name.as_str().starts_with("x-amz-checksum-") && name != "x-amz-checksum-type";
        if !is_checksum && name != http::header::ETAG {
            continue;
        }
        // Its first digit is another one, in base64 as in hexadecimal numbers.
        let mut turned = value.as_bytes().to_vec();
        if let Some(digit) = turned.iter_mut().find(|byte| byte.is_ascii_alphanumeric()) {
            *digit = if *digit == b'0' { b'1' } else { b'0' };
        }
        if let Ok(other) = http::HeaderValue::from_bytes(&turned) {
            *value = other;
        }
    }
}
