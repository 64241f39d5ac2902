//! The operations on objects.

use std::io::{Seek as _, SeekFrom};

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::backend::{Backend, checksum_type};
use super::bucket::{WriteCondition, strong};
use super::checksums::{put_sums, sums_of};
use super::receive::{Arrived, Claims, blocking, internal, receive};
use super::records::{ObjectRecord, attributes_of, now_ms, time_of};

const READ_BUFFER_BYTES: usize = 256 * 1024;

pub(super) async fn put_object(
    backend: &Backend,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let input = req.input;
    let bucket = backend.bucket(&input.bucket)?;
    let mut claims = Claims {
        content_md5: input.content_md5.clone(),
        sums: sums_of!(input),
        trailers: req.trailing_headers,
        ..Default::default()
    };
    let algorithm = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
    claims.announce(algorithm, &req.headers)?;
    let attributes = attributes_of!(input);
    let received = receive(input.body, claims, bucket.arriving()).await?;
    let record = ObjectRecord {
        key: input.key,
        size_bytes: received.size_bytes,
        etag: hex::encode(received.md5),
        modified_ms: now_ms(),
        sums: received.sums,
        is_composite: false,
        attributes,
        aside: None,
    };
    let condition = WriteCondition {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    let record = blocking(move || bucket.put(record, received.bytes, &condition)).await?;
    let mut output = PutObjectOutput {
        e_tag: strong(&record.etag),
        checksum_type: Some(checksum_type(&record)),
        ..Default::default()
    };
    put_sums!(output, record.sums);
    Ok(S3Response::new(output))
}

pub(super) async fn get_object(
    backend: &Backend,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = req.input;
    let bucket = backend.bucket(&input.bucket)?;
    let key = input.key;
    let (record, mut file) = blocking(move || bucket.open(&key)).await?;
    let condition = ReadCondition {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    condition.check(&record)?;
    let range = match &input.range {
        Some(range) => range.check(record.size_bytes)?,
        None => 0..record.size_bytes,
    };
    file.seek(SeekFrom::Start(range.start)).map_err(internal)?;
    let size_bytes = range.end - range.start;
    let reader = tokio::fs::File::from_std(file).take(size_bytes);
    let body = StreamingBlob::wrap(ReaderStream::with_capacity(reader, READ_BUFFER_BYTES));
    let attributes = &record.attributes;
    let mut output = GetObjectOutput {
        body: Some(body),
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(size_bytes).ok(),
        content_range: input.range.is_some().then(|| {
            format!(
                "bytes {}-{}/{}",
                range.start,
                range.end.max(1) - 1,
                record.size_bytes
            )
        }),
        content_type: attributes.content_type.clone(),
        content_encoding: attributes.content_encoding.clone(),
        content_disposition: attributes.content_disposition.clone(),
        content_language: attributes.content_language.clone(),
        cache_control: attributes.cache_control.clone(),
        storage_class: attributes.storage_class.clone().map(StorageClass::from),
        metadata: Some(attributes.user_metadata.clone()),
        e_tag: strong(&record.etag),
        last_modified: Some(time_of(record.modified_ms).into()),
        ..Default::default()
    };
    if wants_checksums(input.checksum_mode.as_ref()) && size_bytes == record.size_bytes {
        put_sums!(output, record.sums);
        output.checksum_type = Some(checksum_type(&record));
    }
    Ok(S3Response::new(output))
}

pub(super) async fn head_object(
    backend: &Backend,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    let record = backend.bucket(&input.bucket)?.find(&input.key)?;
    let condition = ReadCondition {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    condition.check(&record)?;
    let attributes = &record.attributes;
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(record.size_bytes).ok(),
        content_type: attributes.content_type.clone(),
        content_encoding: attributes.content_encoding.clone(),
        content_disposition: attributes.content_disposition.clone(),
        content_language: attributes.content_language.clone(),
        cache_control: attributes.cache_control.clone(),
        storage_class: attributes.storage_class.clone().map(StorageClass::from),
        metadata: Some(attributes.user_metadata.clone()),
        e_tag: strong(&record.etag),
        last_modified: Some(time_of(record.modified_ms).into()),
        ..Default::default()
    };
    if wants_checksums(input.checksum_mode.as_ref()) {
        put_sums!(output, record.sums);
        output.checksum_type = Some(checksum_type(&record));
    }
    Ok(S3Response::new(output))
}

pub(super) async fn delete_object(
    backend: &Backend,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let bucket = backend.bucket(&req.input.bucket)?;
    let key = req.input.key;
    blocking(move || bucket.delete(&key).map_err(internal)).await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_objects(
    backend: &Backend,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let bucket = backend.bucket(&req.input.bucket)?;
    let Delete { objects, quiet } = req.input.delete;
    let deleted = blocking(move || {
        let mut deleted = Vec::with_capacity(objects.len());
        for object in objects {
            bucket.delete(&object.key).map_err(internal)?;
            deleted.push(DeletedObject {
                key: Some(object.key),
                ..Default::default()
            });
        }
        Ok::<_, S3Error>(deleted)
    })
    .await?;
    let deleted = (!quiet.unwrap_or(false)).then_some(deleted);
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted,
        ..Default::default()
    }))
}

pub(super) async fn copy_object(
    backend: &Backend,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let input = req.input;
    let CopySource::Bucket {
        bucket: from_bucket,
        key: from_key,
        ..
    } = &input.copy_source
    else {
        return Err(s3_error!(NotImplemented));
    };
    let (from, to) = (backend.bucket(from_bucket)?, backend.bucket(&input.bucket)?);
    let from_key = from_key.to_string();
    let replaces = input
        .metadata_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    let attributes = replaces.then(|| attributes_of!(input));
    let key = input.key;
    let record = blocking(move || {
        let (source, mut bytes) = from.open(&from_key)?;
        let mut copy = tempfile::NamedTempFile::new_in(to.arriving()).map_err(internal)?;
        std::io::copy(&mut bytes, copy.as_file_mut()).map_err(internal)?;
        let record = ObjectRecord {
            key,
            modified_ms: now_ms(),
            attributes: attributes.unwrap_or_else(|| source.attributes.clone()),
            aside: None,
            ..(*source).clone()
        };
        to.put(
            record,
            Arrived::File(copy.into_temp_path()),
            &WriteCondition::default(),
        )
    })
    .await?;
    let mut result = CopyObjectResult {
        e_tag: strong(&record.etag),
        last_modified: Some(time_of(record.modified_ms).into()),
        checksum_type: Some(checksum_type(&record)),
        ..Default::default()
    };
    put_sums!(result, record.sums);
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        ..Default::default()
    }))
}

/// `If-Match` and its like on a read.
struct ReadCondition {
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl ReadCondition {
    fn check(&self, record: &ObjectRecord) -> S3Result<()> {
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == record.etag,
        };
        // Headers have whole seconds.
        let modified = Timestamp::from(time_of(record.modified_ms / 1000 * 1000));
        let has_changed = match &self.if_match {
            Some(condition) => !matches(condition),
            None => self
                .if_unmodified_since
                .as_ref()
                .is_some_and(|since| modified > *since),
        };
        if has_changed {
            return Err(s3_error!(PreconditionFailed));
        }
        let is_known = match &self.if_none_match {
            Some(condition) => matches(condition),
            None => self
                .if_modified_since
                .as_ref()
                .is_some_and(|since| modified <= *since),
        };
        if is_known {
            Err(s3_error!(NotModified))
        } else {
            Ok(())
        }
    }
}

fn wants_checksums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}
