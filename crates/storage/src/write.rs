//! Writing an object, and proving that the store has it: the checksum in the form the endpoint knows, what its
//! answer proves, and what the object itself says when there was no answer.

use crate::bucket::{Bucket, METADATA, TOKEN, ascii, failed_after, header_text, header_value};
use crate::checksum::{Checksum, md5};
use crate::confirm::{Expected, Proof, checksum_header, header_checksum};
use crate::error::{Failure, StorageError, StorageErrorKind};
use crate::objects::{Stored, WriteOptions, unquoted_etag};
use crate::request::{Call, Failed, Reply, digested};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use domain::ChecksumKind;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::sync::atomic::Ordering;

impl Bucket {
    /// Writes an object.
    ///
    /// An answer that was lost, and the refusal to overwrite, are settled by looking at the object: one with our
    /// token, size and checksum is ours, and the put has succeeded.
    ///
    /// # Errors
    /// When the object is not there, or holds other bytes, after all attempts.
    pub async fn put(&self, key: &str, body: Bytes, options: &WriteOptions) -> Result<Stored, StorageError> {
        let mut call = self.put_call(key, body, options)?;
        let expected = Expected {
            size_bytes: call.body.len() as u64,
            checksum: Some(&options.checksum),
            composite: false,
            etag: None,
            token: options.token.as_deref(),
        };
        match self.send_checked(&mut call, &options.checksum).await {
            Ok(reply) => self.confirmed_put(&call, &expected, reply).await,
            Err(failed) => {
                let refused = failed.failure.kind == StorageErrorKind::PreconditionFailed;
                let unsettled = refused && options.if_none_match
                    || failed.failure.is_ambiguous() && options.token.is_some();
                self.settled(&call, &expected, failed, unsettled).await
            }
        }
    }

    /// A put, without the header of its checksum.
    pub(crate) fn put_call<'a>(
        &self,
        key: &'a str,
        body: Bytes,
        options: &'a WriteOptions,
    ) -> Result<Call<'a>, StorageError> {
        let mut call = Call::new("put", Method::PUT, Some(key));
        call.headers = self
            .write_headers(options)
            .map_err(|failed| self.error(&call, failed))?;
        if options.if_none_match {
            call.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        call.body = body;
        call.checksum = Some(&options.checksum);
        Ok(call)
    }

    /// The headers of a new object, without its checksum.
    pub(crate) fn write_headers(&self, options: &WriteOptions) -> Result<HeaderMap, Failed> {
        let mut headers = HeaderMap::new();
        let mut insert = |name: &str, value: &str| {
            let entry = HeaderName::try_from(name).ok().zip(header_value(value));
            let (name, value) = entry.ok_or_else(|| {
                let message = format!("{name} cannot be sent as a header: {value:?}");
                failed_after(1, Failure::new(StorageErrorKind::InvalidRequest, message))
            })?;
            headers.insert(name, value);
            Ok::<(), Failed>(())
        };
        for (name, value) in &options.metadata {
            insert(&format!("{METADATA}{name}"), value)?;
        }
        if let Some(token) = &options.token {
            insert(&format!("{METADATA}{TOKEN}"), token)?;
        }
        if let Some(content_type) = &options.content_type {
            insert(CONTENT_TYPE.as_str(), content_type)?;
        }
        if let Some(class) = &self.storage_class {
            headers.insert("x-amz-storage-class", class.clone());
        }
        Ok(headers)
    }

    /// The endpoint refuses checksum headers.
    pub(crate) fn is_md5_only(&self) -> bool {
        self.shared.md5_only.load(Ordering::Relaxed)
    }

    /// Remembers an endpoint that refuses checksum headers. AWS knows them all: what it refuses is wrong.
    pub(crate) fn learns_md5_only(&self, failure: &Failure) -> bool {
        let refuses = match (failure.status, failure.code.as_deref()) {
            (Some(501), _) | (_, Some("NotImplemented")) => true,
            (Some(400), Some("InvalidRequest" | "InvalidArgument")) => {
                failure.message.to_ascii_lowercase().contains("checksum")
            }
            _ => false,
        };
        if refuses && !self.shared.endpoint.is_aws {
            tracing::info!(
                bucket = self.name(),
                "the endpoint refuses checksum headers; it gets Content-MD5"
            );
            self.shared.md5_only.store(true, Ordering::Relaxed);
        }
        refuses && !self.shared.endpoint.is_aws
    }

    /// Sends a body with its checksum, in the form that the endpoint knows.
    pub(crate) async fn send_checked(
        &self,
        call: &mut Call<'_>,
        checksum: &Checksum,
    ) -> Result<Reply<Bytes>, Failed> {
        if !self.is_md5_only() {
            call.carry(checksum);
            match self.send(call).await {
                Err(failed) if self.learns_md5_only(&failed.failure) => {}
                result => return result,
            }
            call.headers.remove(checksum_header(checksum.kind));
        }
        let md5 = digested(&call.body, md5).await;
        call.headers.insert("content-md5", ascii(BASE64.encode(md5)));
        self.send(call).await
    }

    /// What the answer to a put, or the object itself, proves.
    async fn confirmed_put(
        &self,
        call: &Call<'_>,
        expected: &Expected<'_>,
        reply: Reply<Bytes>,
    ) -> Result<Stored, StorageError> {
        let etag = header_text(&reply.headers, ETAG.as_str()).map(unquoted_etag);
        let proof = self
            .proof_of_body(call, expected, &reply.headers, etag.as_deref())
            .await;
        let proof = match proof {
            Proof::None => self.proof_by_head(call, expected).await?,
            proof => proof,
        };
        self.stored(call, expected, etag, proof, reply.attempts)
    }

    /// What the headers of an answer prove about the body that was sent.
    pub(crate) async fn proof_of_body(
        &self,
        call: &Call<'_>,
        expected: &Expected<'_>,
        headers: &HeaderMap,
        etag: Option<&str>,
    ) -> Proof {
        let kind = expected
            .checksum
            .map_or(ChecksumKind::default(), |checksum| checksum.kind);
        let proof = expected.compare(header_checksum(headers, kind).as_ref(), None);
        if proof != Proof::None {
            return proof;
        }
        // Comparing Content-MD5 is as old as S3: an endpoint that took it has compared it.
        if call.headers.contains_key("content-md5") {
            return Proof::Same;
        }
        let md5 = hex::encode(digested(&call.body, md5).await);
        Expected {
            etag: Some(&md5),
            ..*expected
        }
        .compare(None, etag)
    }

    pub(crate) async fn proof_by_head(
        &self,
        call: &Call<'_>,
        expected: &Expected<'_>,
    ) -> Result<Proof, StorageError> {
        let Some(info) = self.head(call.key.unwrap_or_default()).await? else {
            let message = "the store took the object, but does not have it";
            let failure = Failure::new(StorageErrorKind::InvalidResponse, message);
            return Err(self.error(call, failed_after(1, failure)));
        };
        if info.size_bytes != expected.size_bytes {
            return Ok(Proof::Other);
        }
        Ok(expected.compare(info.told_checksum().as_ref(), info.etag.as_deref()))
    }

    pub(crate) fn stored(
        &self,
        call: &Call<'_>,
        expected: &Expected<'_>,
        etag: Option<String>,
        proof: Proof,
        attempts: u32,
    ) -> Result<Stored, StorageError> {
        if proof == Proof::Other {
            let message = "the store confirmed other bytes than were sent";
            let mut failure = Failure::new(StorageErrorKind::ChecksumMismatch, message);
            failure.retryable = true;
            return Err(self.error(call, failed_after(attempts, failure)));
        }
        let checksum = expected.checksum.filter(|_| proof == Proof::Same).cloned();
        Ok(Stored {
            etag,
            checksum,
            attempts,
        })
    }

    /// Decides a write whose outcome is not known by what the store has now.
    pub(crate) async fn settled(
        &self,
        call: &Call<'_>,
        expected: &Expected<'_>,
        failed: Failed,
        unsettled: bool,
    ) -> Result<Stored, StorageError> {
        if unsettled && let Ok(Some(info)) = self.head(call.key.unwrap_or_default()).await {
            let md5 = match expected.etag {
                None => Some(hex::encode(digested(&call.body, md5).await)),
                Some(_) => None,
            };
            let expected = Expected {
                etag: expected.etag.or(md5.as_deref()),
                ..*expected
            };
            if expected.is_met_by(&info) {
                let proof = expected.compare(info.told_checksum().as_ref(), info.etag.as_deref());
                return self.stored(call, &expected, info.etag, proof, failed.attempts);
            }
        }
        Err(self.error(call, failed))
    }
}
