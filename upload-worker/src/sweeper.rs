//! The sweeper: finds what was left behind. Every worker has one.
//!
//! Overdue leases are watched by every sweeper, all the time: a job counts as abandoned when the same lease was
//! seen overdue for a whole lease more, without a gap in which the database was away. All else is done by one worker in
//! an interval, whoever comes first, so that it costs the same however many there are; without Redis, by each. An
//! advisory lock lets one work at a time.

use crate::worker::Worker;
use database::sweep::{self, Overdue};
use database::{Database, DatabaseError, SystemConn};
use domain::{CompanyId, QueuedJob};
use queue::Queue;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Ids looked for in one list at a time.
const PAGE: i64 = 5_000;

/// Sweeps until `stop`.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let pace = (worker.lease / 4).clamp(Duration::from_millis(250), Duration::from_secs(5));
    let mut watched = Watched::default();
    while stop.run_until_cancelled(tokio::time::sleep(pace)).await.is_some() {
        if let Err(error) = sweep(&worker, pace, &mut watched).await {
            tracing::warn!("the sweep was cut short: {error}");
            // During an outage nobody could renew: the watch begins anew.
            watched = Watched::default();
        }
    }
}

async fn sweep(worker: &Worker, pace: Duration, watched: &mut Watched) -> Result<(), DatabaseError> {
    let (database, queue) = (&worker.database, &worker.queue);
    let expired = expire(database, worker.lease, watched).await?;
    let mut pushed = queue.push(&expired).await.map_err(Into::into);
    // A little less than the pace: else a worker alone would often come just too early.
    if queue.take_sweep(pace.mul_f32(0.9)).await.unwrap_or(true)
        // Otherwise another worker sweeps.
        && let Some(finishes) = settle(database).await?
    {
        pushed = pushed.and(push_all(database, queue, &finishes).await);
    }
    if let Err(error) = pushed {
        tracing::warn!("cannot push what waits, the next sweep will: {error:#}");
    }
    Ok(())
}

/// Since when each overdue lease was seen as it is.
#[derive(Default)]
pub(crate) struct Watched(HashMap<Overdue, Instant>);

impl Watched {
    /// Takes in what is overdue now; gives what has been so for `term`.
    fn expired(&mut self, overdue: Vec<Overdue>, term: Duration, now: Instant) -> Vec<Overdue> {
        let since = |job: &Overdue| self.0.get(job).copied().unwrap_or(now);
        self.0 = overdue
            .into_iter()
            .map(|job| (job.clone(), since(&job)))
            .collect();
        self.0
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= term)
            .map(|(job, _)| job.clone())
            .collect()
    }
}

/// Takes abandoned jobs from the workers that vanished with them; gives what is to be pushed because of that. Each is a
/// transaction of its own: one that cannot be had now stands in no other's way.
pub(crate) async fn expire(
    database: &Database,
    lease: Duration,
    watched: &mut Watched,
) -> Result<Vec<QueuedJob>, DatabaseError> {
    let overdue = database
        .system(async |conn: &mut SystemConn| sweep::overdue(conn).await)
        .await?;
    let mut finishes = Vec::new();
    for job in watched.expired(overdue, lease, Instant::now()) {
        let expire = async move |conn: &mut SystemConn| {
            if sweep::lock(conn).await? {
                sweep::expire(conn, &job).await
            } else {
                Ok(None)
            }
        };
        finishes.extend(database.system(expire).await?);
        failpoint::at!("sweep.expired");
    }
    Ok(finishes)
}

/// Puts right what else Postgres knows of, unless another worker does so just now; gives what is to be pushed.
pub(crate) async fn settle(database: &Database) -> Result<Option<Vec<QueuedJob>>, DatabaseError> {
    database
        .system(async |conn: &mut SystemConn| {
            if !sweep::lock(conn).await? {
                return Ok(None);
            }
            let finishes = sweep::close_stopped(conn).await?;
            let added = sweep::add_missing_finishes(conn).await?;
            if added > 0 {
                tracing::warn!(added, "sessions without a finish job got one");
            }
            Ok(Some(finishes))
        })
        .await
}

/// Pushes these, and whatever else is due and on no list.
pub(crate) async fn push_all(
    database: &Database,
    queue: &Queue,
    finishes: &[QueuedJob],
) -> anyhow::Result<()> {
    queue.push(finishes).await?;
    push_missing(database, queue).await
}

/// Pushes every due job that is on no list. Lists that are as long as the database says are not looked into.
async fn push_missing(database: &Database, queue: &Queue) -> anyhow::Result<()> {
    let due = database
        .system(async |conn: &mut SystemConn| sweep::due_counts(conn).await)
        .await?;
    let lines: Vec<(String, CompanyId)> = due
        .iter()
        .map(|count| (count.location.clone(), CompanyId(count.company_id)))
        .collect();
    let lengths = queue.counts(&lines).await?;
    for ((location, company_id), (count, length)) in lines.iter().zip(due.iter().zip(lengths)) {
        if length >= u64::try_from(count.count).unwrap_or(0) {
            continue;
        }
        let (name, company_id) = (location.clone(), *company_id);
        let jobs: Vec<QueuedJob> = database
            .system(async move |conn: &mut SystemConn| sweep::due_jobs(conn, &name, company_id, PAGE).await)
            .await?;
        let missing = queue.missing(&jobs).await?;
        if missing.is_empty() {
            continue;
        }
        tracing::info!(location, company_id = %company_id, jobs = missing.len(), "pushing jobs that are on no list");
        queue.push(&missing).await?;
        let ids: Vec<_> = missing.iter().map(|job| job.id).collect();
        database
            .system(async move |conn: &mut SystemConn| sweep::note_pushed(conn, &ids).await)
            .await?;
    }
    let with_room: Vec<(String, CompanyId)> = lines
        .into_iter()
        .zip(due)
        .filter(|(_, count)| count.has_room)
        .map(|(line, _)| line)
        .collect();
    queue.ensure_ring(&with_room).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overdue(epoch: i32) -> Overdue {
        Overdue {
            id: 1,
            epoch,
            lease_until: chrono::DateTime::from_timestamp_nanos(7),
        }
    }

    #[test]
    fn a_lease_expires_after_being_overdue_for_a_whole_term() {
        let (mut watched, start, term) = (Watched::default(), Instant::now(), Duration::from_secs(30));
        assert!(watched.expired(vec![overdue(1)], term, start).is_empty());
        assert!(
            watched
                .expired(vec![overdue(1)], term, start + term / 2)
                .is_empty()
        );
        assert_eq!(
            watched.expired(vec![overdue(1)], term, start + term),
            [overdue(1)]
        );
    }

    #[test]
    fn a_renewed_or_reclaimed_job_is_watched_anew() {
        let (mut watched, start, term) = (Watched::default(), Instant::now(), Duration::from_secs(30));
        assert!(watched.expired(vec![overdue(1)], term, start).is_empty());
        assert!(watched.expired(vec![], term, start + term / 2).is_empty());
        assert!(watched.expired(vec![overdue(1)], term, start + term).is_empty());
        assert!(
            watched
                .expired(vec![overdue(2)], term, start + 2 * term)
                .is_empty()
        );
    }
}
