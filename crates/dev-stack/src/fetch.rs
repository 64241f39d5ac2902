//! GET requests: plain ones, and signed ones for objects.
//!
//! Made of other parts than the product's own S3 client, so that it can be a witness to it.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};

/// What stays as it is in the path of an object's URL.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build(HttpConnector::new())
}

/// The status of a GET of `url`, if there is an answer.
///
/// # Errors
/// When nobody answers.
pub async fn status(url: &str) -> anyhow::Result<StatusCode> {
    let response = client().get(url.parse()?).await?;
    Ok(response.status())
}

/// Reads objects of one server.
pub struct ObjectReader {
    client: HttpClient,
    endpoint_url: String,
    signer: Signer<Credential>,
}

impl ObjectReader {
    /// A reader that signs with this key pair.
    pub fn new(endpoint_url: &str, access_key_id: &str, secret_access_key: &str) -> Self {
        Self {
            client: client(),
            endpoint_url: endpoint_url.to_owned(),
            signer: Signer::new(
                Context::new(),
                StaticCredentialProvider::new(access_key_id, secret_access_key),
                RequestSigner::new("s3", "us-east-1"),
            ),
        }
    }

    /// Gives an object's bytes to `take`, piece by piece; false when there is no such object.
    ///
    /// # Errors
    /// When the server refuses, or the transfer breaks off.
    pub async fn read(&self, bucket: &str, key: &str, mut take: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        let url = format!(
            "{}/{bucket}/{}",
            self.endpoint_url,
            utf8_percent_encode(key, KEPT)
        );
        let request = Request::get(url)
            .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
            .body(())?;
        let (mut parts, ()) = request.into_parts();
        self.signer.sign(&mut parts, None).await.context("cannot sign")?;
        let response = self
            .client
            .request(Request::from_parts(parts, Empty::new()))
            .await?;
        let status = response.status();
        let mut body: Incoming = response.into_body();
        if status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        if status != StatusCode::OK {
            let text = body.collect().await?.to_bytes();
            bail!("{status}: {}", String::from_utf8_lossy(&text));
        }
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                take(data);
            }
        }
        Ok(true)
    }
}
