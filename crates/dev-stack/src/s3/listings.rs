//! The listings of objects, and how keys are written in any listing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN_BASE64;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::backend::{Backend, checksum_type};
use super::bucket::strong;
use super::page::{Line, Page, Query, page};
use super::records::time_of;

/// The most lines in one answer.
pub(super) const PAGE_LIMIT: i32 = 1000;

pub(super) async fn list_objects_v2(
    backend: &Backend,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let encoding = KeyEncoding::of(input.encoding_type.as_ref());
    let after = match &input.continuation_token {
        Some(token) => TOKEN_BASE64
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let max_keys = input.max_keys.unwrap_or(PAGE_LIMIT).clamp(0, PAGE_LIMIT);
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().unwrap_or_default(),
        after: &after,
        limit: usize::try_from(max_keys).unwrap_or_default(),
    };
    let page = list(backend, &input.bucket, &query)?;
    let key_count = i32::try_from(page.lines.len()).ok();
    let next = page.next_after.as_ref().map(|after| TOKEN_BASE64.encode(after));
    let (contents, common_prefixes) = encoding.split(page.lines);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encoding.apply(&prefix)),
        delimiter: input.delimiter.map(|delimiter| encoding.apply(&delimiter)),
        start_after: input.start_after.map(|after| encoding.apply(&after)),
        max_keys: Some(max_keys),
        key_count,
        is_truncated: Some(next.is_some()),
        continuation_token: input.continuation_token,
        next_continuation_token: next,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

pub(super) async fn list_objects(
    backend: &Backend,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = req.input;
    let encoding = KeyEncoding::of(input.encoding_type.as_ref());
    let max_keys = input.max_keys.unwrap_or(PAGE_LIMIT).clamp(0, PAGE_LIMIT);
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().unwrap_or_default(),
        after: input.marker.as_deref().unwrap_or_default(),
        limit: usize::try_from(max_keys).unwrap_or_default(),
    };
    let page = list(backend, &input.bucket, &query)?;
    let next_marker = page.next_after.as_deref().map(|after| encoding.apply(after));
    let (contents, common_prefixes) = encoding.split(page.lines);
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encoding.apply(&prefix)),
        delimiter: input.delimiter.map(|delimiter| encoding.apply(&delimiter)),
        marker: input.marker.map(|marker| encoding.apply(&marker)),
        max_keys: Some(max_keys),
        is_truncated: Some(next_marker.is_some()),
        next_marker,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

fn list(backend: &Backend, bucket: &str, query: &Query<'_>) -> S3Result<Page> {
    Ok(page(&backend.bucket(bucket)?.state().objects, query))
}

/// How keys are written in the XML of a listing.
#[derive(Clone, Copy)]
pub(super) enum KeyEncoding {
    Plain,
    Url,
}

impl KeyEncoding {
    pub(super) fn of(encoding_type: Option<&EncodingType>) -> Self {
        match encoding_type {
            Some(one) if one.as_str() == EncodingType::URL => Self::Url,
            _ => Self::Plain,
        }
    }

    pub(super) fn apply(self, key: &str) -> String {
        const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
            .remove(b'/')
            .remove(b'-')
            .remove(b'_')
            .remove(b'.')
            .remove(b'~');
        match self {
            Self::Plain => key.to_owned(),
            Self::Url => percent_encoding::utf8_percent_encode(key, KEPT).to_string(),
        }
    }

    fn split(self, lines: Vec<Line>) -> (Vec<Object>, Vec<CommonPrefix>) {
        let (mut objects, mut prefixes) = (Vec::with_capacity(lines.len()), Vec::new());
        for line in lines {
            match line {
                Line::CommonPrefix(prefix) => {
                    prefixes.push(CommonPrefix {
                        prefix: Some(self.apply(&prefix)),
                    });
                }
                Line::Object(record) => objects.push(Object {
                    key: Some(self.apply(&record.key)),
                    size: i64::try_from(record.size_bytes).ok(),
                    e_tag: strong(&record.etag),
                    last_modified: Some(time_of(record.modified_ms).into()),
                    storage_class: Some(match &record.attributes.storage_class {
                        Some(class) => ObjectStorageClass::from(class.clone()),
                        None => ObjectStorageClass::from_static(ObjectStorageClass::STANDARD),
                    }),
                    checksum_algorithm: Some(
                        record
                            .sums
                            .algorithms()
                            .into_iter()
                            .map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name()))
                            .collect(),
                    ),
                    checksum_type: Some(checksum_type(&record)),
                    ..Default::default()
                }),
            }
        }
        (objects, prefixes)
    }
}
