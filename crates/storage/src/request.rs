//! One request to the store: signed, sent, limited in time, repeated where that helps, and its answer judged.

use crate::bucket::{Bucket, ascii};
use crate::checksum::Checksum;
use crate::confirm::{checksum_header, header_checksum};
use crate::credentials::signing_failure;
use crate::error::{Failure, StorageError, StorageErrorKind};
use crate::pace::{Attempt, Sign};
use crate::payload::{GivenUp, Payload, Progress, within};
use crate::xml::error_answer;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::io;

/// A listing of 1,000 keys of 1,024 bytes, each byte as `%XX`, is a little above 3 MiB.
const ANSWER_BYTES: usize = 16 << 20;

/// A request as the operations describe it.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) key: Option<&'a str>,
    pub(crate) query: Vec<(&'static str, &'a str)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The bytes that this request moves, or makes the store move: they lengthen its time.
    pub(crate) work_bytes: u64,
    /// The store may be silent for as long as the whole request may take.
    pub(crate) may_be_silent: bool,
    /// What a good answer must not contradict.
    pub(crate) checksum: Option<&'a Checksum>,
    /// A good answer is an XML document; one that is an error in disguise is told from it.
    pub(crate) answers_xml: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(operation: &'static str, method: Method, key: Option<&'a str>) -> Self {
        Self {
            operation,
            method,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            work_bytes: 0,
            may_be_silent: false,
            checksum: None,
            answers_xml: false,
        }
    }

    /// Sends this checksum with the body.
    pub(crate) fn carry(&mut self, checksum: &Checksum) {
        let name = HeaderName::from_static(checksum_header(checksum.kind));
        self.headers.insert(name, ascii(checksum.base64()));
    }
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Reply<B> {
    pub(crate) headers: HeaderMap,
    pub(crate) body: B,
    pub(crate) attempts: u32,
}

/// The last of the attempts that all failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) attempts: u32,
}

impl Bucket {
    /// Sends a request until it succeeds or there is no point in going on, and collects the answer.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Reply<Bytes>, Failed> {
        let mut attempts = 1;
        loop {
            let failure = match self.attempt(call).await {
                Ok((headers, body)) => {
                    self.shared.budget.earn();
                    return Ok(Reply {
                        headers,
                        body,
                        attempts,
                    });
                }
                Err(failure) => failure,
            };
            self.pause(call, failure, attempts).await?;
            attempts += 1;
        }
    }

    /// As [`Self::send`], but hands the body out while it arrives.
    pub(crate) async fn open_stream(&self, call: &Call<'_>) -> Result<Reply<Incoming>, Failed> {
        let mut attempts = 1;
        loop {
            let failure = match self.opened(call).await {
                Ok(response) => {
                    self.shared.budget.earn();
                    let (head, body) = response.into_parts();
                    return Ok(Reply {
                        headers: head.headers,
                        body,
                        attempts,
                    });
                }
                Err(failure) => failure,
            };
            self.pause(call, failure, attempts).await?;
            attempts += 1;
        }
    }

    /// The error of a request.
    pub(crate) fn error(&self, call: &Call<'_>, failed: Failed) -> StorageError {
        failed
            .failure
            .for_request(call.operation, self.target(call.key), failed.attempts)
    }

    pub(crate) fn target(&self, key: Option<&str>) -> String {
        let bucket = self.name();
        match key {
            Some(key) => format!("s3://{bucket}/{key}").escape_debug().to_string(),
            None => format!("s3://{bucket}"),
        }
    }

    /// Waits before the next attempt, or gives the failure back when there shall be none.
    async fn pause(&self, call: &Call<'_>, failure: Failure, attempts: u32) -> Result<(), Failed> {
        let is_last = attempts >= self.max_attempts || !self.may_wait() || self.shared.pace.is_hopeless();
        if is_last || !failure.retryable || !self.shared.budget.spend() {
            return Err(Failed { failure, attempts });
        }
        let retry = &self.shared.retry;
        // A store that asks for fewer requests needs more time than one that lost a connection.
        let failures = if failure.kind == StorageErrorKind::Throttled {
            attempts + 2
        } else {
            attempts
        };
        let drawn = retry.backoff.delay(failures, &mut rand::rng());
        let asked = failure.retry_after.unwrap_or_default().min(retry.retry_after_cap);
        let wait = drawn.max(asked);
        tracing::debug!(
            operation = call.operation,
            cause = ?failure.kind,
            code = failure.code.as_deref().unwrap_or_default(),
            attempts,
            wait_ms = wait.as_millis(),
            "repeating a request to the store"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.patience.cancelled() => {}
        }
        if self.may_wait() {
            Ok(())
        } else {
            Err(Failed { failure, attempts })
        }
    }

    /// Whether what waits, or has waited, may still be sent.
    fn may_wait(&self) -> bool {
        !self.patience.is_cancelled() && self.fence.as_ref().is_none_or(|fence| fence())
    }

    /// Waits for its turn, as long as there is patience.
    async fn turn(&self) -> Result<Attempt<'_>, Failure> {
        let mut begin = std::pin::pin!(self.shared.pace.begin());
        if let Some(turn) = begin.as_mut().now_or_never() {
            return Ok(turn);
        }
        tokio::select! {
            biased;
            turn = begin => if self.may_wait() {
                return Ok(turn);
            },
            () = self.patience.cancelled() => {}
        }
        let message = "not sent: the store had asked for fewer requests";
        Err(Failure::new(StorageErrorKind::Throttled, message))
    }

    async fn opened(&self, call: &Call<'_>) -> Result<Response<Incoming>, Failure> {
        let turn = self.turn().await?;
        let progress = Progress::default();
        let limits = self.shared.timeouts;
        let exchange = self.exchange(call, &progress);
        let answer = within(exchange, &progress, limits.idle, limits.whole)
            .await
            .unwrap_or_else(|given_up| Err(timed_out(given_up)));
        turn.ended(sign(&answer));
        answer
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<(HeaderMap, Bytes), Failure> {
        let turn = self.turn().await?;
        let progress = Progress::default();
        let limits = self.shared.timeouts;
        let whole = limits.whole_for(call.work_bytes.max(call.body.len() as u64));
        let idle = if call.may_be_silent { whole } else { limits.idle };
        let exchange = async {
            let (head, body) = self.exchange(call, &progress).await?.into_parts();
            let body = collect(body, &progress).await?;
            if call.answers_xml
                && let Some(error) = error_answer(&body)
            {
                return Err(self.judge(call, head.status, &head.headers, Some(error)));
            }
            match call.checksum {
                Some(ours) if contradicts(&head.headers, ours) => {
                    let message = "the store confirmed other bytes than were sent";
                    let mut failure = Failure::new(StorageErrorKind::ChecksumMismatch, message);
                    // What it holds now may be wrong: a fresh transfer replaces it.
                    failure.retryable = true;
                    Err(failure)
                }
                _ => Ok((head.headers, body)),
            }
        };
        let answer = within(exchange, &progress, idle, whole)
            .await
            .unwrap_or_else(|given_up| Err(timed_out(given_up)));
        turn.ended(sign(&answer));
        answer
    }

    /// Sends once; an answer that is no success is a failure. Everything that reaches the network goes through
    /// here.
    async fn exchange(&self, call: &Call<'_>, progress: &Progress) -> Result<Response<Incoming>, Failure> {
        let request = self.signed(call, progress).await?;
        let response = self
            .shared
            .client
            .request(request)
            .await
            .map_err(|error| connection_failure(&error))?;
        progress.step();
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        // The status says enough when the rest of the answer is lost.
        let body = collect(body, progress).await.unwrap_or_default();
        Err(self.judge(call, head.status, &head.headers, error_answer(&body)))
    }

    pub(crate) async fn signed(
        &self,
        call: &Call<'_>,
        progress: &Progress,
    ) -> Result<Request<Payload>, Failure> {
        let invalid = |detail: String| Failure::new(StorageErrorKind::InvalidRequest, detail);
        if call.key == Some("") {
            return Err(invalid("an object's key cannot be empty".to_owned()));
        }
        let uri = self
            .shared
            .endpoint
            .uri(call.key, &call.query)
            .map_err(|error| invalid(error.to_string()))?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = call.method.clone();
        head.uri = uri;
        head.headers = call.headers.clone();
        head.headers
            .insert("x-amz-content-sha256", self.payload_signature(&call.body).await);
        self.shared
            .signer
            .sign(&mut head, None)
            .await
            .map_err(|error| signing_failure(&error))?;
        // Not signed, since proxies may touch them. An empty PUT or POST has to say that it is empty.
        head.headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("data-uploader/", env!("CARGO_PKG_VERSION"))),
        );
        if matches!(call.method, Method::PUT | Method::POST) {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(call.body.len()));
        }
        debug_assert!(head.headers.contains_key(HOST));
        Ok(Request::from_parts(
            head,
            Payload::new(call.body.clone(), progress.clone()),
        ))
    }

    /// The payload is part of the signature only where nothing else protects it on its way.
    async fn payload_signature(&self, body: &Bytes) -> HeaderValue {
        if self.shared.endpoint.protects_payload() {
            return HeaderValue::from_static("UNSIGNED-PAYLOAD");
        }
        let digest = digested(body, |bytes| {
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
                .as_ref()
                .to_vec()
        })
        .await;
        HeaderValue::from_str(&hex::encode(digest)).unwrap_or(HeaderValue::from_static("UNSIGNED-PAYLOAD"))
    }
}

/// A digest of a body: here when it is short, away from the threads that serve connections when it is long.
pub(crate) async fn digested<D: Send + 'static>(body: &Bytes, digest: fn(&[u8]) -> D) -> D {
    const SHORT_BYTES: usize = 128 << 10;
    if body.len() > SHORT_BYTES {
        let body = body.clone();
        if let Ok(value) = tokio::task::spawn_blocking({
            let body = body.clone();
            move || digest(&body)
        })
        .await
        {
            return value;
        }
        return digest(&body);
    }
    digest(body)
}

async fn collect(mut body: Incoming, progress: &Progress) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::new(
                StorageErrorKind::ConnectionLost,
                format!("the answer broke off: {}", chain(&error)),
            )
        })?;
        progress.step();
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > ANSWER_BYTES {
            return Err(Failure::new(
                StorageErrorKind::InvalidResponse,
                "the answer is too long",
            ));
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

fn contradicts(headers: &HeaderMap, ours: &Checksum) -> bool {
    header_checksum(headers, ours.kind).is_some_and(|(theirs, is_composite)| {
        !is_composite && theirs.kind == ours.kind && theirs.value != ours.value
    })
}

/// What an answer says about how much may be sent. A connection that broke says nothing of that.
fn sign<T>(answer: &Result<T, Failure>) -> Sign {
    match answer {
        Ok(_) => Sign::Good,
        Err(failure) => match failure.kind {
            StorageErrorKind::Throttled | StorageErrorKind::Timeout => Sign::Overloaded,
            _ if failure.retryable => Sign::Failed,
            _ => Sign::Neutral,
        },
    }
}

fn timed_out(given_up: GivenUp) -> Failure {
    let message = match given_up {
        GivenUp::Idle(limit) => format!("no progress for {} s", limit.as_secs_f32()),
        GivenUp::Whole(limit) => format!("not done after {} s", limit.as_secs_f32()),
    };
    Failure::new(StorageErrorKind::Timeout, message)
}

fn connection_failure(error: &hyper_util::client::legacy::Error) -> Failure {
    if !error.is_connect() {
        return Failure::new(StorageErrorKind::ConnectionLost, chain(error));
    }
    let mut failure = Failure::new(StorageErrorKind::Unreachable, chain(error));
    // A certificate does not become good by asking again.
    failure.retryable = !is_certificate_refused(error);
    failure
}

fn is_certificate_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // What an `io::Error` wraps is not among its sources: those begin one level below.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.is_some_and(|inner| is_certificate_refused(inner))
        || error.source().is_some_and(is_certificate_refused)
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BucketConfig, Credentials};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    fn bucket(endpoint: &str) -> Bucket {
        let credentials = Credentials::Static {
            access_key_id: "test".to_owned(),
            secret_access_key: "secret".to_owned().into(),
            session_token: None,
        };
        let mut config = BucketConfig::new("photos", "eu-west-1", credentials);
        config.endpoint_url = Some(endpoint.parse().unwrap());
        Bucket::open(config).unwrap()
    }

    async fn signed_payload(endpoint: &str) -> String {
        let mut call = Call::new("put", Method::PUT, Some("a"));
        call.body = Bytes::from_static(b"123456789");
        let request = bucket(endpoint)
            .signed(&call, &Progress::default())
            .await
            .unwrap();
        assert!(request.headers().contains_key(http::header::AUTHORIZATION));
        assert_eq!(request.headers()[CONTENT_LENGTH], "9");
        request.headers()["x-amz-content-sha256"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[tokio::test]
    async fn the_payload_is_signed_where_nothing_else_protects_it() {
        assert_eq!(signed_payload("https://store.example").await, "UNSIGNED-PAYLOAD");
        assert_eq!(signed_payload("http://127.0.0.1:9000").await, "UNSIGNED-PAYLOAD");
        assert_eq!(
            signed_payload("http://store.example").await,
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
        );
    }

    #[tokio::test]
    async fn an_empty_body_says_so() {
        let call = Call::new("put", Method::PUT, Some("a"));
        let request = bucket("http://127.0.0.1:9000")
            .signed(&call, &Progress::default())
            .await
            .unwrap();
        assert_eq!(request.headers()[CONTENT_LENGTH], "0");
    }

    #[tokio::test]
    async fn the_end_of_patience_ends_a_wait_and_allows_no_other() {
        let patience = CancellationToken::new();
        let bucket = bucket("http://127.0.0.1:9000").with_patience(patience.clone());
        let call = Call::new("put", Method::PUT, Some("a"));
        let busy = || Failure {
            retry_after: Some(Duration::MAX),
            ..Failure::new(StorageErrorKind::Throttled, "")
        };
        let mut waiting = Box::pin(bucket.pause(&call, busy(), 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        patience.cancel();
        for pause in [waiting, Box::pin(bucket.pause(&call, busy(), 2))] {
            let ended = tokio::time::timeout(Duration::from_secs(10), pause).await;
            let failed = ended.expect("it waits on").unwrap_err();
            assert_eq!(failed.failure.kind, StorageErrorKind::Throttled);
        }
    }

    /// A worker that is frozen while it waits wakes with another's job.
    #[tokio::test]
    async fn nothing_is_repeated_once_the_fence_is_down() {
        let is_up = Arc::new(AtomicBool::new(true));
        let fence = Arc::clone(&is_up);
        let bucket =
            bucket("http://127.0.0.1:9000").with_fence(Arc::new(move || fence.load(Ordering::SeqCst)));
        let call = Call::new("put", Method::PUT, Some("a"));
        let soon = || Failure {
            retry_after: Some(Duration::from_millis(50)),
            ..Failure::new(StorageErrorKind::Throttled, "")
        };
        bucket.pause(&call, soon(), 1).await.unwrap();
        let mut waiting = Box::pin(bucket.pause(&call, soon(), 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        is_up.store(false, Ordering::SeqCst);
        waiting.await.unwrap_err();
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_refused_before_it_is() {
        let failed = bucket("http://127.0.0.1:9000").head("").await.unwrap_err();
        assert_eq!(failed.kind(), StorageErrorKind::InvalidRequest);
        assert_eq!(failed.attempts(), 1);
    }
}
