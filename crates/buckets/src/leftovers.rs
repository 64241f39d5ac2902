//! Multipart uploads that were left open: looked for, told from those in use, and aborted.
//!
//! *In use* is what a row of a session that is not finished refers to, of whatever company; that is asked after the
//! store was, so that what was recorded meanwhile counts. An upload that a worker opened a moment ago and has not
//! recorded yet looks like a leftover. Aborting it costs that file another beginning and nothing else; the clean-up
//! that nobody asked for leaves alone what is younger than [`SAFE_AGE`] all the same.

use crate::open::{Buckets, CannotOpen};
use chrono::{DateTime, Utc};
use database::leftovers::{self, DueProject};
use database::{Database, DatabaseError, SystemConn, TenantConn};
use domain::CompanyId;
use futures::StreamExt;
use std::collections::HashSet;
use std::time::Duration;
use storage::{Bucket, OpenUpload, StorageError, UploadId};

/// How old an upload is at least that the clean-up aborts although no row ever referred to it: twice the longest lease
/// that can be set (`LEASE_S`).
pub const SAFE_AGE: Duration = Duration::from_secs(2 * 3600);
/// Uploads whose use is asked for in one go, and aborts in flight.
const BATCH: usize = 500;
const IN_FLIGHT: usize = 16;
/// Uploads of ended sessions that one clean-up takes on; the next takes the rest.
const MAX_RECORDED: i64 = 10_000;
/// A clean-up comes again: fewer attempts than for files.
const STORE_ATTEMPTS: u32 = 3;

/// Why a clean-up was cut short.
#[derive(Debug, thiserror::Error)]
pub enum CleanUpError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The bucket cannot be opened.
    #[error(transparent)]
    Bucket(#[from] CannotOpen),
    /// The store does not list what is open.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What became of uploads that were to be closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Aborted.
    pub aborted: usize,
    /// Left alone: a session that is not finished refers to them.
    pub in_use: usize,
    /// The store did not confirm their abort; the log says why.
    pub failed: usize,
}

/// The uploads that are open on keys beginning with one of `prefixes`, by key and id.
///
/// # Errors
/// When the store does not list them.
pub async fn open_uploads(bucket: &Bucket, prefixes: &[String]) -> Result<Vec<OpenUpload>, StorageError> {
    let Some(common) = common_prefix(prefixes) else {
        return Ok(Vec::new());
    };
    // One listing for all: a project may have had hundreds of cycles.
    let mut open = bucket.list_multipart_uploads(common).await?;
    open.retain(|upload| {
        prefixes
            .iter()
            .any(|prefix| upload.key.starts_with(prefix.as_str()))
    });
    open.sort_by(|a, b| (&a.key, a.upload_id.as_str()).cmp(&(&b.key, b.upload_id.as_str())));
    Ok(open)
}

/// What all of them begin with; nothing where there are none.
fn common_prefix(prefixes: &[String]) -> Option<&str> {
    let (first, rest) = prefixes.split_first()?;
    let common = rest.iter().fold(first.as_str(), |common, prefix| {
        let same = common
            .char_indices()
            .zip(prefix.chars())
            .take_while(|((_, a), b)| a == b);
        let len = same.last().map_or(0, |((index, a), _)| index + a.len_utf8());
        common.get(..len).unwrap_or_default()
    });
    Some(common)
}

/// When an upload was opened, by the store's clock; nothing where the store does not say it in RFC 3339.
#[must_use]
pub fn initiated_at(upload: &OpenUpload) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(upload.initiated.as_deref()?).ok()?;
    Some(time.to_utc())
}

/// Aborts uploads, each with its key, several at a time; gives the names of those that are closed now. One that is not
/// there any more is closed.
pub async fn abort_all<T>(
    bucket: &Bucket,
    uploads: impl IntoIterator<Item = (T, String, UploadId)>,
) -> Vec<T> {
    futures::stream::iter(uploads)
        .map(|(name, key, upload_id)| async move {
            match bucket.abort_multipart(&key, &upload_id).await {
                Ok(()) => {
                    tracing::info!(key, "aborted a multipart upload that was left open");
                    Some(name)
                }
                Err(error) => {
                    tracing::warn!(key, "cannot abort a multipart upload: {error}");
                    None
                }
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .filter_map(|name| async move { name })
        .collect()
        .await
}

/// Aborts those of `uploads` that are not in use, and forgets them where a row referred to them.
///
/// # Errors
/// The database's; what the store refuses is counted.
pub async fn close_unused(
    database: &Database,
    company_id: CompanyId,
    bucket: &Bucket,
    uploads: &[OpenUpload],
) -> Result<Closed, DatabaseError> {
    let mut closed = Closed::default();
    for batch in uploads.chunks(BATCH) {
        let ids: Vec<String> = batch.iter().map(|upload| upload.upload_id.to_string()).collect();
        let in_use: HashSet<String> = database
            .system(async move |conn: &mut SystemConn| leftovers::in_use(conn, &ids).await)
            .await?
            .into_iter()
            .collect();
        let unused: Vec<_> = batch
            .iter()
            .filter(|upload| !in_use.contains(upload.upload_id.as_str()))
            .map(|upload| {
                (
                    upload.upload_id.to_string(),
                    upload.key.clone(),
                    upload.upload_id.clone(),
                )
            })
            .collect();
        closed.in_use += batch.len() - unused.len();
        let wanted = unused.len();
        let aborted = abort_all(bucket, unused).await;
        closed.aborted += aborted.len();
        closed.failed += wanted - aborted.len();
        database
            .tenant(company_id, async move |conn: &mut TenantConn| {
                let referrers = leftovers::referrers(conn, &aborted).await?;
                leftovers::forget(conn, &referrers).await
            })
            .await?;
    }
    Ok(closed)
}

/// Closes what was left open in the bucket of a project: what rows of ended sessions still refer to, and what is older
/// than [`SAFE_AGE`] and no row refers to.
///
/// Under a prefix that is empty nobody can tell the project's uploads from those of others in the bucket: there, only
/// what a row refers to is aborted.
///
/// # Errors
/// Why it was cut short. What a row refers to is aborted also where the store does not list.
pub async fn clean_up(
    database: &Database,
    buckets: &Buckets,
    due: &DueProject,
) -> Result<Closed, CleanUpError> {
    let project_id = due.project.id;
    let (recorded, mut prefixes) = database
        .tenant(due.company_id, async move |conn: &mut TenantConn| {
            let recorded = leftovers::of_ended_sessions(conn, project_id, MAX_RECORDED).await?;
            Ok::<_, DatabaseError>((recorded, leftovers::prefixes(conn, project_id).await?))
        })
        .await?;
    if prefixes.is_empty() {
        return Ok(Closed::default());
    }
    let bucket = buckets
        .of(due.company_id, &due.project)?
        .with_max_attempts(STORE_ATTEMPTS);
    let wanted = recorded.len();
    let named = recorded.into_iter().map(|file| {
        let (key, upload_id) = (file.key.clone(), UploadId::new(file.upload_id.as_str()));
        (file, key, upload_id)
    });
    let aborted = abort_all(&bucket, named).await;
    let mut closed = Closed {
        aborted: aborted.len(),
        failed: wanted - aborted.len(),
        in_use: 0,
    };
    database
        .tenant(due.company_id, async move |conn: &mut TenantConn| {
            leftovers::forget(conn, &aborted).await
        })
        .await?;

    prefixes.retain(|prefix| !prefix.is_empty());
    let mut open = open_uploads(&bucket, &prefixes).await?;
    open.retain(|upload| initiated_at(upload).is_some_and(|at| is_safe(at, due.now)));
    let unknown = close_unused(database, due.company_id, &bucket, &open).await?;
    closed.aborted += unknown.aborted;
    closed.in_use += unknown.in_use;
    closed.failed += unknown.failed;
    Ok(closed)
}

/// Whether what was opened at `initiated_at` is old enough to be nobody's.
fn is_safe(initiated_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - initiated_at).to_std().is_ok_and(|age| age >= SAFE_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listing_covers_all_prefixes() {
        let of = |prefixes: &[&str]| {
            let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            common_prefix(&prefixes).map(str::to_owned)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["a/C1/"]).as_deref(), Some("a/C1/"));
        assert_eq!(of(&["a/C1/", "a/C10/", "a/C2/"]).as_deref(), Some("a/C"));
        assert_eq!(of(&["ä/1", "ö/1"]).as_deref(), Some(""));
        assert_eq!(of(&["äa", "äb"]).as_deref(), Some("ä"));
        assert_eq!(of(&["C1/", "x/"]).as_deref(), Some(""));
    }

    #[test]
    fn only_what_is_older_than_any_lease_is_nobodys() {
        let now = Utc::now();
        assert!(is_safe(now - SAFE_AGE, now));
        assert!(!is_safe(now - SAFE_AGE + Duration::from_secs(1), now));
        // A store whose clock is ahead.
        assert!(!is_safe(now + SAFE_AGE * 2, now));
    }
}
