//! The parts of one version of one file: read, compared with what the store has already, sent, gathered.

use crate::buffers::Buffer;
use crate::call::{Call, Lane, Stopped};
use crate::engine::Slot;
use crate::failure::Failure;
use crate::file::{confirmed, signed};
use crate::multipart::Upload;
use crate::opened::{Opened, Unread};
use crate::plan::{Events, PlannedFile, Stop};
use std::sync::Arc;
use storage::{Checksum, Part, StorageErrorKind, UploadId};
use tokio::task::JoinSet;

/// How the sending of the parts ended.
pub(crate) enum PartsEnd {
    AllSent,
    /// Those in flight ended; the others were not begun.
    Stopped,
    Changed,
    /// The store does not know the upload any more.
    Gone,
    Failed(Failure),
}

/// A part that the store confirmed.
struct Arrived {
    part: Part,
    checksum: Checksum,
    size_bytes: u64,
}

pub(crate) struct Parts<E> {
    call: Arc<Call<E>>,
    file_number: i64,
    key: Arc<str>,
    opened: Arc<Opened>,
    upload_id: UploadId,
    part_size_bytes: u64,
    kept: std::collections::HashMap<u32, Part>,
    arrived: Vec<Arrived>,
    acknowledged_bytes: u64,
}

/// What one part's task needs.
struct PartTask<E> {
    call: Arc<Call<E>>,
    key: Arc<str>,
    opened: Arc<Opened>,
    upload_id: UploadId,
    number: u32,
    offset: u64,
    size_bytes: u64,
    kept: Option<Part>,
}

impl<E: Events> Parts<E> {
    pub(crate) fn new(
        call: &Arc<Call<E>>,
        file: &PlannedFile,
        key: &Arc<str>,
        opened: &Arc<Opened>,
        upload: &Upload,
    ) -> Self {
        Self {
            call: Arc::clone(call),
            file_number: file.number,
            key: Arc::clone(key),
            opened: Arc::clone(opened),
            upload_id: upload.id.clone(),
            part_size_bytes: upload.part_size_bytes,
            kept: upload.kept.clone(),
            arrived: Vec::new(),
            acknowledged_bytes: 0,
        }
    }

    /// Sends the parts in their order, as many at once as there are places. `first_slot` is the place that the
    /// file has already; the lane is given back when the last part has been started.
    pub(crate) async fn send_all(&mut self, lane: &mut Option<Lane>, first_slot: Option<Slot>) -> PartsEnd {
        let count = self.opened.stamp.size_bytes.div_ceil(self.part_size_bytes).max(1);
        let mut in_flight = JoinSet::new();
        let mut next = 0;
        let mut is_stopped = false;
        let mut is_cut = false;
        let call = Arc::clone(&self.call);
        let mut admission = Box::pin(admit(&call, first_slot, self.size_of(next)));
        loop {
            let may_start = next < count && !is_stopped;
            if !may_start && in_flight.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(joined) = in_flight.join_next() => {
                    match joined.unwrap_or_else(|error| Err(PartsEnd::Failed(Failure::internal(&error)))) {
                        Ok(arrived) => self.take(arrived),
                        Err(PartsEnd::Stopped) => (is_stopped, is_cut) = (true, true),
                        Err(end) => {
                            // A request that goes on could leave a part behind the abort.
                            in_flight.shutdown().await;
                            return end;
                        }
                    }
                }
                () = call.told(Stop::Drain), if may_start => is_stopped = true,
                admitted = &mut admission, if may_start => {
                    let Ok((slot, buffer)) = admitted else {
                        is_stopped = true;
                        continue;
                    };
                    let task = self.task(next);
                    in_flight.spawn(async move {
                        let end = task.run(buffer).await;
                        drop(slot);
                        end
                    });
                    next += 1;
                    if next < count {
                        admission = Box::pin(admit(&call, None, self.size_of(next)));
                    } else {
                        *lane = None;
                    }
                }
            }
        }
        if next < count || is_cut {
            PartsEnd::Stopped
        } else {
            PartsEnd::AllSent
        }
    }

    /// The parts in their order, as the store and as the checksum want them.
    pub(crate) fn in_order(&mut self) -> (Vec<Part>, Vec<(Checksum, u64)>) {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_unstable_by_key(|arrived| arrived.part.number);
        arrived
            .into_iter()
            .map(|arrived| (arrived.part, (arrived.checksum, arrived.size_bytes)))
            .unzip()
    }

    fn take(&mut self, arrived: Arrived) {
        self.call
            .events
            .progress(self.file_number, signed(arrived.size_bytes));
        self.acknowledged_bytes += arrived.size_bytes;
        self.arrived.push(arrived);
    }

    /// What was acknowledged is of no use: this version of the file does not arrive, or not in this call.
    pub(crate) fn take_back_progress(&mut self) {
        let bytes = std::mem::take(&mut self.acknowledged_bytes);
        if bytes > 0 {
            self.call.events.progress(self.file_number, -signed(bytes));
        }
    }

    /// Bytes from `offset` on that make one part.
    fn size_of(&self, index: u64) -> u64 {
        let offset = index * self.part_size_bytes;
        self.part_size_bytes
            .min(self.opened.stamp.size_bytes.saturating_sub(offset))
    }

    fn task(&mut self, index: u64) -> PartTask<E> {
        // `MAX_PARTS` bounds the number.
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        PartTask {
            call: Arc::clone(&self.call),
            key: Arc::clone(&self.key),
            opened: Arc::clone(&self.opened),
            upload_id: self.upload_id.clone(),
            number,
            offset: index * self.part_size_bytes,
            size_bytes: self.size_of(index),
            kept: self.kept.remove(&number),
        }
    }
}

/// Waits for a place and for memory.
async fn admit<E: Events>(
    call: &Call<E>,
    slot: Option<Slot>,
    size_bytes: u64,
) -> Result<(Slot, Buffer), Stopped> {
    let slot = match slot {
        Some(slot) => slot,
        None => call.slot_to_send(size_bytes).await?,
    };
    Ok((slot, call.buffer(size_bytes).await?))
}

/// A part that is not sent again because the call is stopped says nothing of the others, which end by themselves.
fn ended<E: Events>(call: &Call<E>, failure: Failure) -> PartsEnd {
    if failure.is_passing && !call.may_start() {
        PartsEnd::Stopped
    } else {
        PartsEnd::Failed(failure)
    }
}

impl<E: Events> PartTask<E> {
    async fn run(self, mut buffer: Buffer) -> Result<Arrived, PartsEnd> {
        let (opened, kind) = (self.opened, self.call.plan.settings.checksum);
        let (offset, size_bytes) = (self.offset, self.size_bytes);
        let read = move || {
            let room = buffer.room(size_bytes).unwrap_or_default();
            let checksum = opened.read(offset, room, kind)?;
            Ok((buffer.freeze(size_bytes), checksum))
        };
        let read = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| PartsEnd::Failed(Failure::internal(&error)))?;
        let (bytes, checksum) = read.map_err(|unread| match unread {
            Unread::Changed => PartsEnd::Changed,
            Unread::Failed(failure) => PartsEnd::Failed(failure),
        })?;
        let is_kept =
            |part: &Part| part.size_bytes == size_bytes && part.checksum.as_ref() == Some(&checksum);
        let part = match self.kept.filter(is_kept) {
            Some(part) => part,
            None => {
                if !self.call.may_start() {
                    return Err(PartsEnd::Stopped);
                }
                failpoint::at!("part.before_request");
                let sent = self
                    .call
                    .bucket
                    .upload_part(&self.key, &self.upload_id, self.number, bytes, &checksum)
                    .await;
                let part = sent.map_err(|error| match error.kind() {
                    StorageErrorKind::NoSuchUpload => PartsEnd::Gone,
                    _ => ended(&self.call, error.into()),
                })?;
                confirmed(&checksum, part.checksum.as_ref()).map_err(PartsEnd::Failed)?;
                failpoint::at!("part.arrived");
                self.call.events.stored();
                part
            }
        };
        Ok(Arrived {
            part,
            checksum,
            size_bytes,
        })
    }
}
