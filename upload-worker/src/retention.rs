//! Keeps the table of files in months: makes those to come, and drops those past what is kept
//! (`FILE_RETENTION_MONTHS`). Every worker does so, when it starts and once an hour; an advisory lock lets one work at a
//! time. It waits for no one: a table that somebody reads just now is left for the next time.

use crate::worker::Worker;
use chrono::NaiveDate;
use database::retention::{self, Kept};
use database::{DatabaseError, SystemConn};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked what there is to do.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon again where the database, or the table, could not be had.
const SOON: Duration = Duration::from_secs(60);

/// Keeps the months until `stop`.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut told = HashSet::new();
    while let Some(kept) = stop.run_until_cancelled(keep_months(&worker, &mut told)).await {
        let pause = match kept {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::warn!("the months of the recorded files are not cared for now: {error}");
                SOON
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Makes the months to come, and drops those that are over. `told`: the months of which was said that they are needed;
/// that is said once, not every hour.
async fn keep_months(worker: &Worker, told: &mut HashSet<NaiveDate>) -> Result<(), DatabaseError> {
    let database = &worker.database;
    let made = database
        .system(async |conn: &mut SystemConn| retention::make_months(conn).await)
        .await?;
    if let Some(made @ 1..) = made {
        tracing::info!(made, "made months for files to come");
    }
    let Some(keep_months) = worker.file_retention_months.map(i32::from) else {
        return Ok(());
    };
    let expired = database
        .system(async move |conn: &mut SystemConn| retention::expired_months(conn, keep_months).await)
        .await?;
    for month in expired {
        let drop_month =
            async move |conn: &mut SystemConn| retention::drop_month(conn, month, keep_months).await;
        match database.system(drop_month).await {
            Ok(sessions) => tracing::info!(%month, sessions, "dropped the record of a month's files"),
            Err(Kept::Elsewhere) => return Ok(()),
            Err(Kept::Database(error)) => return Err(error),
            Err(needed @ Kept::Needed { .. }) if told.insert(month) => {
                tracing::info!(%month, "the record of a month's files stays: {needed}");
            }
            Err(needed @ Kept::Needed { .. }) => {
                tracing::debug!(%month, "the record of a month's files still stays: {needed}");
            }
        }
    }
    Ok(())
}
