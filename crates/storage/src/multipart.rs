//! Multipart uploads: opened, filled part by part, listed, completed or aborted.

use crate::bucket::{Bucket, ascii, failed_after, header_text};
use crate::checksum::{Checksum, multipart_etag};
use crate::confirm::{Expected, Proof, checksum_header};
use crate::error::{StorageError, StorageErrorKind};
use crate::objects::{OpenUpload, Part, Stored, UploadId, WriteOptions, unquoted_etag};
use crate::request::{Call, Failed};
use crate::xml;
use bytes::Bytes;
use domain::ChecksumKind;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Method};

impl Bucket {
    /// Opens a multipart upload. Its parts must all carry checksums of the kind of `options.checksum`.
    ///
    /// # Errors
    /// When the store refuses, after all attempts.
    pub async fn create_multipart(
        &self,
        key: &str,
        options: &WriteOptions,
    ) -> Result<UploadId, StorageError> {
        let mut call = Call::new("create multipart upload of", Method::POST, Some(key));
        call.query = vec![("uploads", "")];
        call.answers_xml = true;
        call.headers = self
            .write_headers(options)
            .map_err(|failed| self.error(&call, failed))?;
        let kind = options.checksum.kind;
        let mut result = None;
        if !self.is_md5_only() {
            call.headers.insert(
                "x-amz-checksum-algorithm",
                HeaderValue::from_static(algorithm(kind)),
            );
            call.headers.insert(
                "x-amz-checksum-type",
                HeaderValue::from_static(checksum_type(kind)),
            );
            match self.send(&call).await {
                Err(failed) if self.learns_md5_only(&failed.failure) => {}
                other => result = Some(other),
            }
            if result.is_none() {
                call.headers.remove("x-amz-checksum-algorithm");
                call.headers.remove("x-amz-checksum-type");
            }
        }
        let result = match result {
            Some(result) => result,
            None => self.send(&call).await,
        };
        let reply = result.map_err(|failed| self.error(&call, failed))?;
        xml::upload_id(&reply.body)
            .map_err(|failure| self.error(&call, failed_after(reply.attempts, failure)))
    }

    /// Sends a part; `part_number` is 1 to 10,000. Its checksum is set in the answer when it was confirmed, with
    /// the same meaning as [`Stored::checksum`].
    ///
    /// # Errors
    /// When the store does not have the part, or has other bytes, after all attempts.
    pub async fn upload_part(
        &self,
        key: &str,
        upload: &UploadId,
        part_number: u32,
        body: Bytes,
        checksum: &Checksum,
    ) -> Result<Part, StorageError> {
        let number = part_number.to_string();
        let mut call = Call::new("upload part of", Method::PUT, Some(key));
        call.query = vec![("partNumber", &number), ("uploadId", upload.as_str())];
        call.body = body;
        call.checksum = Some(checksum);
        let expected = Expected {
            size_bytes: call.body.len() as u64,
            checksum: Some(checksum),
            composite: false,
            etag: None,
            token: None,
        };
        let reply = match self.send_checked(&mut call, checksum).await {
            Ok(reply) => reply,
            Err(failed) => return Err(self.error(&call, failed)),
        };
        let etag = header_text(&reply.headers, ETAG.as_str())
            .map(unquoted_etag)
            .unwrap_or_default();
        let proof = self
            .proof_of_body(&call, &expected, &reply.headers, Some(&etag))
            .await;
        let stored = self.stored(&call, &expected, Some(etag), proof, reply.attempts)?;
        Ok(Part {
            number: part_number,
            etag: stored.etag.unwrap_or_default(),
            size_bytes: expected.size_bytes,
            checksum: stored.checksum,
        })
    }

    /// The parts that the store has of an upload, by number; all pages.
    ///
    /// # Errors
    /// When there is no such upload, or the store does not list it, after all attempts.
    pub async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, StorageError> {
        let mut parts = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut call = Call::new("list parts of", Method::GET, Some(key));
            call.answers_xml = true;
            call.query = vec![("max-parts", "1000"), ("uploadId", upload.as_str())];
            if let Some(marker) = &marker {
                call.query.push(("part-number-marker", marker));
            }
            let reply = self
                .send(&call)
                .await
                .map_err(|failed| self.error(&call, failed))?;
            let (page, next) = xml::parts_page(&reply.body)
                .map_err(|failure| self.error(&call, failed_after(reply.attempts, failure)))?;
            parts.extend(page);
            if next.is_none() || next == marker {
                return Ok(parts);
            }
            marker = next;
        }
    }

    /// Makes an object of `size_bytes` of these parts, which must be in the order of their numbers.
    ///
    /// A lost answer, and the word that there is no such upload (any more), are settled by looking at the object:
    /// one with our token, size and checksum is ours, and the upload was completed.
    ///
    /// # Errors
    /// When the object is not there, or holds other bytes, after all attempts.
    pub async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
        options: &WriteOptions,
        size_bytes: u64,
    ) -> Result<Stored, StorageError> {
        let whole = Whole::of(parts, &options.checksum);
        let mut call = Call::new("complete multipart upload of", Method::POST, Some(key));
        call.query = vec![("uploadId", upload.as_str())];
        call.answers_xml = true;
        // Before it answers, a store may copy every byte.
        call.may_be_silent = true;
        call.work_bytes = size_bytes;
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if options.if_none_match {
            call.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let with_checksums = !self.is_md5_only();
        if with_checksums {
            call.headers
                .insert("x-amz-mp-object-size", HeaderValue::from(size_bytes));
            call.headers.insert(
                "x-amz-checksum-type",
                HeaderValue::from_static(checksum_type(options.checksum.kind)),
            );
            if let Some(checksum) = whole.checksum.as_ref().filter(|_| !whole.composite) {
                call.headers
                    .insert(checksum_header(checksum.kind), ascii(checksum.base64()));
            }
        }
        call.body = Bytes::from(xml::complete_body(parts, with_checksums));
        let expected = Expected {
            size_bytes,
            checksum: whole.checksum.as_ref(),
            composite: whole.composite,
            etag: whole.etag.as_deref(),
            token: options.token.as_deref(),
        };
        match self.complete(&call).await {
            Ok((completed, attempts)) => {
                let proof = match expected.compare(completed.checksum.as_ref(), completed.etag.as_deref()) {
                    Proof::Same => Proof::Same,
                    // The object itself has the last word.
                    Proof::Other | Proof::None => self.proof_by_head(&call, &expected).await?,
                };
                // Each part was compared when it was taken, and the list of parts names them by their ETags.
                let proof = match proof {
                    Proof::None if !with_checksums && whole.confirmed => Proof::Same,
                    proof => proof,
                };
                self.stored(&call, &expected, completed.etag, proof, attempts)
            }
            Err(failed) => {
                let kind = failed.failure.kind;
                let taken = kind == StorageErrorKind::PreconditionFailed && options.if_none_match;
                let unsettled =
                    taken || kind == StorageErrorKind::NoSuchUpload || failed.failure.is_ambiguous();
                let stored = self.settled(&call, &expected, failed, unsettled).await?;
                if taken {
                    // The object is ours from an earlier completion: this upload is a leftover.
                    self.abort_multipart(key, upload).await?;
                }
                Ok(stored)
            }
        }
    }

    async fn complete(&self, call: &Call<'_>) -> Result<(xml::Completed, u32), Failed> {
        let reply = self.send(call).await?;
        let completed =
            xml::completed(&reply.body).map_err(|failure| failed_after(reply.attempts, failure))?;
        Ok((completed, reply.attempts))
    }

    /// Drops a multipart upload and its parts; one that is not there is dropped.
    ///
    /// # Errors
    /// When the store refuses, after all attempts.
    pub async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<(), StorageError> {
        let mut call = Call::new("abort multipart upload of", Method::DELETE, Some(key));
        call.query = vec![("uploadId", upload.as_str())];
        match self.send(&call).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.failure.kind == StorageErrorKind::NoSuchUpload => Ok(()),
            Err(failed) => Err(self.error(&call, failed)),
        }
    }

    /// The multipart uploads that are open on keys beginning with `prefix`; all pages.
    ///
    /// # Errors
    /// When the store does not list them, after all attempts.
    pub async fn list_multipart_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError> {
        let mut uploads = Vec::new();
        let mut marker: Option<xml::UploadsMarker> = None;
        loop {
            let mut call = Call::new("list multipart uploads of", Method::GET, None);
            call.answers_xml = true;
            call.query = vec![("encoding-type", "url"), ("prefix", prefix), ("uploads", "")];
            if let Some(marker) = &marker {
                call.query.push(("key-marker", &marker.key));
                call.query.push(("upload-id-marker", &marker.upload_id));
            }
            let reply = self
                .send(&call)
                .await
                .map_err(|failed| self.error(&call, failed))?;
            let (page, next) = xml::uploads_page(&reply.body)
                .map_err(|failure| self.error(&call, failed_after(reply.attempts, failure)))?;
            uploads.extend(page);
            if next.is_none() || next == marker {
                return Ok(uploads);
            }
            marker = next;
        }
    }
}

/// What is known about an object before it is put together.
struct Whole {
    checksum: Option<Checksum>,
    composite: bool,
    etag: Option<String>,
    /// The store confirmed each part.
    confirmed: bool,
}

impl Whole {
    fn of(parts: &[Part], given: &Checksum) -> Self {
        let kind = given.kind;
        let known: Vec<(Checksum, u64)> = parts
            .iter()
            .filter_map(|part| Some((part.checksum.clone()?, part.size_bytes)))
            .filter(|(checksum, _)| checksum.kind == kind)
            .collect();
        let confirmed = known.len() == parts.len();
        let (combined, composite) = Checksum::combine_parts(kind, &known);
        let checksum = if given.value.is_empty() {
            confirmed.then_some(combined)
        } else {
            Some(given.clone())
        };
        Self {
            checksum,
            composite,
            etag: multipart_etag(parts.iter().map(|part| part.etag.as_str())),
            confirmed,
        }
    }
}

fn algorithm(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc64nvme => "CRC64NVME",
        ChecksumKind::Crc32c => "CRC32C",
        ChecksumKind::Sha256 => "SHA256",
    }
}

/// CRCs of parts combine to the one of the whole object; hashes do not.
fn checksum_type(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc64nvme | ChecksumKind::Crc32c => "FULL_OBJECT",
        ChecksumKind::Sha256 => "COMPOSITE",
    }
}
