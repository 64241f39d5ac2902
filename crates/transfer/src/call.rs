//! What the tasks of one upload call share: the plan, the way to the store, places and memory, and the order to
//! stop.

use crate::buffers::Buffer;
use crate::engine::{Engine, Party, Slot};
use crate::plan::{Events, Stop, UploadPlan};
use crate::read::Source;
use std::future::pending;
use std::sync::Arc;
use storage::Bucket;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Multipart files of one call that may still have parts to start, so that many files of two parts each do not
/// wait for one another's opening, and many huge ones are not all begun at once.
const MULTIPART_LANES: usize = 8;

/// The right of a multipart file to start parts; given back when its last part was started.
pub(crate) struct Lane {
    _permit: OwnedSemaphorePermit,
}

/// The call was told to start nothing more.
pub(crate) struct Stopped;

impl From<AcquireError> for Stopped {
    /// No semaphore here is ever closed.
    fn from(_: AcquireError) -> Self {
        Self
    }
}

/// One upload call, shared by its tasks.
pub(crate) struct Call<E> {
    pub(crate) plan: Arc<UploadPlan>,
    /// With the session's number of attempts, and patience until the call is halted.
    pub(crate) bucket: Bucket,
    pub(crate) source: Arc<Source>,
    pub(crate) events: Arc<E>,
    /// The company that the call is of.
    party: Party,
    /// The limit of the session, shared with its other calls.
    share: Option<Arc<Semaphore>>,
    lanes: Arc<Semaphore>,
    pub(crate) stopping: watch::Receiver<Stop>,
    /// Set when the call goes no further, told so or for a cause of its own.
    pub(crate) halted: CancellationToken,
}

impl<E: Events> Call<E> {
    pub(crate) async fn new(
        engine: Engine,
        plan: Arc<UploadPlan>,
        events: Arc<E>,
        stopping: watch::Receiver<Stop>,
    ) -> Result<Self, String> {
        let opening = Arc::clone(&plan);
        let source = tokio::task::spawn_blocking(move || {
            Source::new(
                opening.root.clone(),
                &opening.source_path,
                opening.settings.symlinks,
            )
        })
        .await
        .map_err(|error| error.to_string())?;
        let halted = CancellationToken::new();
        let concurrency = plan.settings.concurrency.map(usize::from);
        Ok(Self {
            bucket: plan
                .bucket
                .with_max_attempts(u32::from(plan.settings.max_attempts))
                .with_patience(halted.clone())
                .with_fence({
                    let events = Arc::clone(&events);
                    Arc::new(move || events.is_ours())
                }),
            source: Arc::new(source),
            events,
            share: engine.share_of(&plan.token_prefix, concurrency),
            lanes: Arc::new(Semaphore::new(MULTIPART_LANES)),
            party: engine.party(plan.company_id),
            plan,
            stopping,
            halted,
        })
    }

    /// What the call is told to do.
    pub(crate) fn stop(&self) -> Stop {
        let told = *self.stopping.borrow();
        if self.halted.is_cancelled() || !self.events.is_ours() {
            told.max(Stop::Drain)
        } else {
            told
        }
    }

    pub(crate) fn may_start(&self) -> bool {
        self.stop() == Stop::Run
    }

    /// Returns once the call is told anything from `stop` on.
    pub(crate) async fn told(&self, stop: Stop) {
        let mut receiver = self.stopping.clone();
        let told = async {
            if receiver.wait_for(|told| *told >= stop).await.is_err() {
                // Whoever could tell is gone: what was told last holds.
                pending::<()>().await;
            }
        };
        if stop <= Stop::Drain {
            tokio::select! {
                () = told => {}
                () = self.halted.cancelled() => {}
            }
        } else {
            told.await;
        }
    }

    /// Waits for a place.
    pub(crate) async fn slot(&self) -> Result<Slot, Stopped> {
        self.party.slot(self.share.as_ref(), &self.bucket).await
    }

    /// Waits for memory to read so many bytes into, unless the call is stopped meanwhile.
    pub(crate) async fn buffer(&self, bytes: u64) -> Result<Buffer, Stopped> {
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        if let Some(buffer) = self.party.try_buffer(len) {
            return Ok(buffer);
        }
        tokio::select! {
            buffer = self.party.buffer(len) => buffer,
            () = self.told(Stop::Drain) => Err(Stopped),
        }
    }

    /// Waits until the session may send so many bytes, and for a place: in this order, for whoever waits for bandwidth is
    /// to hold up no other session.
    pub(crate) async fn slot_to_send(&self, bytes: u64) -> Result<Slot, Stopped> {
        self.may_send(bytes).await;
        self.slot().await
    }

    /// Waits until the session may send so many bytes, or is stopped.
    pub(crate) async fn may_send(&self, bytes: u64) {
        tokio::select! {
            () = self.events.may_send(bytes) => {}
            () = self.told(Stop::Drain) => {}
        }
    }

    /// Waits for a lane where the file needs one, and for a place to send so many bytes of it.
    pub(crate) async fn admit(
        self: Arc<Self>,
        is_large: bool,
        bytes: u64,
    ) -> Result<(Option<Lane>, Slot), Stopped> {
        let lane = if is_large {
            Some(Lane {
                _permit: Arc::clone(&self.lanes).acquire_owned().await?,
            })
        } else {
            None
        };
        Ok((lane, self.slot_to_send(bytes).await?))
    }
}
