//! One file, from its key to its outcome. Small ones go by one read and one PUT; the others by [`crate::multipart`].

use crate::buffers::Buffer;
use crate::call::{Call, Lane, Stopped};
use crate::ending::{self, LeftOpen};
use crate::engine::Slot;
use crate::existing;
use crate::failure::Failure;
use crate::multipart;
use crate::opened::{Stamp, Unread};
use crate::plan::{Events, FatalError, Outcome, PlannedFile, UploadPlan, key_for};
use crate::read::{Whole, read_whole, read_whole_from_memory};
use bytes::Bytes;
use domain::backoff::Backoff;
use domain::{FileErrorCode, FileStatus, OnExisting};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use storage::{Checksum, WriteOptions};

/// How often a changing file is read before it is given up.
pub(crate) const READ_TRIES: u32 = 3;
/// How long a changing file is left alone: as long as this says, without jitter.
const REST: Backoff = Backoff {
    base: Duration::from_millis(50),
    cap: Duration::from_secs(1),
};

/// How the task of one file ended.
pub(crate) enum FileEnd {
    Done {
        outcome: Outcome,
        fatal: Option<FatalError>,
    },
    /// Not begun, or stopped so that another call can go on with it.
    Pending,
    /// It failed for a cause that may pass: its own failure only where other files fare better.
    Doubtful(Doubtful),
    /// The store or the source is away; so it is for any other file.
    Away(FatalError),
    /// The fence failed.
    Lost,
}

/// A failure that may be the store's rather than the file's.
pub(crate) struct Doubtful {
    /// What is reported when it is the file's.
    pub(crate) outcome: Outcome,
    /// Why, in words.
    pub(crate) detail: String,
    pub(crate) left_open: Option<LeftOpen>,
}

/// How the sending of one file ended.
pub(crate) enum Sent {
    Uploaded {
        stamp: Stamp,
        etag: Option<String>,
        checksum: String,
        tries: u32,
    },
    /// The object there has the same bytes.
    Unchanged {
        stamp: Stamp,
        etag: Option<String>,
        checksum: Option<String>,
    },
    Failed(Failure),
    Cancelled,
    Pending,
    Lost,
}

impl From<Stopped> for Sent {
    fn from(_: Stopped) -> Self {
        Self::Pending
    }
}

/// Whether a file is sent in parts, as far as is known before it is opened.
pub(crate) fn is_large(plan: &UploadPlan, file: &PlannedFile) -> bool {
    file.upload_id.is_some() || plan.settings.parts_for(file.size_bytes).is_some()
}

/// Sends one file.
pub(crate) async fn send<E: Events>(
    call: Arc<Call<E>>,
    file: PlannedFile,
    lane: Option<Lane>,
    slot: Slot,
) -> FileEnd {
    let started_at = SystemTime::now();
    let sent = match key_for(&call.plan.key_prefix, &file.path) {
        Ok(key) if is_large(&call.plan, &file) => {
            call.events.started(&file);
            multipart::send(&call, &file, Arc::from(key), lane, slot).await
        }
        Ok(key) => send_small(&call, &file, key, slot).await,
        Err(error) => {
            call.events.started(&file);
            Sent::Failed(Failure::new(FileErrorCode::NameNotSupported, error.to_string()))
        }
    };
    let mut outcome = Outcome {
        number: file.number,
        status: FileStatus::Failed,
        size_bytes: file.size_bytes,
        modified_at_ns: None,
        etag: None,
        checksum: None,
        error: None,
        attempts: file.attempts,
        started_at,
        finished_at: SystemTime::now(),
    };
    let mut fatal = None;
    if let Sent::Failed(failure) = &sent
        && let Some(code) = failure.is_away()
    {
        let detail = failure.detail.clone();
        return FileEnd::Away(FatalError { code, detail });
    }
    match sent {
        Sent::Pending => return FileEnd::Pending,
        Sent::Lost => return FileEnd::Lost,
        Sent::Uploaded {
            stamp,
            etag,
            checksum,
            tries,
        } => {
            outcome.status = FileStatus::Uploaded;
            outcome.size_bytes = stamp.size_bytes;
            outcome.modified_at_ns = Some(stamp.modified_at_ns);
            outcome.etag = etag;
            outcome.checksum = Some(checksum);
            outcome.attempts += tries;
        }
        Sent::Unchanged {
            stamp,
            etag,
            checksum,
        } => {
            outcome.status = FileStatus::Skipped;
            outcome.size_bytes = stamp.size_bytes;
            outcome.modified_at_ns = Some(stamp.modified_at_ns);
            (outcome.etag, outcome.checksum) = (etag, checksum);
            outcome.attempts += 1;
            let detail = "the bucket has it with the same bytes";
            outcome.error = Some((FileErrorCode::Unchanged, detail.to_owned()));
        }
        Sent::Cancelled => {
            outcome.status = FileStatus::Cancelled;
            outcome.attempts += 1;
        }
        Sent::Failed(failure) => {
            outcome.attempts += failure.attempts;
            fatal = failure.fatal.map(|code| FatalError {
                code,
                detail: failure.detail.clone(),
            });
            outcome.error = Some((failure.code, failure.detail.clone()));
            if failure.is_passing {
                return FileEnd::Doubtful(Doubtful {
                    outcome,
                    detail: failure.detail,
                    left_open: failure.left_open,
                });
            }
        }
    }
    FileEnd::Done { outcome, fatal }
}

async fn send_small<E: Events>(call: &Arc<Call<E>>, file: &PlannedFile, key: String, mut slot: Slot) -> Sent {
    let limit_bytes = call.plan.settings.part_size_bytes;
    let mut reserved_bytes = file.size_bytes;
    let mut is_started = false;
    // One that may be there already was admitted to be compared, and not to send.
    let mut is_charged = file.existing.is_none() || call.plan.settings.bandwidth_limit_bytes_per_s.is_none();
    for tries in 1..=READ_TRIES {
        let buffer = match call.buffer(reserved_bytes).await {
            Ok(buffer) if call.may_start() => buffer,
            Ok(_) | Err(Stopped) => return Sent::Pending,
        };
        if !is_started {
            call.events.started(file);
            is_started = true;
        }
        match read(call, file, buffer).await {
            Ok(Ok(Whole::Read {
                bytes,
                checksum,
                stamp,
            })) => {
                if let Some(existing) = &file.existing
                    && existing::has_bytes(existing, &bytes, &checksum)
                {
                    let (etag, checksum) = (existing.etag.clone(), Some(checksum.to_string()));
                    return Sent::Unchanged {
                        stamp,
                        etag,
                        checksum,
                    };
                }
                if !is_charged {
                    // Whoever waits for bandwidth holds nothing that others need: it is read once more then.
                    drop((bytes, slot));
                    slot = match call.slot_to_send(stamp.size_bytes).await {
                        Ok(slot) => slot,
                        Err(Stopped) => return Sent::Pending,
                    };
                    is_charged = true;
                    continue;
                }
                return put(call, file, &key, bytes, checksum, stamp).await;
            }
            Ok(Ok(Whole::Larger(size_bytes))) if size_bytes > limit_bytes => {
                return multipart::send(call, file, Arc::from(key), None, slot).await;
            }
            // It grew since the scan: once more, with the memory it needs.
            Ok(Ok(Whole::Larger(size_bytes))) => reserved_bytes = size_bytes,
            Ok(Err(Unread::Failed(failure))) => return Sent::Failed(failure),
            Ok(Err(Unread::Changed)) => {
                if tries < READ_TRIES && rest(call, tries).await.is_err() {
                    return Sent::Pending;
                }
            }
            Err(error) => return Sent::Failed(Failure::internal(&error)),
        }
    }
    Sent::Failed(changed())
}

/// Reads a file that fits into the buffer, with a hop to a thread for blocking work where it may have to be waited for.
async fn read<E: Events>(
    call: &Call<E>,
    file: &PlannedFile,
    buffer: Buffer,
) -> Result<Result<Whole, Unread>, tokio::task::JoinError> {
    let kind = call.plan.settings.checksum;
    let buffer = match read_whole_from_memory(&call.source, &file.path, buffer, kind) {
        Ok(whole) => return Ok(Ok(whole)),
        Err(buffer) => buffer,
    };
    let (source, path) = (Arc::clone(&call.source), file.path.clone());
    tokio::task::spawn_blocking(move || read_whole(&source, &path, buffer, kind)).await
}

async fn put<E: Events>(
    call: &Call<E>,
    file: &PlannedFile,
    key: &str,
    bytes: Bytes,
    checksum: Checksum,
    stamp: Stamp,
) -> Sent {
    let options = write_options(call, file, checksum);
    if !call.may_start() {
        return ending::stopped(call, key, None).await;
    }
    failpoint::at!("put.before_request");
    let stored = match call.bucket.put(key, bytes, &options).await {
        Ok(stored) => stored,
        Err(error) => return ending::failed(call, key, None, error.into()).await,
    };
    if let Err(failure) = confirmed(&options.checksum, stored.checksum.as_ref()) {
        return Sent::Failed(failure);
    }
    failpoint::at!("put.before_record");
    call.events.stored();
    call.events.progress(file.number, signed(stamp.size_bytes));
    Sent::Uploaded {
        stamp,
        etag: stored.etag,
        checksum: options.checksum.to_string(),
        tries: stored.attempts.max(1),
    }
}

/// Leaves a changing file alone for a moment, unless the call is stopped.
pub(crate) async fn rest<E: Events>(call: &Call<E>, tries: u32) -> Result<(), Stopped> {
    tokio::select! {
        () = tokio::time::sleep(REST.ceiling(tries)) => Ok(()),
        () = call.told(crate::plan::Stop::Drain) => Err(Stopped),
    }
}

/// How the object of `file` is written.
pub(crate) fn write_options<E: Events>(
    call: &Call<E>,
    file: &PlannedFile,
    checksum: Checksum,
) -> WriteOptions {
    WriteOptions {
        token: Some(token(call, file)),
        if_none_match: call.plan.settings.on_existing == OnExisting::Fail,
        ..WriteOptions::new(checksum)
    }
}

/// What says that an object is this file's of this session.
pub(crate) fn token<E: Events>(call: &Call<E>, file: &PlannedFile) -> String {
    format!("{}/{}", call.plan.token_prefix, file.number)
}

/// Whether the store confirmed exactly the bytes that were read.
pub(crate) fn confirmed(ours: &Checksum, theirs: Option<&Checksum>) -> Result<(), Failure> {
    match theirs {
        Some(theirs) if theirs == ours => Ok(()),
        Some(theirs) => Err(Failure::new(
            FileErrorCode::ChecksumMismatch,
            format!("the store confirmed {theirs}, read were {ours}"),
        )),
        None => Err(Failure::new(
            FileErrorCode::ChecksumMismatch,
            format!("the store did not confirm {ours}"),
        )),
    }
}

pub(crate) fn changed() -> Failure {
    Failure {
        attempts: READ_TRIES,
        ..Failure::new(
            FileErrorCode::FileChanged,
            format!("it changed each of the {READ_TRIES} times it was read"),
        )
    }
}

/// A size as a difference; no file comes near the limit.
pub(crate) fn signed(size_bytes: u64) -> i64 {
    i64::try_from(size_bytes).unwrap_or(i64::MAX)
}
