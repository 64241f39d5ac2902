//! The XML of S3: answers read, and the one body that is written.

use crate::checksum::Checksum;
use crate::error::{Failure, StorageErrorKind};
use crate::objects::{ListPage, ListedObject, OpenUpload, Part, UploadId, unquoted_etag};
use domain::ChecksumKind;
use percent_encoding::percent_decode_str;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;

/// What the store says about a failure.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ErrorAnswer {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) region: Option<String>,
}

/// The error in this body, when it is one.
pub(crate) fn error_answer(body: &[u8]) -> Option<ErrorAnswer> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    if root_name(text)? != "Error" {
        return None;
    }
    quick_xml::de::from_str(text).ok()
}

fn root_name(text: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) | Event::Empty(start) => {
                return Some(String::from_utf8_lossy(start.local_name().as_ref().as_bytes()).into_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Reads an answer whose root's name begins with `root`; AWS ends them in `Result`, some stores otherwise.
fn read<T: DeserializeOwned>(body: &[u8], root: &str) -> Result<T, Failure> {
    let invalid = |detail: String| Failure::new(StorageErrorKind::InvalidResponse, detail);
    let text = std::str::from_utf8(body).map_err(|_| invalid("the answer is not UTF-8".to_owned()))?;
    let text = text.trim_start();
    match root_name(text) {
        Some(name) if name.starts_with(root) => {}
        Some(name) => return Err(invalid(format!("<{name}> instead of <{root}>"))),
        None => return Err(invalid(format!("no XML instead of <{root}>"))),
    }
    quick_xml::de::from_str(text).map_err(|error| invalid(format!("<{root}> cannot be read: {error}")))
}

/// Listed names are in query encoding when the store says so: control characters have no place in XML.
fn listed_name(name: &str, encoding: Option<&str>) -> Result<String, Failure> {
    if encoding != Some("url") {
        return Ok(name.to_owned());
    }
    let spaced = name.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| {
            Failure::new(
                StorageErrorKind::InvalidResponse,
                format!("the listed key {name:?} is not UTF-8"),
            )
        })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListBucketResult {
    encoding_type: Option<String>,
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    #[serde(default)]
    contents: Vec<Contents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    size: u64,
    #[serde(rename = "ETag")]
    etag: Option<String>,
    last_modified: Option<String>,
}

/// One page of ListObjectsV2.
pub(crate) fn list_page(body: &[u8]) -> Result<ListPage, Failure> {
    let answer: ListBucketResult = read(body, "ListBucket")?;
    let encoding = answer.encoding_type.as_deref();
    let object = |listed: Contents| {
        Ok(ListedObject {
            key: listed_name(&listed.key, encoding)?,
            size_bytes: listed.size,
            etag: listed.etag.as_deref().map(unquoted_etag),
            last_modified: listed.last_modified,
        })
    };
    let objects = answer
        .contents
        .into_iter()
        .map(object)
        .collect::<Result<_, Failure>>()?;
    let next = answer.next_continuation_token.filter(|token| !token.is_empty());
    if answer.is_truncated && next.is_none() {
        return Err(Failure::new(
            StorageErrorKind::InvalidResponse,
            "the listing goes on, but does not say where",
        ));
    }
    Ok(ListPage {
        objects,
        next: next.filter(|_| answer.is_truncated),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InitiateMultipartUploadResult {
    upload_id: String,
}

/// The id of a multipart upload that was just opened.
pub(crate) fn upload_id(body: &[u8]) -> Result<UploadId, Failure> {
    let answer: InitiateMultipartUploadResult = read(body, "InitiateMultipartUpload")?;
    if answer.upload_id.is_empty() {
        return Err(Failure::new(
            StorageErrorKind::InvalidResponse,
            "the upload id is empty",
        ));
    }
    Ok(UploadId::new(answer.upload_id))
}

/// The first checksum element that an answer has.
fn first_checksum(
    crc64nvme: Option<String>,
    crc32c: Option<String>,
    sha256: Option<String>,
) -> Option<(ChecksumKind, String)> {
    let elements = [
        (ChecksumKind::Crc64nvme, crc64nvme),
        (ChecksumKind::Crc32c, crc32c),
        (ChecksumKind::Sha256, sha256),
    ];
    let told = |(kind, text): (ChecksumKind, Option<String>)| text.map(|text| (kind, text));
    elements
        .into_iter()
        .filter_map(told)
        .find(|(_, text)| !text.is_empty())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListPartsResult {
    #[serde(default)]
    is_truncated: bool,
    next_part_number_marker: Option<String>,
    #[serde(default)]
    part: Vec<ListedPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPart {
    part_number: u32,
    #[serde(rename = "ETag", default)]
    etag: String,
    #[serde(default)]
    size: u64,
    // Not flattened: quick-xml hands text to flattened fields as maps.
    #[serde(rename = "ChecksumCRC64NVME")]
    crc64nvme: Option<String>,
    #[serde(rename = "ChecksumCRC32C")]
    crc32c: Option<String>,
    #[serde(rename = "ChecksumSHA256")]
    sha256: Option<String>,
}

/// One page of ListParts, and where the next begins.
pub(crate) fn parts_page(body: &[u8]) -> Result<(Vec<Part>, Option<String>), Failure> {
    let answer: ListPartsResult = read(body, "ListParts")?;
    let part = |listed: ListedPart| Part {
        number: listed.part_number,
        etag: unquoted_etag(&listed.etag),
        size_bytes: listed.size,
        checksum: first_checksum(listed.crc64nvme, listed.crc32c, listed.sha256)
            .and_then(|(kind, text)| Checksum::from_base64(kind, &text)),
    };
    let next = answer
        .next_part_number_marker
        .filter(|marker| answer.is_truncated && !marker.is_empty());
    Ok((answer.part.into_iter().map(part).collect(), next))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListMultipartUploadsResult {
    encoding_type: Option<String>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(default)]
    upload: Vec<ListedUpload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedUpload {
    key: String,
    upload_id: String,
    initiated: Option<String>,
}

/// Where the next page of ListMultipartUploads begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadsMarker {
    pub(crate) key: String,
    pub(crate) upload_id: String,
}

/// One page of ListMultipartUploads, and where the next begins.
pub(crate) fn uploads_page(body: &[u8]) -> Result<(Vec<OpenUpload>, Option<UploadsMarker>), Failure> {
    let answer: ListMultipartUploadsResult = read(body, "ListMultipartUploads")?;
    let encoding = answer.encoding_type.as_deref();
    let upload = |listed: ListedUpload| {
        Ok(OpenUpload {
            key: listed_name(&listed.key, encoding)?,
            upload_id: UploadId::new(listed.upload_id),
            initiated: listed.initiated,
        })
    };
    let uploads = answer
        .upload
        .into_iter()
        .map(upload)
        .collect::<Result<_, Failure>>()?;
    let next = match answer
        .next_key_marker
        .filter(|key| answer.is_truncated && !key.is_empty())
    {
        Some(key) => Some(UploadsMarker {
            key: listed_name(&key, encoding)?,
            upload_id: answer.next_upload_id_marker.unwrap_or_default(),
        }),
        None => None,
    };
    Ok((uploads, next))
}

#[derive(Deserialize)]
struct CompleteMultipartUploadResult {
    #[serde(rename = "ETag")]
    etag: Option<String>,
    #[serde(rename = "ChecksumType")]
    checksum_type: Option<String>,
    #[serde(rename = "ChecksumCRC64NVME")]
    crc64nvme: Option<String>,
    #[serde(rename = "ChecksumCRC32C")]
    crc32c: Option<String>,
    #[serde(rename = "ChecksumSHA256")]
    sha256: Option<String>,
}

/// What the store says about the object it put together.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    pub(crate) etag: Option<String>,
    /// A checksum, and whether it is one of the parts' checksums.
    pub(crate) checksum: Option<(Checksum, bool)>,
}

pub(crate) fn completed(body: &[u8]) -> Result<Completed, Failure> {
    let answer: CompleteMultipartUploadResult = read(body, "CompleteMultipartUpload")?;
    let checksum = first_checksum(answer.crc64nvme, answer.crc32c, answer.sha256);
    Ok(Completed {
        etag: answer.etag.as_deref().map(unquoted_etag),
        checksum: checksum
            .and_then(|(kind, text)| told_checksum(kind, &text, answer.checksum_type.as_deref())),
    })
}

/// A checksum as the store tells it, and whether it is composite: the type says so, or `-` and the number of
/// parts behind it.
pub(crate) fn told_checksum(
    kind: ChecksumKind,
    text: &str,
    checksum_type: Option<&str>,
) -> Option<(Checksum, bool)> {
    let (value, parts) = match text.split_once('-') {
        Some((value, _)) => (value, true),
        None => (text, false),
    };
    let composite = parts || checksum_type == Some("COMPOSITE");
    Some((Checksum::from_base64(kind, value)?, composite))
}

/// The body of CompleteMultipartUpload.
pub(crate) fn complete_body(parts: &[Part], with_checksums: bool) -> String {
    let mut xml =
        String::from(r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#);
    for part in parts {
        let (number, etag) = (part.number, escape(&part.etag));
        // A String takes all that is written to it.
        let _ = write!(
            xml,
            "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag>"
        );
        if let Some(checksum) = part.checksum.as_ref().filter(|_| with_checksums) {
            let element = match checksum.kind {
                ChecksumKind::Crc64nvme => "ChecksumCRC64NVME",
                ChecksumKind::Crc32c => "ChecksumCRC32C",
                ChecksumKind::Sha256 => "ChecksumSHA256",
            };
            let _ = write!(xml, "<{element}>{}</{element}>", checksum.base64());
        }
        xml.push_str("</Part>");
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Hasher;

    #[test]
    fn an_error_is_told_from_other_answers() {
        let error = br#"<?xml version="1.0" encoding="UTF-8"?>
            <Error><Code>SlowDown</Code><Message>Please &lt;slow&gt; down</Message><Resource>/b/k</Resource>
            <RequestId>4442587FB7D0A2F9</RequestId><HostId>x</HostId></Error>"#;
        let answer = error_answer(error).unwrap();
        assert_eq!(answer.code.as_deref(), Some("SlowDown"));
        assert_eq!(answer.message.as_deref(), Some("Please <slow> down"));
        assert_eq!(answer.request_id.as_deref(), Some("4442587FB7D0A2F9"));
        for other in [
            "",
            "<html><body>Error</body></html>",
            "<ListBucketResult/>",
            "<Error",
            "\u{0}",
        ] {
            assert_eq!(error_answer(other.as_bytes()), None, "{other}");
        }
        assert!(error_answer(b"<Error/>").is_some());
    }

    #[test]
    fn a_listing_is_read_with_its_names_decoded() {
        let page = list_page(
            br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>a</Prefix>
            <KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>
            <Contents><Key>a+b%2Bc%0A%F0%9F%98%80</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
            <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size>
            <Owner><ID>1</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>
            <Contents><Key>a/%2525</Key><Size>0</Size></Contents></ListBucketResult>"#,
        )
        .unwrap();
        assert_eq!(
            page.next.as_deref(),
            Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=")
        );
        assert_eq!(page.objects[0].key, "a b+c\n\u{1f600}");
        assert_eq!(
            page.objects[0].etag.as_deref(),
            Some("fba9dede5f27731c9771645a39863328")
        );
        assert_eq!(page.objects[0].size_bytes, 434_234);
        assert_eq!(page.objects[1].key, "a/%25");
        let empty =
            list_page(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>").unwrap();
        assert_eq!(
            empty,
            ListPage {
                objects: Vec::new(),
                next: None
            }
        );
    }

    #[test]
    fn a_listing_without_encoding_keeps_its_names() {
        let page = list_page(
            b"<ListBucketResult><Contents><Key>a+b%20</Key><Size>1</Size></Contents></ListBucketResult>",
        );
        assert_eq!(page.unwrap().objects[0].key, "a+b%20");
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for wrong in [
            "",
            "<html></html>",
            "<ListBucketResult><Contents></Contents></ListBucketResult>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%FF</Key><Size>1</Size></Contents></ListBucketResult>",
        ] {
            assert_eq!(
                list_page(wrong.as_bytes()).unwrap_err().kind,
                StorageErrorKind::InvalidResponse,
                "{wrong}"
            );
        }
    }

    #[test]
    fn parts_are_read_with_their_checksums_and_the_next_page() {
        let (parts, next) = parts_page(
            br#"<ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket>
            <UploadId>u</UploadId><PartNumberMarker>1</PartNumberMarker><NextPartNumberMarker>3</NextPartNumberMarker>
            <MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>
            <Part><PartNumber>2</PartNumber><LastModified>x</LastModified><ETag>"7778aef83f66abc1fa1e8477f296d394"</ETag>
            <Size>10485760</Size><ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME></Part>
            <Part><PartNumber>3</PartNumber><ETag>"aaaa18db4cc2f85cedef654fccc4a4x8"</ETag><Size>7</Size></Part>
            </ListPartsResult>"#,
        )
        .unwrap();
        assert_eq!(next.as_deref(), Some("3"));
        assert_eq!((parts[0].number, parts[0].size_bytes), (2, 10_485_760));
        assert_eq!(
            parts[0].checksum,
            Some(Hasher::of(ChecksumKind::Crc64nvme, b"123456789"))
        );
        assert_eq!(parts[0].etag, "7778aef83f66abc1fa1e8477f296d394");
        assert_eq!(parts[1].checksum, None);
    }

    #[test]
    fn open_uploads_are_read_and_the_next_page() {
        let (uploads, next) = uploads_page(
            br"<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <NextKeyMarker>a%20b</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker>
            <Upload><Key>a%20b</Key><UploadId>u2</UploadId><Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>
            </ListMultipartUploadsResult>",
        )
        .unwrap();
        assert_eq!(uploads[0].key, "a b");
        assert_eq!(uploads[0].upload_id.as_str(), "u2");
        let marker = UploadsMarker {
            key: "a b".to_owned(),
            upload_id: "u2".to_owned(),
        };
        assert_eq!(next, Some(marker));
    }

    #[test]
    fn a_completion_tells_its_checksum_and_type() {
        let completed_with = |inner: &str| {
            completed(
                format!("<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>").as_bytes(),
            )
            .unwrap()
        };
        let answer = completed_with(
            "<ETag>\"3858f62230ac3c915f300c664312c11f-9\"</ETag><ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME>\
             <ChecksumType>FULL_OBJECT</ChecksumType>",
        );
        assert_eq!(answer.etag.as_deref(), Some("3858f62230ac3c915f300c664312c11f-9"));
        assert_eq!(
            answer.checksum,
            Some((Hasher::of(ChecksumKind::Crc64nvme, b"123456789"), false))
        );
        let composite = completed_with("<ChecksumCRC32C>4waSgw==-2</ChecksumCRC32C>")
            .checksum
            .unwrap();
        assert_eq!(composite, (Hasher::of(ChecksumKind::Crc32c, b"123456789"), true));
        assert!(completed(b"").is_err());
    }

    #[test]
    fn a_completion_names_parts_etags_and_checksums() {
        let part = Part {
            number: 1,
            etag: "a&b".to_owned(),
            size_bytes: 9,
            checksum: Some(Hasher::of(ChecksumKind::Crc32c, b"123456789")),
        };
        let body = complete_body(std::slice::from_ref(&part), true);
        assert!(body.ends_with(
            "<Part><PartNumber>1</PartNumber><ETag>&quot;a&amp;b&quot;</ETag><ChecksumCRC32C>4waSgw==</ChecksumCRC32C>\
             </Part></CompleteMultipartUpload>"
        ));
        assert!(!complete_body(&[part], false).contains("Checksum"));
    }
}
