//! One large file: opens, resumes, completes and aborts its multipart upload. [`crate::parts`] sends
//! the parts.

use crate::call::{Call, Lane};
use crate::ending::{abort, abort_whatever_was_told, failed, stopped};
use crate::engine::Slot;
use crate::existing;
use crate::failure::Failure;
use crate::file::{READ_TRIES, Sent, changed, confirmed, rest, token, write_options};
use crate::opened::{Opened, Unread};
use crate::parts::{Parts, PartsEnd};
use crate::plan::{Events, PlannedFile, Stop};
use domain::FileErrorCode;
use domain::session_settings::MAX_PARTS;
use std::collections::HashMap;
use std::sync::Arc;
use storage::{Checksum, Part, StorageError, StorageErrorKind, UploadId, WriteOptions};

/// A multipart upload under way.
pub(crate) struct Upload {
    pub(crate) id: UploadId,
    pub(crate) part_size_bytes: u64,
    /// What the store had of it when it was found again.
    pub(crate) kept: HashMap<u32, Part>,
}

/// How one try with one upload ended.
enum Try {
    Ended(Sent),
    /// Start over, without the upload. The store lost it, or the file changed.
    Again {
        has_changed: bool,
    },
}

/// Sends a file in parts, resuming the upload that an earlier call left.
pub(crate) async fn send<E: Events>(
    call: &Arc<Call<E>>,
    file: &PlannedFile,
    key: Arc<str>,
    mut lane: Option<Lane>,
    slot: Slot,
) -> Sent {
    let mut resumable = file.upload_id.as_deref().map(UploadId::new);
    let mut slot = Some(slot);
    let mut given_up = changed();
    for tries in 1..=READ_TRIES {
        if !call.may_start() {
            return stopped(call, &key, resumable.as_ref()).await;
        }
        let opened = match open(call, file).await {
            Ok(opened) => Arc::new(opened),
            Err(Unread::Changed) => {
                if tries < READ_TRIES && rest(call, tries).await.is_err() {
                    return stopped(call, &key, resumable.as_ref()).await;
                }
                continue;
            }
            Err(Unread::Failed(failure)) => return failed(call, &key, resumable.as_ref(), failure).await,
        };
        if resumable.is_none()
            && let Some(existing) = &file.existing
        {
            match existing::is_same(call, existing, &opened).await {
                Ok(true) => return existing::unchanged(existing, opened.stamp),
                // It differs, or it changes: what is sent is looked at again.
                Ok(false) | Err(Unread::Changed) => {}
                Err(Unread::Failed(failure)) => return failed(call, &key, None, failure).await,
            }
            // It was admitted to be compared, and not to send: its first part waits for bandwidth like the others.
            slot = None;
            if !call.may_start() {
                return stopped(call, &key, None).await;
            }
        }
        let upload = match resumable.take() {
            Some(id) => find(call, file, &key, &opened, id).await,
            None => create(call, file, &key, &opened).await,
        };
        let end = match upload {
            Ok(upload) => {
                let place = slot.take();
                once(call, file, &key, &opened, &upload, (&mut lane, place), tries).await
            }
            Err(end) => end,
        };
        match end {
            Try::Ended(sent) => return sent,
            Try::Again { has_changed } => {
                given_up = if has_changed { changed() } else { lost_upload() };
                if has_changed && tries < READ_TRIES && rest(call, tries).await.is_err() {
                    return stopped(call, &key, None).await;
                }
            }
        }
    }
    failed(call, &key, resumable.as_ref(), given_up).await
}

/// Sends the parts of one version of the file and completes the upload.
async fn once<E: Events>(
    call: &Arc<Call<E>>,
    file: &PlannedFile,
    key: &Arc<str>,
    opened: &Arc<Opened>,
    upload: &Upload,
    (lane, slot): (&mut Option<Lane>, Option<Slot>),
    tries: u32,
) -> Try {
    let mut parts = Parts::new(call, file, key, opened, upload);
    let end = parts.send_all(lane, slot).await;
    let again = |has_changed| Try::Again { has_changed };
    let end = match end {
        PartsEnd::AllSent if call.stop() < Stop::Cancel && call.events.is_ours() => {
            complete(call, file, key, opened, upload, &mut parts, tries).await
        }
        PartsEnd::AllSent | PartsEnd::Stopped => Try::Ended(stopped(call, key, Some(&upload.id)).await),
        PartsEnd::Changed => {
            abort(call, key, &upload.id).await;
            again(true)
        }
        PartsEnd::Gone => again(false),
        PartsEnd::Failed(failure) => Try::Ended(failed(call, key, Some(&upload.id), failure).await),
    };
    if !matches!(end, Try::Ended(Sent::Uploaded { .. })) {
        parts.take_back_progress();
    }
    end
}

async fn complete<E: Events>(
    call: &Arc<Call<E>>,
    file: &PlannedFile,
    key: &str,
    opened: &Opened,
    upload: &Upload,
    parts: &mut Parts<E>,
    tries: u32,
) -> Try {
    let (listed, checksums) = parts.in_order();
    let (checksum, is_composite) = Checksum::combine_parts(call.plan.settings.checksum, &checksums);
    let options = write_options(call, file, checksum.clone());
    let size_bytes = opened.stamp.size_bytes;
    failpoint::at!("complete.before_request");
    let completed = call
        .bucket
        .complete_multipart(key, &upload.id, &listed, &options, size_bytes)
        .await;
    match completed {
        Ok(stored) => match confirmed(&checksum, stored.checksum.as_ref()) {
            Ok(()) => {
                failpoint::at!("complete.before_record");
                call.events.stored();
                Try::Ended(Sent::Uploaded {
                    stamp: opened.stamp,
                    etag: stored.etag,
                    checksum: text(&checksum, is_composite, checksums.len()),
                    tries,
                })
            }
            // The upload is no more; there is nothing to abort.
            Err(failure) => Try::Ended(Sent::Failed(failure)),
        },
        Err(error) if error.kind() == StorageErrorKind::NoSuchUpload => Try::Again { has_changed: false },
        Err(error) => Try::Ended(failed(call, key, Some(&upload.id), error.into()).await),
    }
}

/// Opens a new upload, and has its id made durable.
async fn create<E: Events>(
    call: &Arc<Call<E>>,
    file: &PlannedFile,
    key: &Arc<str>,
    opened: &Opened,
) -> Result<Upload, Try> {
    let settings = &call.plan.settings;
    let part_size_bytes = settings.part_size_for(opened.stamp.size_bytes);
    // Of the checksum only the kind is of use here.
    let checksum = Checksum {
        kind: settings.checksum,
        value: Vec::new(),
    };
    let options = write_options(call, file, checksum);
    if !call.may_start() {
        return Err(Try::Ended(stopped(call, key, None).await));
    }
    // A task of its own: a call that is abandoned meanwhile must not forget what the store is just opening.
    let opening = tokio::spawn(create_recorded(
        Arc::clone(call),
        file.number,
        Arc::clone(key),
        options,
        part_size_bytes,
    ));
    match opening.await {
        Ok(Ok(id)) => Ok(Upload {
            id,
            part_size_bytes,
            kept: HashMap::new(),
        }),
        Ok(Err(Unopened::Lost)) => Err(Try::Ended(Sent::Lost)),
        Ok(Err(Unopened::Refused(error))) => Err(Try::Ended(failed(call, key, None, error.into()).await)),
        Err(error) => Err(Try::Ended(Sent::Failed(Failure::internal(&error)))),
    }
}

/// Why there is no new upload.
enum Unopened {
    Refused(StorageError),
    Lost,
}

/// Opens an upload and has its id made durable. Where that is refused, the upload is aborted: nobody else knows of it.
/// (Or the id was recorded, the answer to that lost, and the job then lost in the outage: whoever went on with the upload
/// begins anew.)
async fn create_recorded<E: Events>(
    call: Arc<Call<E>>,
    number: i64,
    key: Arc<str>,
    options: WriteOptions,
    part_size_bytes: u64,
) -> Result<UploadId, Unopened> {
    failpoint::at!("multipart.before_request");
    let id = call
        .bucket
        .create_multipart(&key, &options)
        .await
        .map_err(Unopened::Refused)?;
    failpoint::at!("multipart.before_record");
    if call
        .events
        .multipart_opened(number, id.as_str(), part_size_bytes)
        .await
        .is_err()
    {
        call.halted.cancel();
        abort_whatever_was_told(&call, &key, &id).await;
        return Err(Unopened::Lost);
    }
    failpoint::at!("multipart.before_parts");
    Ok(id)
}

/// Finds out what an upload of an earlier call has become.
async fn find<E: Events>(
    call: &Arc<Call<E>>,
    file: &PlannedFile,
    key: &Arc<str>,
    opened: &Arc<Opened>,
    id: UploadId,
) -> Result<Upload, Try> {
    let size_bytes = opened.stamp.size_bytes;
    let part_size_bytes = file
        .multipart_part_size_bytes
        .filter(|size| *size > 0)
        .unwrap_or_else(|| call.plan.settings.part_size_for(size_bytes));
    if size_bytes.div_ceil(part_size_bytes) > MAX_PARTS {
        abort(call, key, &id).await;
        return create(call, file, key, opened).await;
    }
    match call.bucket.list_parts(key, &id).await {
        Ok(parts) => Ok(Upload {
            id,
            part_size_bytes,
            kept: parts.into_iter().map(|part| (part.number, part)).collect(),
        }),
        // Completed by an earlier call that did not live to tell, or aborted by somebody else.
        Err(error) if error.kind() == StorageErrorKind::NoSuchUpload => {
            match completed_before(call, file, key, opened, part_size_bytes).await {
                Ok(Some(uploaded)) => Err(Try::Ended(uploaded)),
                Ok(None) => create(call, file, key, opened).await,
                Err(Unread::Changed) => Err(Try::Again { has_changed: true }),
                Err(Unread::Failed(failure)) => Err(Try::Ended(failed(call, key, None, failure).await)),
            }
        }
        Err(error) => Err(Try::Ended(failed(call, key, Some(&id), error.into()).await)),
    }
}

/// The object, when it has our token and the checksum of the bytes as they are now.
async fn completed_before<E: Events>(
    call: &Arc<Call<E>>,
    file: &PlannedFile,
    key: &str,
    opened: &Arc<Opened>,
    part_size_bytes: u64,
) -> Result<Option<Sent>, Unread> {
    let head = call.bucket.head(key).await;
    let Some(object) = head.map_err(|error: StorageError| Unread::Failed(error.into()))? else {
        return Ok(None);
    };
    let stamp = opened.stamp;
    if object.token.as_deref() != Some(&token(call, file)) || object.size_bytes != stamp.size_bytes {
        return Ok(None);
    }
    let (reading, kind) = (Arc::clone(opened), call.plan.settings.checksum);
    let parts = tokio::task::spawn_blocking(move || reading.hash_parts(part_size_bytes, kind))
        .await
        .map_err(|error| Unread::Failed(Failure::internal(&error)))??;
    let (checksum, is_composite) = Checksum::combine_parts(kind, &parts);
    if object.checksum.as_ref() != Some(&checksum) || object.checksum_is_composite != is_composite {
        return Ok(None);
    }
    call.events
        .progress(file.number, crate::file::signed(stamp.size_bytes));
    Ok(Some(Sent::Uploaded {
        stamp,
        etag: object.etag,
        checksum: text(&checksum, is_composite, parts.len()),
        tries: 1,
    }))
}

async fn open<E: Events>(call: &Arc<Call<E>>, file: &PlannedFile) -> Result<Opened, Unread> {
    let (source, path) = (Arc::clone(&call.source), file.path.clone());
    tokio::task::spawn_blocking(move || source.open(&path))
        .await
        .map_err(|error| Unread::Failed(Failure::internal(&error)))?
}

fn lost_upload() -> Failure {
    Failure {
        attempts: READ_TRIES,
        ..Failure::new(
            FileErrorCode::StorageError,
            format!("the store lost its multipart upload {READ_TRIES} times"),
        )
    }
}

/// A checksum as it is recorded: `-{parts}` marks one that was made of the parts' checksums.
pub(crate) fn text(checksum: &Checksum, is_composite: bool, parts: usize) -> String {
    if is_composite {
        format!("{checksum}-{parts}")
    } else {
        checksum.to_string()
    }
}
