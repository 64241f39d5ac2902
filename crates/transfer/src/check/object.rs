//! A bucket that is held against a record.

use super::{Finding, PartHasher, Recorded, RecordedFile, other_size};
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
        let recorded = match Recorded::of(file, part_size_bytes) {
            Ok(recorded) => recorded,
            Err(detail) => return Ok(Finding::Unchecked(detail)),
        };
        let mut hasher = PartHasher::new(recorded.kind(), recorded.cut_bytes(file.size_bytes));
        while let Some(piece) = object.body.next().await {
            hasher.update(&piece?);
        }
        Ok(recorded.compare(&hasher.finish()))
    }
}

/// By what the store says of an object: its checksum, or the `ETag` that it gave when the checksum was confirmed.
/// Another `ETag` proves nothing: a copy of the same bytes may have another.
fn compare(file: &RecordedFile, object: &ObjectInfo, part_size_bytes: u64) -> Finding {
    if object.size_bytes != file.size_bytes {
        return other_size(object.size_bytes, file.size_bytes);
    }
    let recorded = Recorded::of(file, part_size_bytes);
    if let (Ok(recorded), Some(told)) = (&recorded, &object.checksum)
        && told.kind == recorded.kind()
        && object.checksum_is_composite == recorded.parts.is_some()
    {
        return if *told == recorded.checksum {
            Finding::Same
        } else {
            Finding::Different(format!(
                "the store has {told}, and {} was delivered",
                recorded.checksum
            ))
        };
    }
    match (&file.etag, &object.etag) {
        (Some(recorded), Some(told)) if recorded == told => Finding::Same,
        _ => Finding::Unchecked(
            "the store tells no checksum that can be compared; with --read the object is read".to_owned(),
        ),
    }
}
