//! Listings: objects of a bucket, multipart uploads that are open, parts of one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::answer::{Answer, escaped};
use super::head::Head;
use super::store::{Object, Store, range};

const PAGE: usize = 1_000;
/// The sink keeps no times; clients want one.
const TIME: &str = "2026-01-01T00:00:00.000Z";

/// ListObjects, in both versions.
pub(super) fn objects(store: &Store, head: &Head, bucket: &str) -> Answer {
    let prefix = head.parameter("prefix").unwrap_or_default();
    let delimiter = head
        .parameter("delimiter")
        .filter(|delimiter| !delimiter.is_empty());
    let after = after(head);
    let most = most(head, "max-keys");
    let (mut contents, mut folders) = (String::new(), BTreeSet::new());
    let (mut last, mut count, mut is_truncated) = (String::new(), 0, false);
    let stored = store.objects();
    let (below, behind) = (format!("{bucket}/{prefix}"), format!("{bucket}/{after}"));
    for (path, object) in range(&stored, &below, &behind) {
        let key = path.get(bucket.len() + 1..).unwrap_or_default();
        let folder = delimiter
            .as_deref()
            .and_then(|delimiter| folder_of(key, &prefix, delimiter));
        if folder.is_some_and(|folder| folders.contains(folder) || folder == after) {
            continue;
        }
        if count == most {
            is_truncated = true;
            break;
        }
        count += 1;
        folder.unwrap_or(key).clone_into(&mut last);
        if let Some(folder) = folder {
            folders.insert(folder.to_owned());
            continue;
        }
        contents += &listed(head, key, object);
    }
    for folder in &folders {
        let folder = name(head, folder);
        // Writing to a text does not fail.
        let _ = write!(
            contents,
            "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
        );
    }
    let next = if is_truncated {
        let (token, marker) = (encoded(&last), name(head, &last));
        format!("<NextContinuationToken>{token}</NextContinuationToken><NextMarker>{marker}</NextMarker>")
    } else {
        String::new()
    };
    let encoding = encoding(head);
    let (bucket, prefix) = (escaped(bucket), name(head, &prefix));
    Answer::xml(
        "ListBucketResult",
        &format!(
            "<Name>{bucket}</Name><Prefix>{prefix}</Prefix><MaxKeys>{most}</MaxKeys><KeyCount>{count}</KeyCount>\
             {encoding}<IsTruncated>{is_truncated}</IsTruncated>{next}{contents}"
        ),
    )
}

fn listed(head: &Head, key: &str, object: &Object) -> String {
    format!(
        "<Contents><Key>{}</Key><LastModified>{TIME}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
         <StorageClass>STANDARD</StorageClass></Contents>",
        name(head, key),
        object.etag,
        object.size_bytes
    )
}

/// The key behind which the listing goes on. A token is given back as it was given out: encoded.
fn after(head: &Head) -> String {
    if let Some(token) = head.parameter("continuation-token") {
        return percent_decode_str(&token).decode_utf8_lossy().into_owned();
    }
    let asked = ["start-after", "marker"]
        .iter()
        .find_map(|name| head.parameter(name));
    asked.unwrap_or_default()
}

fn folder_of<'a>(key: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    let below = key.get(prefix.len()..)?;
    let end = prefix.len() + below.find(delimiter)? + delimiter.len();
    key.get(..end)
}

/// ListMultipartUploads. All in one page: there are few.
pub(super) fn uploads(store: &Store, head: &Head, bucket: &str) -> Answer {
    let prefix = head.parameter("prefix").unwrap_or_default();
    let mut contents = String::new();
    for (id, path) in store.uploads().below(&format!("{bucket}/{prefix}")) {
        let key = name(head, path.get(bucket.len() + 1..).unwrap_or_default());
        let _ = write!(
            contents,
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{TIME}</Initiated></Upload>"
        );
    }
    let (bucket, prefix, encoding) = (escaped(bucket), name(head, &prefix), encoding(head));
    Answer::xml(
        "ListMultipartUploadsResult",
        &format!(
            "<Bucket>{bucket}</Bucket><Prefix>{prefix}</Prefix>{encoding}<IsTruncated>false</IsTruncated>{contents}"
        ),
    )
}

/// ListParts.
pub(super) fn parts(store: &Store, head: &Head, id: &str) -> Answer {
    let uploads = store.uploads();
    let Some(upload) = uploads.get(id) else {
        return Answer::error(404, "NoSuchUpload", "there is no such upload");
    };
    let after: u32 = head
        .parameter("part-number-marker")
        .and_then(|marker| marker.parse().ok())
        .unwrap_or(0);
    let most = most(head, "max-parts");
    let mut contents = String::new();
    let listed: Vec<_> = upload.parts.range(after + 1..).take(most + 1).collect();
    for (number, part) in listed.iter().take(most) {
        let _ = write!(
            contents,
            "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
             <LastModified>{TIME}</LastModified>",
            part.etag, part.size_bytes
        );
        if let Some(claim) = &part.claim {
            let element = claim.algorithm.name();
            let _ = write!(contents, "<Checksum{element}>{}</Checksum{element}>", claim.value);
        }
        contents.push_str("</Part>");
    }
    let is_truncated = listed.len() > most;
    if let Some((last, _)) = listed.get(most.saturating_sub(1)).filter(|_| is_truncated) {
        let _ = write!(contents, "<NextPartNumberMarker>{last}</NextPartNumberMarker>");
    }
    Answer::xml(
        "ListPartsResult",
        &format!("<UploadId>{id}</UploadId><IsTruncated>{is_truncated}</IsTruncated>{contents}"),
    )
}

fn most(head: &Head, parameter: &str) -> usize {
    let asked = head.parameter(parameter).and_then(|most| most.parse().ok());
    asked.map_or(PAGE, |most: usize| most.clamp(1, PAGE))
}

fn is_encoded(head: &Head) -> bool {
    head.parameter("encoding-type").is_some()
}

fn encoding(head: &Head) -> &'static str {
    if is_encoded(head) {
        "<EncodingType>url</EncodingType>"
    } else {
        ""
    }
}

/// A key as the client wants it.
fn name(head: &Head, key: &str) -> String {
    if is_encoded(head) {
        encoded(key)
    } else {
        escaped(key)
    }
}

fn encoded(key: &str) -> String {
    utf8_percent_encode(key, NON_ALPHANUMERIC).to_string()
}
