//! One step alone, for those who measure it: the benches, and `make instructions`. Nobody else may use it.

use crate::bucket::{Bucket, failed_after};
use crate::error::StorageError;
use crate::objects::WriteOptions;
use crate::payload::{Payload, Progress};
use bytes::Bytes;
use http::Request;
use http_body::Body;

/// The request of [`Bucket::put`], signed and ready to be sent, which it is not.
///
/// # Errors
/// When it cannot be sent as it is, or not be signed.
pub async fn signed_put(
    bucket: &Bucket,
    key: &str,
    body: Bytes,
    options: &WriteOptions,
) -> Result<Request<impl Body<Data = Bytes> + use<>>, StorageError> {
    let mut call = bucket.put_call(key, body, options)?;
    call.carry(&options.checksum);
    let signed: Result<Request<Payload>, _> = bucket.signed(&call, &Progress::default()).await;
    signed.map_err(|failure| bucket.error(&call, failed_after(1, failure)))
}
