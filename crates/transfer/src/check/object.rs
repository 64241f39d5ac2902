//! A bucket that is held against a record.

use super::{Comparing, Finding, Recorded, RecordedFile, other_size};
use futures::StreamExt as _;
use storage::{Bucket, BucketConfig, Credentials, ObjectInfo, StorageError};
use url::Url;

/// Where a bucket is, and who asks.
#[derive(Clone, Debug)]
pub struct BucketAddress {
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The store; `None`: Amazon S3.
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files; `None`: the first credentials that are found, beginning with the
    /// environment.
    pub profile: Option<String>,
}

/// A bucket that holds, or should hold, what was delivered. Cheap to clone.
#[derive(Clone)]
pub struct ObjectStore(Bucket);

impl ObjectStore {
    /// Opens a bucket and asks whether it is there.
    ///
    /// # Errors
    /// When it cannot be used; in words.
    pub async fn open(address: &BucketAddress) -> Result<Self, String> {
        let credentials = match &address.profile {
            Some(profile) => Credentials::Profile(profile.clone()),
            None => Credentials::DefaultChain,
        };
        let mut config = BucketConfig::new(&address.bucket, &address.region, credentials);
        if let Some(url) = &address.endpoint_url {
            config.endpoint_url = Some(Url::parse(url).map_err(|error| format!("{url:?}: {error}"))?);
        }
        let bucket = Bucket::open(config).map_err(|error| error.to_string())?;
        bucket.head_bucket().await.map_err(|error| error.to_string())?;
        Ok(Self(bucket))
    }

    /// Compares an object: by what the store says of it, or, with `read`, by its bytes. `part_size_bytes` is what the
    /// session was set to.
    pub async fn check(&self, file: &RecordedFile, part_size_bytes: u64, read: bool) -> Finding {
        let checked = if read {
            self.read(file, part_size_bytes).await
        } else {
            self.ask(file, part_size_bytes).await
        };
        checked.unwrap_or_else(|error| Finding::Unchecked(error.to_string()))
    }

    async fn ask(&self, file: &RecordedFile, part_size_bytes: u64) -> Result<Finding, StorageError> {
        Ok(match self.0.head(&file.key).await? {
            Some(object) => compare(file, &object, part_size_bytes),
            None => Finding::Missing,
        })
    }

    async fn read(&self, file: &RecordedFile, part_size_bytes: u64) -> Result<Finding, StorageError> {
        let mut object = match self.0.get(&file.key).await {
            Ok(object) => object,
            Err(error) if error.kind() == storage::StorageErrorKind::NoSuchKey => {
                return Ok(Finding::Missing);
            }
            Err(error) => return Err(error),
        };
        if object.info.size_bytes != file.size_bytes {
            return Ok(other_size(object.info.size_bytes, file.size_bytes));
        }
        let mut comparing = match Recorded::of(file, part_size_bytes) {
            Ok(recorded) => Comparing::from(recorded),
            Err(detail) => return Ok(unchecked(detail, file, &object.info)),
        };
        while let Some(piece) = object.body.next().await {
            comparing.update(&piece?);
        }
        Ok(match comparing.finish() {
            Finding::Unchecked(detail) => unchecked(detail, file, &object.info),
            finding => finding,
        })
    }
}

/// An object of which nothing was proved by its bytes. The recorded `ETag` must do where no checksum was recorded; where one
/// was, a store may tell that of bytes that it has no more.
fn unchecked(detail: String, file: &RecordedFile, object: &ObjectInfo) -> Finding {
    match is_same_etag(file, object) {
        true if file.checksum.is_none() => Finding::Same,
        true => Finding::Unchecked(format!("{detail}; the store tells the ETag that was recorded")),
        false => Finding::Unchecked(detail),
    }
}

/// By what the store says of an object: its checksum, or the `ETag` that it gave when the checksum was confirmed.
/// Another `ETag` proves nothing: a copy of the same bytes may have another.
fn compare(file: &RecordedFile, object: &ObjectInfo, part_size_bytes: u64) -> Finding {
    if object.size_bytes != file.size_bytes {
        return other_size(object.size_bytes, file.size_bytes);
    }
    match (Recorded::of(file, part_size_bytes), &object.checksum) {
        (Ok(Recorded::Whole(recorded)), Some(told))
            if told.kind == recorded.kind && !object.checksum_is_composite =>
        {
            if *told == recorded {
                return Finding::Same;
            }
            return Finding::Different(format!("the store has {told}, and {recorded} was delivered"));
        }
        // Another one may be that of the same bytes in other parts.
        (Ok(Recorded::Parts { checksum, .. }), Some(told))
            if object.checksum_is_composite && *told == checksum =>
        {
            return Finding::Same;
        }
        _ => {}
    }
    if is_same_etag(file, object) {
        return Finding::Same;
    }
    Finding::Unchecked(
        "the store tells no checksum that can be compared; with --read the object is read".to_owned(),
    )
}

fn is_same_etag(file: &RecordedFile, object: &ObjectInfo) -> bool {
    file.etag.is_some() && file.etag == object.etag
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ChecksumKind;
    use domain::object_key::PathText;
    use std::collections::BTreeMap;
    use storage::{Checksum, Hasher};

    const SIZE_BYTES: u64 = 9 << 20;

    /// What a store that tells this composite checksum makes of a file that was sent in two parts.
    fn compared(told: &Checksum, etag: &str) -> Finding {
        let file = RecordedFile {
            path: PathText::from_bytes(b"a"),
            key: "a".into(),
            size_bytes: SIZE_BYTES,
            checksum: Some(format!("{}-2", Hasher::of(ChecksumKind::Sha256, b"two parts"))),
            etag: Some("recorded".into()),
        };
        let object = ObjectInfo {
            size_bytes: SIZE_BYTES,
            etag: Some(etag.to_owned()),
            checksum: Some(told.clone()),
            checksum_is_composite: true,
            metadata: BTreeMap::new(),
            token: None,
            content_type: None,
            last_modified: None,
        };
        compare(&file, &object, 8 << 20)
    }

    #[test]
    fn the_checksum_of_other_parts_is_no_difference() {
        let same = Hasher::of(ChecksumKind::Sha256, b"two parts");
        let other = Hasher::of(ChecksumKind::Sha256, b"two other parts");
        assert_eq!(compared(&same, "copied"), Finding::Same);
        assert!(matches!(compared(&other, "copied"), Finding::Unchecked(_)));
        assert_eq!(compared(&other, "recorded"), Finding::Same);
    }

    #[test]
    fn a_recorded_etag_does_where_no_checksum_was_recorded() {
        let file = |checksum: Option<&str>| RecordedFile {
            path: PathText::from_bytes(b"a"),
            key: "a".into(),
            size_bytes: SIZE_BYTES,
            checksum: checksum.map(str::to_owned),
            etag: Some("recorded".into()),
        };
        let object = |etag: &str| ObjectInfo {
            size_bytes: SIZE_BYTES,
            etag: Some(etag.to_owned()),
            checksum: None,
            checksum_is_composite: false,
            metadata: BTreeMap::new(),
            token: None,
            content_type: None,
            last_modified: None,
        };
        let found = |checksum, etag| unchecked("why".to_owned(), &file(checksum), &object(etag));
        assert_eq!(found(None, "recorded"), Finding::Same);
        for (checksum, etag) in [(None, "other"), (Some("crc32c:4waSgw==-2"), "recorded")] {
            assert!(matches!(found(checksum, etag), Finding::Unchecked(_)), "{etag}");
        }
    }
}
