//! Writes one object whose bytes come piece by piece and whose length nobody knows before the end. It holds one part
//! at most: what fits into that goes in one request, anything larger by multipart.

use bytes::BytesMut;
use domain::ChecksumKind;
use storage::{Bucket, Checksum, Hasher, Part, StorageError, Stored, UploadId, WriteOptions};

/// How much is held and sent at a time: 10,000 of these are 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// What is sent along and must be confirmed by the store.
const CHECKSUM: ChecksumKind = ChecksumKind::Crc64nvme;

/// An object that is being written. Drop it without [`ObjectWriter::finish`] and nothing is there, but for a multipart
/// upload that may stay open: [`ObjectWriter::abort`] closes that.
pub struct ObjectWriter {
    bucket: Bucket,
    key: String,
    options: WriteOptions,
    buffer: BytesMut,
    upload: Option<UploadId>,
    parts: Vec<Part>,
    sums: Vec<(Checksum, u64)>,
}

impl ObjectWriter {
    /// Begins an object; nothing is sent yet. `token` says whose it is, should an answer be lost.
    #[must_use]
    pub fn new(bucket: Bucket, key: String, token: String, content_type: &str) -> Self {
        let options = WriteOptions {
            token: Some(token),
            content_type: Some(content_type.to_owned()),
            ..WriteOptions::new(Checksum {
                kind: CHECKSUM,
                value: Vec::new(),
            })
        };
        Self {
            bucket,
            key,
            options,
            buffer: BytesMut::new(),
            upload: None,
            parts: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Takes the next bytes, and sends what makes whole parts.
    ///
    /// # Errors
    /// The store's, after all attempts. Nothing more can be written then.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            // Only when more comes is it certain that one request will not do.
            if self.buffer.len() == PART_BYTES {
                self.send_part().await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Sends the rest and makes the object. What the store gives as [`Stored::checksum`] is what it confirmed.
    ///
    /// # Errors
    /// The store's, after all attempts.
    pub async fn finish(&mut self) -> Result<Stored, StorageError> {
        if self.upload.is_some() {
            self.send_part().await?;
        }
        let Some(upload) = &self.upload else {
            let body = self.buffer.split().freeze();
            self.options.checksum = Hasher::of(CHECKSUM, &body);
            return self.bucket.put(&self.key, body, &self.options).await;
        };
        let size_bytes = self.sums.iter().map(|(_, size_bytes)| size_bytes).sum();
        (self.options.checksum, _) = Checksum::combine_parts(CHECKSUM, &self.sums);
        let stored = self
            .bucket
            .complete_multipart(&self.key, upload, &self.parts, &self.options, size_bytes)
            .await?;
        self.upload = None;
        Ok(stored)
    }

    /// Closes the multipart upload, if one is open.
    ///
    /// # Errors
    /// The store's, after all attempts: then it stays open.
    pub async fn abort(&mut self) -> Result<(), StorageError> {
        match self.upload.take() {
            Some(upload) => self.bucket.abort_multipart(&self.key, &upload).await,
            None => Ok(()),
        }
    }

    async fn send_part(&mut self) -> Result<(), StorageError> {
        let upload = match self.upload.clone() {
            Some(upload) => upload,
            None => self.bucket.create_multipart(&self.key, &self.options).await?,
        };
        self.upload = Some(upload.clone());
        let body = self.buffer.split().freeze();
        let (checksum, size_bytes) = (Hasher::of(CHECKSUM, &body), body.len() as u64);
        let number = u32::try_from(self.parts.len() + 1).unwrap_or(u32::MAX);
        let part = self
            .bucket
            .upload_part(&self.key, &upload, number, body, &checksum)
            .await?;
        self.parts.push(part);
        self.sums.push((checksum, size_bytes));
        Ok(())
    }
}
