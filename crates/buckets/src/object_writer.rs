//! Writes one object whose bytes come piece by piece and whose length nobody knows before the end. It holds one part
//! at most.
//!
//! It goes by multipart, however small it is: what is open can be closed by others, and then never becomes an object.

use bytes::BytesMut;
use domain::ChecksumKind;
use storage::{Bucket, Checksum, Hasher, Part, StorageError, Stored, UploadId, WriteOptions};

/// How much is held and sent at a time: 10,000 of these are 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// What is sent along and must be confirmed by the store.
const CHECKSUM: ChecksumKind = ChecksumKind::Crc64nvme;

/// An object that is being written. Drop it without [`ObjectWriter::finish`] and nothing is there, but for its multipart
/// upload, which stays open: [`ObjectWriter::abort`] closes that.
pub struct ObjectWriter {
    bucket: Bucket,
    key: String,
    options: WriteOptions,
    buffer: BytesMut,
    upload: UploadId,
    parts: Vec<Part>,
    sums: Vec<(Checksum, u64)>,
}

impl ObjectWriter {
    /// Opens the multipart upload. `token` says whose the object is, should an answer be lost.
    ///
    /// # Errors
    /// The store's, after all attempts.
    pub async fn open(
        bucket: Bucket,
        key: String,
        token: String,
        content_type: &str,
    ) -> Result<Self, StorageError> {
        let options = WriteOptions {
            token: Some(token),
            content_type: Some(content_type.to_owned()),
            ..WriteOptions::new(Checksum {
                kind: CHECKSUM,
                value: Vec::new(),
            })
        };
        let upload = bucket.create_multipart(&key, &options).await?;
        Ok(Self {
            bucket,
            key,
            options,
            buffer: BytesMut::new(),
            upload,
            parts: Vec::new(),
            sums: Vec::new(),
        })
    }

    /// Takes the next bytes, and sends what makes whole parts.
    ///
    /// # Errors
    /// The store's, after all attempts. Nothing more can be written then.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            // A part is the last one unless more comes.
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
        self.send_part().await?;
        let size_bytes = self.sums.iter().map(|(_, size_bytes)| size_bytes).sum();
        (self.options.checksum, _) = Checksum::combine_parts(CHECKSUM, &self.sums);
        self.bucket
            .complete_multipart(&self.key, &self.upload, &self.parts, &self.options, size_bytes)
            .await
    }

    /// Closes the multipart upload; one that was completed is closed.
    ///
    /// # Errors
    /// The store's, after all attempts: then it stays open.
    pub async fn abort(&self) -> Result<(), StorageError> {
        self.bucket.abort_multipart(&self.key, &self.upload).await
    }

    async fn send_part(&mut self) -> Result<(), StorageError> {
        let body = self.buffer.split().freeze();
        let (checksum, size_bytes) = (Hasher::of(CHECKSUM, &body), body.len() as u64);
        let number = u32::try_from(self.parts.len() + 1).unwrap_or(u32::MAX);
        let part = self
            .bucket
            .upload_part(&self.key, &self.upload, number, body, &checksum)
            .await?;
        self.parts.push(part);
        self.sums.push((checksum, size_bytes));
        Ok(())
    }
}
