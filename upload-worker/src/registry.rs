//! Tells that this worker is alive, what it serves and how busy it is, so that people hear why their jobs wait. No
//! job depends on it.

use crate::pace::Meter;
use crate::worker::Worker;
use chrono::Utc;
use queue::{TELL_EVERY, WorkerInfo};
use std::sync::Arc;
use std::time::Instant;

/// Tells of the worker until it takes no more jobs.
pub async fn report(worker: Arc<Worker>) {
    let started_at = Utc::now();
    let mut meter = Meter::default();
    while !worker.stopping.is_cancelled() {
        let info = WorkerInfo {
            id: worker.id.clone(),
            locations: worker.locations.clone(),
            slots: worker.concurrency,
            running: worker.places.counts(),
            pace: meter.read(&worker.done, Instant::now()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
        };
        if let Err(error) = worker.queue.tell_worker(&info).await {
            tracing::debug!("nobody hears that this worker is alive: {error}");
        }
        worker
            .stopping
            .run_until_cancelled(tokio::time::sleep(TELL_EVERY))
            .await;
    }
    if let Err(error) = worker.queue.forget_worker(&worker.id).await {
        tracing::debug!("this worker counts as alive for a while: {error}");
    }
}
