//! Whether an object has the bytes of a file: then they need not be sent.

use crate::call::Call;
use crate::file::Sent;
use crate::multipart::text;
use crate::opened::{Opened, Stamp, Unread};
use crate::plan::{Events, Existing};
use bytes::Bytes;
use domain::ChecksumKind;
use std::sync::Arc;
use storage::{Checksum, Hasher};

/// How much is hashed between two looks at whether to go on.
const PIECE_BYTES: u64 = 64 << 20;

/// Whether an object has just these bytes, whose checksum of the session's kind is known.
pub(crate) fn has_bytes(existing: &Existing, bytes: &Bytes, checksum: &Checksum) -> bool {
    match existing.checksum.as_deref().map(str::parse::<Checksum>) {
        Some(Ok(known)) if known.kind == checksum.kind => known == *checksum,
        Some(Ok(known)) => known == Hasher::of(known.kind, bytes),
        // One of parts, which a file that goes in one request has not; or none at all.
        Some(Err(_)) | None => {
            let etag = existing.etag.as_deref();
            etag.is_some_and(|etag| storage::is_md5_etag(etag, bytes))
        }
    }
}

/// Whether an object has the bytes of a large file, by the checksum that was recorded of it.
pub(crate) async fn is_same<E: Events>(
    call: &Call<E>,
    existing: &Existing,
    opened: &Arc<Opened>,
) -> Result<bool, Unread> {
    let Some(recorded) = existing.checksum.as_deref() else {
        return Ok(false);
    };
    let size_bytes = opened.stamp.size_bytes;
    // That of the parts' checksums can be told where the parts would be the same.
    let (kind, part_size_bytes) = match recorded.parse::<Checksum>() {
        Ok(whole) => (whole.kind, size_bytes.max(1)),
        Err(_) => match recorded
            .split_once(':')
            .and_then(|(kind, _)| kind.parse::<ChecksumKind>().ok())
        {
            Some(kind) => (kind, call.plan.settings.part_size_for(size_bytes)),
            None => return Ok(false),
        },
    };
    let mut parts = Vec::new();
    let mut begin = 0;
    while begin < size_bytes {
        let end = size_bytes.min(begin + part_size_bytes);
        let Some(checksum) = hash(call, opened, kind, begin, end).await? else {
            return Ok(false);
        };
        parts.push((checksum, end - begin));
        begin = end;
    }
    if let [(whole, _)] = parts.as_slice()
        && whole.to_string() == recorded
    {
        return Ok(true);
    }
    let (checksum, is_composite) = Checksum::combine_parts(kind, &parts);
    Ok(text(&checksum, is_composite, parts.len()) == recorded)
}

/// The checksum of a range, piece by piece; `None`: the call was told to stop.
async fn hash<E: Events>(
    call: &Call<E>,
    opened: &Arc<Opened>,
    kind: ChecksumKind,
    begin: u64,
    end: u64,
) -> Result<Option<Checksum>, Unread> {
    let mut hasher = Hasher::new(kind);
    let mut from = begin;
    while from < end {
        if !call.may_start() {
            return Ok(None);
        }
        let (reading, to) = (Arc::clone(opened), end.min(from + PIECE_BYTES));
        hasher = tokio::task::spawn_blocking(move || {
            reading.hash_into(&mut hasher, from, to)?;
            Ok::<_, Unread>(hasher)
        })
        .await
        .map_err(|error| Unread::Failed(crate::failure::Failure::internal(&error)))??;
        from = to;
    }
    Ok(Some(hasher.finish()))
}

/// The end of a file whose object has the same bytes.
pub(crate) fn unchanged(existing: &Existing, stamp: Stamp) -> Sent {
    Sent::Unchanged {
        stamp,
        etag: existing.etag.clone(),
        checksum: existing.checksum.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_the_bytes_that_its_checksum_or_its_etag_tells() {
        let bytes = Bytes::from_static(b"0123456789");
        let checksum = Hasher::of(ChecksumKind::Crc64nvme, &bytes);
        let has = |etag: Option<&str>, recorded: Option<String>| {
            let existing = Existing {
                etag: etag.map(str::to_owned),
                checksum: recorded,
            };
            has_bytes(&existing, &bytes, &checksum)
        };
        let md5 = "781e5e245d69b566979b86e28d23f2c7";
        assert!(has(None, Some(checksum.to_string())));
        assert!(has(
            None,
            Some(Hasher::of(ChecksumKind::Sha256, &bytes).to_string())
        ));
        assert!(has(Some(md5), None));
        // The checksum is the better witness.
        let other = Hasher::of(ChecksumKind::Crc64nvme, b"012345678").to_string();
        assert!(!has(Some(md5), Some(other)));
        assert!(!has(None, None));
        assert!(!has(Some("781e5e245d69b566979b86e28d23f2c8"), None));
        assert!(!has(Some("781e5e245d69b566979b86e28d23f2c7-1"), None));
    }
}
