//! A bucket and the operations on whole objects.

use crate::budget::RetryBudget;
use crate::clock::Clock;
use crate::config::{BucketConfig, ConfigError, RetryPolicy, Timeouts};
use crate::confirm::header_checksum;
use crate::credentials::signer;
use crate::endpoint::{Endpoint, not_public};
use crate::error::{Failure, StorageError, StorageErrorKind};
use crate::http_client::{Addresses, ClientKind, HttpClient, client, is_public};
use crate::objects::{ListFrom, ListPage, ObjectInfo, unquoted_etag};
use crate::pace::{Admission, Pace};
use crate::request::{Call, Failed, chain};
use crate::xml;
use bytes::Bytes;
use domain::ChecksumKind;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use reqsign_aws_v4::Credential;
use reqsign_core::Signer;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;

pub(crate) const METADATA: &str = "x-amz-meta-";
pub(crate) const TOKEN: &str = "uploader-token";

/// One bucket, ready for requests. Clones share connections, credentials and what was learned about the store.
#[derive(Clone)]
pub struct Bucket {
    pub(crate) shared: Arc<Shared>,
    pub(crate) max_attempts: u32,
    /// Once cancelled, nothing waits for another attempt.
    pub(crate) patience: CancellationToken,
    pub(crate) fence: Option<Fence>,
    /// Of new objects.
    pub(crate) storage_class: Option<HeaderValue>,
}

/// Says whether requests may still be sent.
pub type Fence = Arc<dyn Fn() -> bool + Send + Sync>;

pub(crate) struct Shared {
    name: String,
    pub(crate) region: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: HttpClient,
    pub(crate) signer: Signer<Credential>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeouts: Timeouts,
    pub(crate) budget: RetryBudget,
    pub(crate) pace: Pace,
    /// The endpoint refused a checksum header: it gets `Content-MD5` from then on.
    pub(crate) md5_only: AtomicBool,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// An object that is being read.
#[derive(Debug)]
pub struct GetObject {
    /// What the store says about it.
    pub info: ObjectInfo,
    /// Its content.
    pub body: ObjectBody,
}

/// The content of an object, piece by piece. It fails when it ends before the object does, and when nothing
/// arrives for the idle time-out.
pub struct ObjectBody(BoxStream<'static, Result<Bytes, StorageError>>);

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectBody")
    }
}

impl futures::Stream for ObjectBody {
    type Item = Result<Bytes, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl Bucket {
    /// Opens a bucket: checks the configuration, sends nothing.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn open(config: BucketConfig) -> Result<Self, ConfigError> {
        Self::open_with(config, Addresses::Any)
    }

    /// As [`Self::open`], but speaks to addresses on the public internet only, however the endpoint's name
    /// resolves and whenever: for endpoints that are given by people who must not reach the inner network.
    ///
    /// # Errors
    /// When the configuration cannot work, or the endpoint is plainly not public.
    pub fn open_public(config: BucketConfig) -> Result<Self, ConfigError> {
        Self::open_with(config, Addresses::Public)
    }

    fn open_with(config: BucketConfig, addresses: Addresses) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::resolve(&config)?;
        let is_inner = endpoint.ip().is_some_and(|ip| !is_public(ip));
        if addresses == Addresses::Public && (is_inner || endpoint.host() == "localhost") {
            return Err(not_public(&config));
        }
        let storage_class = config.storage_class.as_deref().map(class_header).transpose()?;
        let clock = Arc::new(Clock::default());
        let signer = signer(&config.credentials, &config.region, clock.clone())?;
        let client = client(&ClientKind {
            extra_root_certificates_pem: config.extra_root_certificates_pem,
            connect_timeout: config.timeouts.connect,
            addresses,
        })?;
        Ok(Self {
            max_attempts: config.retry.max_attempts.max(1),
            patience: CancellationToken::new(),
            fence: None,
            storage_class,
            shared: Arc::new(Shared {
                name: config.bucket,
                region: config.region,
                endpoint,
                client,
                signer,
                clock,
                budget: RetryBudget::new(config.retry.budget),
                pace: Pace::new(),
                retry: config.retry,
                timeouts: config.timeouts,
                md5_only: AtomicBool::new(false),
            }),
        })
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many requests may be in flight at this moment; `None`: the store has not asked for fewer. What goes beyond
    /// waits before it is sent.
    #[must_use]
    pub fn pace(&self) -> Option<usize> {
        self.shared.pace.limit()
    }

    /// Waits until one more file or part may be on its way: as many as [`Self::pace`] allows requests. Who asks here
    /// before taking up memory or places takes none up for a store that is busy.
    pub async fn admit(&self) -> Admission {
        Admission::to(&self.shared).await
    }

    /// The same bucket with another limit of attempts, at least 1.
    #[must_use]
    pub fn with_max_attempts(&self, n: u32) -> Self {
        Self {
            max_attempts: n.max(1),
            ..self.clone()
        }
    }

    /// The same bucket, whose new objects have this storage class.
    ///
    /// # Errors
    /// When it cannot be sent as a header.
    pub fn with_storage_class(&self, class: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            storage_class: Some(class_header(class)?),
            ..self.clone()
        })
    }

    /// The same bucket, whose requests wait for another attempt only until `patience` is cancelled: then they
    /// end with the error of their last attempt. An attempt that is under way ends by itself.
    #[must_use]
    pub fn with_patience(&self, patience: CancellationToken) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// The same bucket, whose requests ask `fence` each time they have waited, for their turn or for another attempt:
    /// when it says no, they are not sent, and end with the error of their last attempt.
    #[must_use]
    pub fn with_fence(&self, fence: Fence) -> Self {
        Self {
            fence: Some(fence),
            ..self.clone()
        }
    }

    /// What the store knows about an object; `None` when there is none.
    ///
    /// # Errors
    /// When the store gives another answer than these two, after all attempts.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StorageError> {
        let call = head_call(key);
        match self.send(&call).await {
            Ok(reply) => Ok(Some(object_info(&reply.headers))),
            Err(failed) if failed.failure.kind == StorageErrorKind::NoSuchKey => Ok(None),
            Err(failed) => Err(self.error(&call, failed)),
        }
    }

    /// One page of the objects whose keys begin with `prefix`, in the order of the keys' bytes. Some stores begin at the
    /// start whatever [`ListFrom::After`] says.
    ///
    /// # Errors
    /// When the store does not list, after all attempts.
    pub async fn list(&self, prefix: &str, from: ListFrom<'_>) -> Result<ListPage, StorageError> {
        let mut call = Call::new("list", Method::GET, None);
        call.answers_xml = true;
        call.query = vec![("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)];
        match from {
            ListFrom::Start => {}
            ListFrom::After(key) => call.query.push(("start-after", key)),
            ListFrom::Page(token) => call.query.push(("continuation-token", token)),
        }
        let reply = self
            .send(&call)
            .await
            .map_err(|failed| self.error(&call, failed))?;
        xml::list_page(&reply.body)
            .and_then(|page| in_order(page, prefix))
            .map_err(|failure| self.error(&call, failed_after(reply.attempts, failure)))
    }

    /// Reads an object.
    ///
    /// # Errors
    /// When there is no such object, or the store does not begin to send it, after all attempts.
    pub async fn get(&self, key: &str) -> Result<GetObject, StorageError> {
        let mut call = Call::new("get", Method::GET, Some(key));
        call.headers
            .insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        let reply = self
            .open_stream(&call)
            .await
            .map_err(|failed| self.error(&call, failed))?;
        let (target, idle) = (self.target(Some(key)), self.shared.timeouts.idle);
        let pieces = stream::unfold(Some((reply.body, target)), move |state| async move {
            let (mut body, target) = state?;
            let failure = match tokio::time::timeout(idle, body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => {
                    return Some((Ok(frame.into_data().unwrap_or_default()), Some((body, target))));
                }
                Ok(Some(Err(error))) => Failure::new(StorageErrorKind::ConnectionLost, chain(&error)),
                Err(_) => Failure::new(StorageErrorKind::Timeout, "the object stopped arriving"),
            };
            Some((Err(failure.for_request("get", target, 1)), None))
        });
        Ok(GetObject {
            info: object_info(&reply.headers),
            body: ObjectBody(pieces.boxed()),
        })
    }

    /// Deletes an object; one that is not there is deleted.
    ///
    /// # Errors
    /// When the store refuses, after all attempts.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let call = Call::new("delete", Method::DELETE, Some(key));
        match self.send(&call).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.failure.kind == StorageErrorKind::NoSuchKey => Ok(()),
            Err(failed) => Err(self.error(&call, failed)),
        }
    }

    /// Asks whether the bucket is there and may be used.
    ///
    /// # Errors
    /// When it is not, or the store cannot be asked, after all attempts.
    pub async fn head_bucket(&self) -> Result<(), StorageError> {
        let call = Call::new("head bucket", Method::HEAD, None);
        self.send(&call)
            .await
            .map(|_| ())
            .map_err(|failed| self.error(&call, failed))
    }
}

/// Whoever compares with a listing relies on its order, which not every store keeps (S3's directory buckets do not).
fn in_order(page: ListPage, prefix: &str) -> Result<ListPage, Failure> {
    let mut before = "";
    for object in &page.objects {
        if *object.key <= *before || !object.key.starts_with(prefix) {
            let detail = format!("the listing of {prefix:?} has {:?} after {before:?}", object.key);
            return Err(Failure::new(StorageErrorKind::InvalidResponse, detail));
        }
        before = &object.key;
    }
    Ok(page)
}

fn head_call(key: &str) -> Call<'_> {
    let mut call = Call::new("head", Method::HEAD, Some(key));
    call.headers
        .insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
    call
}

pub(crate) fn failed_after(attempts: u32, failure: Failure) -> Failed {
    Failed { failure, attempts }
}

/// Base64, which is always a header value.
pub(crate) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

fn class_header(class: &str) -> Result<HeaderValue, ConfigError> {
    header_value(class).ok_or(ConfigError::Value("the storage class"))
}

/// A value that reaches the store as it was signed: printable, without spaces that are trimmed or merged.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let kept = !text.is_empty() && text.trim() == text && !text.contains("  ");
    (printable && kept)
        .then(|| HeaderValue::from_str(text).ok())
        .flatten()
}

pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn object_info(headers: &HeaderMap) -> ObjectInfo {
    let text = |name: &HeaderName| header_text(headers, name.as_str());
    let metadata: std::collections::BTreeMap<String, String> = headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(METADATA)?;
            Some((
                name.to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ))
        })
        .collect();
    let (checksum, checksum_is_composite) = header_checksum(headers, ChecksumKind::default())
        .map_or((None, false), |(sum, parts)| (Some(sum), parts));
    ObjectInfo {
        size_bytes: text(&CONTENT_LENGTH)
            .and_then(|size| size.parse().ok())
            .unwrap_or_default(),
        etag: text(&ETAG).map(unquoted_etag),
        checksum,
        checksum_is_composite,
        token: metadata.get(TOKEN).cloned(),
        metadata,
        content_type: text(&CONTENT_TYPE).map(str::to_owned),
        last_modified: text(&LAST_MODIFIED).map(str::to_owned),
    }
}
