//! Claim, fence, outcomes, the end of jobs and sessions.

use crate::fixture::{Fixture, LEASE, found, outcome};
use database::TenantConn;
use database::jobs::{self, Claiming, JobError};
use database::sessions::{ByteCounters, FileCounters};
use domain::{FileStatus, JobId, JobKind, SessionErrorCode, SessionStatus, StopFlag};
use futures::future::join_all;
use std::time::Duration;
use tokio::sync::oneshot;

#[tokio::test]
async fn of_many_claims_one_succeeds() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    assert_eq!(fixture.get(session).await.status, SessionStatus::Pending);
    let claims = join_all((0..20).map(|n| fixture.claim(scan.id, if n % 2 == 0 { "a" } else { "b" }))).await;
    let won: Vec<_> = claims.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!((won[0].epoch, won[0].kind), (1, JobKind::Scan));
    let session = fixture.get(session).await;
    assert_eq!(session.status, SessionStatus::InProgress);
    assert!(session.started_at.is_some());
}

#[tokio::test]
async fn a_job_that_is_not_due_is_not_claimed() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    let released = claim.clone();
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::release(conn, &released, Duration::from_secs(3600), Some("try later")).await
        })
        .await
        .unwrap();
    assert!(fixture.claim(claim.job_id, "w2").await.is_none());
    fixture
        .sql("UPDATE jobs SET run_after = now() WHERE kind = 'upload'")
        .await;
    let again = fixture.claim(claim.job_id, "w2").await.unwrap();
    assert_eq!((again.epoch, again.errors, again.crashes), (2, 1, 0));
}

/// Its transaction may have begun long before, and waited for a lock.
#[tokio::test]
async fn a_lease_counts_from_the_moment_it_is_written() {
    let fixture = Fixture::new().await;
    let (_, scan) = fixture.session().await;
    let now = async || fixture.sql("SELECT clock_timestamp()").await;
    let holds_from = async |moment: &str| {
        let lease_s = LEASE.as_secs();
        let holds =
            format!("SELECT lease_until >= '{moment}'::timestamptz + interval '{lease_s} s' FROM jobs");
        fixture.sql(&holds).await
    };
    let (has_begun, begun) = oneshot::channel();
    let (says_when, when) = oneshot::channel();
    let claim = fixture.system(async move |conn| {
        assert!(!jobs::disown(conn, scan.id, "nobody").await?);
        has_begun.send(()).unwrap();
        let moment: String = when.await.unwrap();
        Ok((jobs::claim(conn, scan.id, "w", LEASE).await?, moment))
    });
    let tell = async {
        begun.await.unwrap();
        says_when.send(now().await).unwrap();
    };
    let ((claimed, moment), ()) = tokio::join!(claim, tell);
    let Claiming::Claimed(claim) = claimed else {
        panic!("{claimed:?}");
    };
    assert_eq!(holds_from(&moment).await, "t");

    let (has_begun, begun) = oneshot::channel();
    let (says_when, when) = oneshot::channel();
    let renew = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::renew(conn, &claim, LEASE).await?;
            has_begun.send(()).unwrap();
            let moment: String = when.await.unwrap();
            jobs::renew(conn, &claim, LEASE).await?;
            Ok::<_, JobError>(moment)
        });
    let tell = async {
        begun.await.unwrap();
        says_when.send(now().await).unwrap();
    };
    let (moment, ()) = tokio::join!(renew, tell);
    assert_eq!(holds_from(&moment.unwrap()).await, "t");
}

#[tokio::test]
async fn an_earlier_holder_changes_nothing() {
    let fixture = Fixture::new().await;
    let (session, old) = fixture.uploading(2).await;
    fixture
        .sql("UPDATE jobs SET state = 'ready', worker_id = NULL, lease_until = NULL WHERE kind = 'upload'")
        .await;
    let new = fixture.claim(old.job_id, "w2").await.unwrap();
    let before = fixture.get(session).await.files;

    let late = fixture.record(&old, vec![outcome(1, FileStatus::Failed)]).await;
    assert!(matches!(late, Err(JobError::Fenced)), "{late:?}");
    assert!(matches!(fixture.end(&old, false).await, Err(JobError::Fenced)));
    let stale = old.clone();
    let opened = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::multipart_opened(conn, &stale, LEASE, 2, "upload", 8 << 20).await
        })
        .await;
    assert!(matches!(opened, Err(JobError::Fenced)));

    assert_eq!(fixture.get(session).await.files, before);
    assert_eq!(
        fixture
            .sql("SELECT count(*) FROM file_uploads WHERE status <> 'pending'")
            .await,
        "0"
    );
    fixture
        .record(&new, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_repeated_flush_adds_nothing() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(4).await;
    let mut grown = outcome(3, FileStatus::Uploaded);
    grown.size_bytes = 25;
    let outcomes = vec![
        outcome(2, FileStatus::Failed),
        outcome(1, FileStatus::Uploaded),
        grown,
        outcome(4, FileStatus::Skipped),
    ];
    for _ in 0..3 {
        assert_eq!(
            fixture.record(&claim, outcomes.clone()).await.unwrap(),
            StopFlag::Run
        );
    }
    let session = fixture.get(session).await;
    assert_eq!(
        session.files,
        FileCounters {
            total: 4,
            uploaded: 2,
            skipped: 1,
            failed: 1,
            cancelled: 0
        }
    );
    assert_eq!(
        session.bytes,
        ByteCounters {
            total: 55,
            uploaded: 35,
            skipped: 10,
            failed: 10
        }
    );
    assert_eq!(session.files.pending(), 0);
    assert_eq!(
        fixture
            .sql("SELECT error_code || '/' || error_detail FROM file_uploads WHERE number = 2")
            .await,
        "file_vanished/gone with a NUL"
    );
}

#[tokio::test]
async fn a_repeated_batch_adds_no_second_job() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    assert!(fixture.emit(&scan, found(1..=3)).await.unwrap().is_some());
    assert!(fixture.emit(&scan, found(1..=3)).await.unwrap().is_none());
    let session = fixture.get(session).await;
    assert_eq!(
        (session.files.total, session.bytes.total, session.open_jobs),
        (3, 30, 2)
    );
}

#[tokio::test]
async fn the_last_job_adds_the_finish_job_once() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    fixture
        .record(
            &claim,
            vec![outcome(1, FileStatus::Uploaded), outcome(2, FileStatus::Uploaded)],
        )
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().expect("a finish job");
    assert_eq!((finish.location.as_str(), finish.at_head), ("any", true));
    assert!(matches!(fixture.end(&claim, false).await, Err(JobError::Fenced)));
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Completed);
    assert!(fixture.claim(finish.id, "again").await.is_none());
    let session = fixture.get(session).await;
    assert_eq!((session.status, session.open_jobs), (SessionStatus::Completed, 0));
    assert!(session.finished_at.is_some());
}

#[tokio::test]
async fn finish_counts_anew() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(3).await;
    let outcomes = (1..=3).map(|number| {
        outcome(
            number,
            if number == 1 {
                FileStatus::Failed
            } else {
                FileStatus::Uploaded
            },
        )
    });
    fixture.record(&claim, outcomes.collect()).await.unwrap();
    fixture
        .sql("UPDATE sync_sessions SET files_uploaded = 77, bytes_total = 1")
        .await;
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
    let session = fixture.get(session).await;
    assert_eq!(
        session.files,
        FileCounters {
            total: 3,
            uploaded: 2,
            skipped: 0,
            failed: 1,
            cancelled: 0
        }
    );
    assert_eq!(session.bytes.total, 30);
}

#[tokio::test]
async fn a_fatal_error_closes_what_waits_and_keeps_the_first_cause() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let first = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    let second = fixture.emit(&scan, found(3..=4)).await.unwrap().unwrap();
    let upload = fixture.claim(first.id, "w1").await.unwrap();
    let fail = async |claim: jobs::Claim, code| {
        fixture
            .db
            .tenant(fixture.company, async move |conn: &mut TenantConn| {
                jobs::fail_session(conn, &claim, code, "the cause").await
            })
            .await
            .unwrap()
    };
    assert_eq!(
        fail(upload, SessionErrorCode::NoSuchBucket).await,
        None,
        "the scan still runs"
    );
    assert!(fixture.claim(second.id, "w1").await.is_none(), "it was closed");
    let finish = fail(scan, SessionErrorCode::Internal)
        .await
        .expect("the last one adds the finish job");
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
    let session = fixture.get(session).await;
    assert_eq!(session.error_code, Some(SessionErrorCode::NoSuchBucket.into()));
    assert_eq!(session.files.cancelled, 4);
    assert_eq!(session.files.pending(), 0);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back_at_no_cost() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    let job_id = claim.job_id;
    let disown = async |worker: &'static str| {
        fixture
            .system(async move |conn| jobs::disown(conn, job_id, worker).await)
            .await
    };
    assert!(!disown("somebody else").await);
    assert!(disown("w1").await);
    let again = fixture.claim(job_id, "w2").await.unwrap();
    assert_eq!((again.epoch, again.crashes, again.errors), (2, 0, 0));
}

#[tokio::test]
async fn open_uploads_stay_recorded_until_they_are_aborted() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(3).await;
    let opening = claim.clone();
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::multipart_opened(conn, &opening, LEASE, 1, "upload-1", 8 << 20).await?;
            jobs::multipart_opened(conn, &opening, LEASE, 2, "upload-2", 8 << 20).await
        })
        .await
        .unwrap();
    fixture.cancel(session).await.unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    let open = async || {
        fixture
            .db
            .tenant(fixture.company, async move |conn: &mut TenantConn| {
                jobs::open_uploads(conn, session, 0, 10).await
            })
            .await
            .unwrap()
    };
    let (first, second) = (
        (1, "dir/file 1".to_owned(), "upload-1".to_owned()),
        (2, "dir/file 2".to_owned(), "upload-2".to_owned()),
    );
    assert_eq!(open().await, [first, second.clone()]);
    let aborting = finish.clone();
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::uploads_aborted(conn, &aborting, LEASE, &[1]).await
        })
        .await
        .unwrap();
    assert_eq!(open().await, [second]);
    let (aborting, finishing) = (finish.clone(), finish);
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::finish_session(conn, &finishing, LEASE).await
        })
        .await
        .unwrap();
    assert_eq!(open().await.len(), 1, "its abort was not confirmed");
    let files = fixture.get(session).await.files;
    assert_eq!(
        (files.cancelled, files.pending()),
        (3, 0),
        "also those that were on their way"
    );
    let late = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::uploads_aborted(conn, &aborting, LEASE, &[2]).await
        })
        .await;
    assert!(matches!(late, Err(JobError::Fenced)), "the job has ended");
}

#[tokio::test]
async fn a_company_runs_as_many_upload_jobs_as_it_may() {
    let fixture = Fixture::new().await;
    fixture.sql("UPDATE companies SET max_concurrent_jobs = 2").await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    assert!(!scan.is_limited, "scans do not count");
    let mut uploads = Vec::new();
    for n in 0..6 {
        uploads.push(
            fixture
                .emit(&scan, found(n * 2 + 1..=n * 2 + 2))
                .await
                .unwrap()
                .unwrap(),
        );
    }
    // All at once: the lock on the company lets no two of them take the last place.
    let claims = join_all(uploads.iter().map(|job| fixture.claiming(job.id, "w"))).await;
    let (claimed, others): (Vec<_>, Vec<_>) = claims
        .into_iter()
        .partition(|claim| matches!(claim, Claiming::Claimed(_)));
    assert_eq!(claimed.len(), 2);
    assert!(
        others
            .iter()
            .all(|claim| matches!(claim, Claiming::Full(job) if job.location == "samples"))
    );
    let has_room = async || {
        fixture
            .system(async |conn| database::sweep::due_counts(conn).await)
            .await[0]
            .has_room
    };
    assert!(!has_room().await);
    let Claiming::Claimed(one) = &claimed[0] else {
        unreachable!()
    };
    assert!(one.is_limited);
    fixture.end(one, false).await.unwrap();
    assert!(has_room().await);
    let waiting = uploads
        .iter()
        .find(|job| {
            job.id != one.job_id && !matches!(&claimed[1], Claiming::Claimed(other) if other.job_id == job.id)
        })
        .unwrap();
    assert!(fixture.claim(waiting.id, "w").await.is_some());
    assert!(matches!(
        fixture.claiming(JobId(i64::MAX), "w").await,
        Claiming::Gone
    ));
}

#[tokio::test]
async fn a_session_that_cannot_go_on_closes_what_waits() {
    let fixture = Fixture::new().await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let first = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    let second = fixture.emit(&scan, found(3..=4)).await.unwrap().unwrap();
    fixture.end(&scan, true).await.unwrap();
    let claim = fixture.claim(first.id, "w1").await.unwrap();
    let fail = async move |conn: &mut TenantConn| {
        jobs::fail_session(conn, &claim, SessionErrorCode::AccessDenied, "no more").await
    };
    let finish = fixture.db.tenant(fixture.company, fail).await.unwrap();
    let state = fixture
        .sql(&format!("SELECT state FROM jobs WHERE id = {}", second.id))
        .await;
    assert_eq!(state, "cancelled");
    let finish = finish.expect("nothing is open any more");
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
}

#[tokio::test]
async fn a_sessions_own_paths_are_told_from_others() {
    let fixture = Fixture::new().await;
    let (session, _) = fixture.uploading(2).await;
    let own = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            let asked = ["dir/file 2".to_owned(), "dir/file 3".to_owned()];
            jobs::paths_of_session(conn, session, &asked).await
        })
        .await
        .unwrap();
    assert_eq!(own, ["dir/file 2"]);
}

#[tokio::test]
async fn what_is_left_of_a_range_is_told_in_order_with_its_uploads() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(5).await;
    fixture
        .record(&claim, vec![outcome(2, FileStatus::Uploaded)])
        .await
        .unwrap();
    let left = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::multipart_opened(conn, &claim, LEASE, 3, "upload-3", 8 << 20).await?;
            Ok::<_, JobError>(jobs::pending_files(conn, session, (1, 4)).await?)
        })
        .await
        .unwrap();
    let told: Vec<_> = left
        .iter()
        .map(|file| (file.number, file.path.text.as_str(), file.open_upload.clone()))
        .collect();
    let open = Some(("upload-3".to_owned(), 8 << 20));
    assert_eq!(
        told,
        [
            (1, "dir/file 1", None),
            (3, "dir/file 3", open),
            (4, "dir/file 4", None)
        ]
    );
}
