//! The operations on multipart uploads.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::backend::{Backend, checksum_type, kind_of_sum};
use super::bucket::{WriteCondition, strong};
use super::checksums::{Algorithm, put_sums, sums_of};
use super::listings::{KeyEncoding, PAGE_LIMIT};
use super::multipart::Completion;
use super::receive::{Claims, blocking, receive};
use super::records::{PartRecord, UploadRecord, attributes_of, now_ms, time_of};

pub(super) async fn create_multipart_upload(
    backend: &Backend,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = req.input;
    let bucket = backend.bucket(&input.bucket)?;
    let algorithm = match &input.checksum_algorithm {
        Some(name) => Some(
            Algorithm::from_name(name.as_str())
                .ok_or_else(|| s3_error!(InvalidRequest, "unknown checksum algorithm {}", name.as_str()))?,
        ),
        None => None,
    };
    let asked = input.checksum_type.as_ref().map(ChecksumType::as_str);
    let is_composite = match (algorithm, asked) {
        (None | Some(Algorithm::Crc64nvme), Some(ChecksumType::COMPOSITE))
        | (Some(Algorithm::Sha1 | Algorithm::Sha256), Some(ChecksumType::FULL_OBJECT)) => {
            return Err(s3_error!(
                InvalidRequest,
                "This checksum algorithm does not have that type."
            ));
        }
        (None | Some(Algorithm::Crc64nvme), _) | (_, Some(ChecksumType::FULL_OBJECT)) => false,
        _ => true,
    };
    let record = UploadRecord {
        upload_id: hex::encode(rand::random::<[u8; 16]>()),
        key: input.key.clone(),
        initiated_ms: now_ms(),
        algorithm,
        is_composite,
        attributes: attributes_of!(input),
        parts: BTreeMap::new(),
    };
    let output = CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(record.upload_id.clone()),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: algorithm.map(|_| kind_of_sum(record.is_composite)),
        ..Default::default()
    };
    blocking(move || bucket.create_upload(record)).await?;
    Ok(S3Response::new(output))
}

pub(super) async fn upload_part(
    backend: &Backend,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = req.input;
    let bucket = backend.bucket(&input.bucket)?;
    let number = u16::try_from(input.part_number)
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            )
        })?;
    let upload = bucket.find_upload(&input.key, &input.upload_id)?;
    let mut claims = Claims {
        content_md5: input.content_md5.clone(),
        sums: sums_of!(input),
        wanted: upload.algorithm.into_iter().collect(),
        trailers: req.trailing_headers,
    };
    let algorithm = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
    claims.announce(algorithm, &req.headers)?;
    let received = receive(input.body, claims, bucket.arriving()).await?;
    let part = blocking(move || bucket.put_part(&input.key, &input.upload_id, number, received)).await?;
    let mut output = UploadPartOutput {
        e_tag: strong(&part.etag),
        ..Default::default()
    };
    put_sums!(output, part.sums);
    Ok(S3Response::new(output))
}

pub(super) async fn list_parts(
    backend: &Backend,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let upload = backend
        .bucket(&input.bucket)?
        .find_upload(&input.key, &input.upload_id)?;
    let after = input.part_number_marker.unwrap_or(0);
    let max_parts = input.max_parts.unwrap_or(PAGE_LIMIT).clamp(0, PAGE_LIMIT);
    let limit = usize::try_from(max_parts).unwrap_or_default();
    let mut rest = upload
        .parts
        .values()
        .filter(|part| i32::from(part.number) > after);
    let parts: Vec<Part> = rest.by_ref().take(limit).map(part_line).collect();
    let is_truncated = limit > 0 && rest.next().is_some();
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(after),
        next_part_number_marker: parts.last().and_then(|part| part.part_number),
        max_parts: Some(max_parts),
        is_truncated: Some(is_truncated),
        checksum_algorithm: upload
            .algorithm
            .map(|one| ChecksumAlgorithm::from_static(one.name())),
        checksum_type: upload.algorithm.map(|_| kind_of_sum(upload.is_composite)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        parts: Some(parts),
        ..Default::default()
    }))
}

pub(super) async fn complete_multipart_upload(
    backend: &Backend,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let bucket = backend.bucket(&input.bucket)?;
    let completion = Completion {
        sums: sums_of!(input),
        size_bytes: input
            .mpu_object_size
            .and_then(|size_bytes| u64::try_from(size_bytes).ok()),
        parts: input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default(),
        condition: WriteCondition {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        },
    };
    let (key, upload_id) = (input.key.clone(), input.upload_id);
    let record = blocking(move || bucket.complete_upload(&key, &upload_id, &completion)).await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: strong(&record.etag),
        checksum_type: Some(checksum_type(&record)),
        ..Default::default()
    };
    put_sums!(output, record.sums);
    Ok(S3Response::new(output))
}

pub(super) async fn abort_multipart_upload(
    backend: &Backend,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = req.input;
    let bucket = backend.bucket(&input.bucket)?;
    blocking(move || bucket.abort_upload(&input.key, &input.upload_id)).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) async fn list_multipart_uploads(
    backend: &Backend,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    if input.delimiter.is_some() {
        return Err(s3_error!(
            NotImplemented,
            "uploads are listed without a delimiter only"
        ));
    }
    let encoding = KeyEncoding::of(input.encoding_type.as_ref());
    let bucket = backend.bucket(&input.bucket)?;
    let max_uploads = input.max_uploads.unwrap_or(PAGE_LIMIT).clamp(0, PAGE_LIMIT);
    let limit = usize::try_from(max_uploads).unwrap_or_default();
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let is_after = |upload: &&UploadRecord| match (&input.key_marker, &input.upload_id_marker) {
        (None, _) => true,
        (Some(key), None) => upload.key > *key,
        (Some(key), Some(id)) => (&upload.key, &upload.upload_id) > (key, id),
    };
    let (uploads, has_more): (Vec<UploadRecord>, bool) = {
        let state = bucket.state();
        let mut rest = state
            .uploads
            .values()
            .filter(|upload| upload.key.starts_with(prefix))
            .filter(is_after);
        (
            rest.by_ref().take(limit).cloned().collect(),
            limit > 0 && rest.next().is_some(),
        )
    };
    let last = uploads.last().filter(|_| has_more);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        next_key_marker: last.map(|upload| encoding.apply(&upload.key)),
        next_upload_id_marker: last.map(|upload| upload.upload_id.clone()),
        is_truncated: Some(has_more),
        max_uploads: Some(max_uploads),
        key_marker: input.key_marker.as_deref().map(|marker| encoding.apply(marker)),
        upload_id_marker: input.upload_id_marker.clone(),
        prefix: input.prefix.as_deref().map(|prefix| encoding.apply(prefix)),
        encoding_type: input.encoding_type,
        uploads: Some(
            uploads
                .iter()
                .map(|upload| upload_line(upload, encoding))
                .collect(),
        ),
        ..Default::default()
    }))
}

fn part_line(part: &PartRecord) -> Part {
    let mut line = Part {
        part_number: Some(i32::from(part.number)),
        size: i64::try_from(part.size_bytes).ok(),
        e_tag: strong(&part.etag),
        last_modified: Some(time_of(part.modified_ms).into()),
        ..Default::default()
    };
    put_sums!(line, part.sums);
    line
}

fn upload_line(upload: &UploadRecord, encoding: KeyEncoding) -> MultipartUpload {
    MultipartUpload {
        key: Some(encoding.apply(&upload.key)),
        upload_id: Some(upload.upload_id.clone()),
        initiated: Some(time_of(upload.initiated_ms).into()),
        checksum_algorithm: upload
            .algorithm
            .map(|one| ChecksumAlgorithm::from_static(one.name())),
        checksum_type: upload.algorithm.map(|_| kind_of_sum(upload.is_composite)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    }
}
