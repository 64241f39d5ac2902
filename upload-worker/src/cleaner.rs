//! The cleaner: closes multipart uploads that were left open and that nobody else will close. A worker was killed
//! between opening one and recording it, or a session ended while the store did not take the abort.
//!
//! Every worker has one. Postgres says whose bucket is due, and gives it to one of them: each is looked through once
//! in an interval, however many workers there are and however often they are started anew.

use crate::worker::Worker;
use buckets::{CleanUpError, Closed};
use database::{DatabaseError, SystemConn, leftovers};
use domain::ProjectId;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A store that does not answer keeps the other projects waiting no longer than this; what is left is next time's.
const PATIENCE: Duration = Duration::from_secs(300);

/// Cleans up what is due until `stop`.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let pace = (worker.leftovers_every / 4).clamp(Duration::from_millis(250), Duration::from_secs(60));
    let mut refused = Refused::default();
    while stop.run_until_cancelled(tokio::time::sleep(pace)).await.is_some() {
        while let Some(cleaned) = stop.run_until_cancelled(clean_next(&worker, &mut refused)).await {
            match cleaned {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!("multipart uploads that were left open are not looked for: {error}");
                    break;
                }
            }
        }
    }
}

/// The projects whose buckets could not be looked through: that is said once, not every hour.
#[derive(Default)]
struct Refused(HashSet<ProjectId>);

impl Refused {
    fn note(&mut self, project_id: ProjectId, cause: &dyn std::fmt::Display) {
        if self.0.insert(project_id) {
            tracing::warn!(%project_id, "multipart uploads that were left open stay so: {cause}");
        } else {
            tracing::debug!(%project_id, "multipart uploads that were left open still stay so: {cause}");
        }
    }
}

/// Cleans up the bucket that is due, if there is one.
async fn clean_next(worker: &Worker, refused: &mut Refused) -> Result<bool, DatabaseError> {
    let every = worker.leftovers_every;
    let due = worker
        .database
        .system(async move |conn: &mut SystemConn| leftovers::take_due(conn, every).await)
        .await?;
    let Some(due) = due else { return Ok(false) };
    let project_id = due.project.id;
    let cleaning = buckets::clean_up(&worker.database, &worker.targets.buckets, &due);
    match tokio::time::timeout(PATIENCE, cleaning).await {
        Ok(Ok(closed)) => {
            refused.0.remove(&project_id);
            if closed != Closed::default() {
                tracing::info!(%project_id, ?closed, "looked for multipart uploads that were left open");
            }
        }
        Ok(Err(CleanUpError::Database(error))) => return Err(error),
        Ok(Err(error)) => refused.note(project_id, &error),
        Err(_elapsed) => refused.note(project_id, &"the store does not answer in time"),
    }
    Ok(true)
}
