//! The loop of one upload call: starts files as places become free, takes what has ended, stops when told.

use crate::call::{Call, Lane, Stopped};
use crate::ending;
use crate::engine::Slot;
use crate::file::{self, Doubtful, FileEnd};
use crate::plan::{Events, FatalError, PlannedFile, Stop, Summary, key_for};
use domain::{FileStatus, SessionErrorCode};
use futures::StreamExt;
use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use tokio::task::JoinSet;

/// As many files that fail for causes that may pass, with none between that arrives: it is the store.
const DOUBTS_IN_A_ROW: usize = 8;
/// Aborts in flight where a cancelled call leaves many uploads of earlier attempts.
const ABORTS_IN_FLIGHT: usize = 8;

type Admission = Pin<Box<dyn Future<Output = Result<(Option<Lane>, Slot), Stopped>> + Send>>;

/// The state of the loop.
pub(crate) struct Pump<E> {
    call: Arc<Call<E>>,
    waiting: VecDeque<PlannedFile>,
    running: JoinSet<FileEnd>,
    /// Files without an outcome.
    open: BTreeSet<i64>,
    /// Failures of files or of the store: what becomes of the next files tells. Fewer than [`DOUBTS_IN_A_ROW`].
    doubts: Vec<Doubtful>,
    fatal: Option<FatalError>,
    lost: bool,
}

impl<E: Events> Pump<E> {
    pub(crate) fn new(call: Arc<Call<E>>, files: Vec<PlannedFile>) -> Self {
        Self {
            call,
            open: files.iter().map(|file| file.number).collect(),
            waiting: files.into(),
            running: JoinSet::new(),
            doubts: Vec::new(),
            fatal: None,
            lost: false,
        }
    }

    pub(crate) async fn run(mut self) -> Summary {
        let mut admission: Option<Admission> = None;
        let mut stop = self.call.stopping.clone();
        let mut is_listening = true;
        loop {
            let told = (*stop.borrow_and_update()).max(self.call.stop());
            if told == Stop::Abandon || self.lost {
                // Ends the waits of what outlives this call: an upload that is just being opened.
                self.call.halted.cancel();
                self.running.shutdown().await;
                break;
            }
            if told != Stop::Run {
                // Ends the waits for other attempts.
                self.call.halted.cancel();
            }
            match self.waiting.front().filter(|_| told == Stop::Run) {
                Some(next) if admission.is_none() => {
                    let settings = &self.call.plan.settings;
                    let is_large = file::is_large(&self.call.plan, next);
                    // One that may be there already is asked for when it is to be sent.
                    let first_bytes = match next.existing {
                        None => next.size_bytes.min(settings.part_size_for(next.size_bytes)),
                        Some(_) => 0,
                    };
                    admission = Some(Box::pin(Arc::clone(&self.call).admit(is_large, first_bytes)));
                }
                Some(_) => {}
                None if !self.running.is_empty() => admission = None,
                // Another call will tell more of them.
                None if told == Stop::Drain || self.doubts.is_empty() => break,
                None => {
                    admission = None;
                    self.end_in_doubt();
                    continue;
                }
            }
            tokio::select! {
                biased;
                // An error means that nobody can tell anything any more: what was told last holds.
                changed = stop.changed(), if is_listening => is_listening = changed.is_ok(),
                Some(joined) = self.running.join_next() => self.take(joined).await,
                admitted = admitted(&mut admission) => {
                    admission = None;
                    if let (Ok((lane, slot)), Some(file)) = (admitted, self.waiting.pop_front()) {
                        self.running.spawn(file::send(Arc::clone(&self.call), file, lane, slot));
                    }
                }
            }
        }
        if self.call.stop() == Stop::Cancel {
            self.abort_leftovers().await;
        }
        Summary {
            not_started: self.open.into_iter().collect(),
            fatal: self.fatal,
            lost: self.lost,
        }
    }

    async fn take(&mut self, joined: Result<FileEnd, tokio::task::JoinError>) {
        match joined {
            Ok(FileEnd::Done { outcome, fatal }) => {
                if let Some(fatal) = fatal {
                    self.halt(fatal);
                }
                if outcome.status == FileStatus::Uploaded {
                    self.settle_doubts();
                }
                let number = outcome.number;
                tokio::select! {
                    () = self.call.events.finished(outcome) => {
                        self.open.remove(&number);
                    }
                    () = self.call.told(Stop::Abandon) => {}
                }
            }
            Ok(FileEnd::Doubtful(doubtful)) => self.doubt(doubtful),
            Ok(FileEnd::Pending) => {}
            Ok(FileEnd::Away(fatal)) => self.halt(fatal),
            Ok(FileEnd::Lost) => {
                self.lost = true;
                self.call.halted.cancel();
            }
            Err(error) => self.halt(FatalError {
                code: SessionErrorCode::Internal,
                detail: format!("a fault of the engine: {error}"),
            }),
        }
    }

    fn doubt(&mut self, doubtful: Doubtful) {
        if self.fatal.is_some() {
            return;
        }
        self.doubts.push(doubtful);
        if self.doubts.len() >= DOUBTS_IN_A_ROW {
            self.blame_store();
        }
    }

    /// There are no more files to compare with.
    fn end_in_doubt(&mut self) {
        if self.call.plan.is_patient {
            self.blame_store();
        } else {
            self.settle_doubts();
        }
    }

    fn blame_store(&mut self) {
        let Some(last) = self.doubts.last() else { return };
        let detail = last.detail.clone();
        let code = SessionErrorCode::StorageUnreachable;
        self.halt(FatalError { code, detail });
    }

    /// Other files fare better, or time will not tell: the failures are the files' own.
    fn settle_doubts(&mut self) {
        for doubtful in self.doubts.drain(..) {
            let call = Arc::clone(&self.call);
            self.running.spawn(async move {
                if let Some(upload) = doubtful.left_open {
                    ending::abort(&call, &upload.key, &upload.id).await;
                }
                FileEnd::Done {
                    outcome: doubtful.outcome,
                    fatal: None,
                }
            });
        }
    }

    fn halt(&mut self, fatal: FatalError) {
        self.call.halted.cancel();
        // They stay without an outcome, and their uploads open.
        self.doubts.clear();
        // All that are in flight meet the same.
        self.fatal.get_or_insert_with(|| {
            tracing::warn!(code = %fatal.code, detail = %fatal.detail, "the upload cannot go on");
            fatal
        });
    }

    /// Aborts what earlier attempts left open of files that this call did not come to.
    async fn abort_leftovers(&mut self) {
        let call = &self.call;
        futures::stream::iter(self.waiting.drain(..))
            .for_each_concurrent(ABORTS_IN_FLIGHT, |file| async move {
                if let (Some(upload_id), Ok(key)) = (
                    file.upload_id.as_deref(),
                    key_for(&call.plan.key_prefix, &file.path),
                ) {
                    ending::abort(call, &key, &storage::UploadId::new(upload_id)).await;
                }
            })
            .await;
    }
}

async fn admitted(admission: &mut Option<Admission>) -> Result<(Option<Lane>, Slot), Stopped> {
    match admission {
        Some(admission) => admission.await,
        None => pending().await,
    }
}
