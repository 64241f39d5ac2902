//! What becomes of a file that does not arrive, and of its multipart upload.

use crate::call::Call;
use crate::failure::Failure;
use crate::file::Sent;
use crate::plan::{Events, Stop};
use storage::UploadId;

/// How often an abort is tried. What stays open is found when the session ends.
const ABORT_ATTEMPTS: u32 = 2;

/// A multipart upload that a failed file left open.
#[derive(Debug)]
pub(crate) struct LeftOpen {
    pub(crate) key: String,
    pub(crate) id: UploadId,
}

/// Ends a file whose call was stopped before it was complete.
pub(crate) async fn stopped<E: Events>(call: &Call<E>, key: &str, upload: Option<&UploadId>) -> Sent {
    if call.stop() != Stop::Cancel {
        return Sent::Pending;
    }
    if let Some(id) = upload {
        abort(call, key, id).await;
    }
    Sent::Cancelled
}

/// Ends a file that failed. Its upload is aborted, unless it may be of use yet, or the store would not hear it.
pub(crate) async fn failed<E: Events>(
    call: &Call<E>,
    key: &str,
    upload: Option<&UploadId>,
    mut failure: Failure,
) -> Sent {
    if failure.is_passing && !call.may_start() {
        // Its request was not repeated as often as it might have been.
        return stopped(call, key, upload).await;
    }
    match upload {
        Some(id) if failure.is_passing => {
            failure.left_open = Some(LeftOpen {
                key: key.to_owned(),
                id: id.clone(),
            });
        }
        Some(id) if failure.fatal.is_none() => abort(call, key, id).await,
        _ => {}
    }
    Sent::Failed(failure)
}

/// Aborts an upload, as far as that is possible, unless the call was abandoned: it may be another's by now.
pub(crate) async fn abort<E: Events>(call: &Call<E>, key: &str, id: &UploadId) {
    if call.stop() < Stop::Abandon && call.events.is_ours() {
        abort_whatever_was_told(call, key, id).await;
    }
}

/// Aborts an upload that only this call knows of, as far as that is possible.
pub(crate) async fn abort_whatever_was_told<E: Events>(call: &Call<E>, key: &str, id: &UploadId) {
    // Not the call's own bucket, which may have run out of patience.
    let bucket = call.plan.bucket.with_max_attempts(ABORT_ATTEMPTS);
    if let Err(error) = bucket.abort_multipart(key, id).await {
        tracing::warn!(%error, key, "a multipart upload stays open");
    }
}
