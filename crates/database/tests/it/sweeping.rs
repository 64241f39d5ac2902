//! What the sweeper finds and puts right.

use crate::fixture::{Fixture, LEASE, found, outcome, write};
use database::jobs;
use database::sweep::{self, MAX_CRASHES};
use database::{SystemConn, TenantConn};
use domain::{FileStatus, JobId, SessionErrorCode, SessionStatus};

async fn let_lease_run_out(fixture: &Fixture) {
    fixture
        .sql("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        .await;
}

#[tokio::test]
async fn an_abandoned_job_is_ready_again_with_one_crash_more() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(2).await;
    assert!(
        fixture
            .system(async |conn| sweep::overdue(conn).await)
            .await
            .is_empty()
    );
    let_lease_run_out(&fixture).await;
    let overdue = fixture.system(async |conn| sweep::overdue(conn).await).await;
    assert_eq!(overdue.len(), 1);
    let seen = overdue[0].clone();
    assert_eq!(
        fixture
            .system(async move |conn| sweep::expire(conn, &seen).await)
            .await,
        None
    );
    let again = fixture.claim(claim.job_id, "w2").await.unwrap();
    assert_eq!((again.epoch, again.crashes, again.errors), (2, 1, 0));
    assert!(!again.is_isolated(), "one crash may be anybody's");
}

#[tokio::test]
async fn a_job_that_was_renewed_meanwhile_is_left_alone() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(2).await;
    let_lease_run_out(&fixture).await;
    let overdue = fixture.system(async |conn| sweep::overdue(conn).await).await;
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .expect("still its own");
    assert!(
        fixture
            .system(async |conn| sweep::overdue(conn).await)
            .await
            .is_empty()
    );
    let seen = overdue[0].clone();
    fixture
        .system(async move |conn| sweep::expire(conn, &seen).await)
        .await;
    fixture
        .record(&claim, vec![outcome(2, FileStatus::Uploaded)])
        .await
        .expect("still its own");

    // Another worker has it since, with a lease that happens to end at the same moment.
    let seen = fixture.let_lease_run_out().await;
    fixture
        .sql("UPDATE jobs SET epoch = epoch + 1 WHERE state = 'running'")
        .await;
    fixture.expire(&seen).await;
    assert_eq!(
        fixture.let_lease_run_out().await.epoch,
        claim.epoch + 1,
        "it still runs"
    );
}

#[tokio::test]
async fn a_job_that_keeps_crashing_is_given_up_and_the_session_ends() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    fixture
        .sql(&format!("UPDATE jobs SET crashes = {}", MAX_CRASHES - 1))
        .await;
    let_lease_run_out(&fixture).await;
    let overdue = fixture.system(async |conn| sweep::overdue(conn).await).await;
    let seen = overdue[0].clone();
    let finish = fixture
        .system(async move |conn| sweep::expire(conn, &seen).await)
        .await
        .expect("a finish job");
    assert!(fixture.claim(claim.job_id, "w2").await.is_none());
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
    assert_eq!(fixture.get(session).await.files.failed, 2);
    assert_eq!(
        fixture.sql("SELECT DISTINCT error_code FROM file_uploads").await,
        "worker_crashed"
    );
}

#[tokio::test]
async fn a_session_without_open_jobs_and_finish_gets_one() {
    let fixture = Fixture::new().await;
    let (session, _) = fixture.session().await;
    fixture.sql("UPDATE jobs SET state = 'done'").await;
    fixture
        .sql("UPDATE sync_sessions SET open_jobs = 0, scan_complete = true")
        .await;
    assert_eq!(
        fixture
            .system(async |conn| sweep::add_missing_finishes(conn).await)
            .await,
        1
    );
    assert_eq!(
        fixture
            .system(async |conn| sweep::add_missing_finishes(conn).await)
            .await,
        0
    );
    let counts = fixture.system(async |conn| sweep::due_counts(conn).await).await;
    assert_eq!(
        (counts.len(), counts[0].location.as_str(), counts[0].count),
        (1, "any", 1)
    );
    let company = fixture.company;
    let due = fixture
        .system(async move |conn| sweep::due_jobs(conn, "any", company, 10).await)
        .await;
    assert_eq!(fixture.finish(&due[0]).await.unwrap(), SessionStatus::Completed);
    assert_eq!(fixture.get(session).await.status, SessionStatus::Completed);
}

#[tokio::test]
async fn jobs_that_came_back_after_a_cancel_are_closed() {
    let fixture = Fixture::new().await;
    let (session, upload) = fixture.uploading(2).await;
    fixture.cancel(session).await.unwrap();
    let_lease_run_out(&fixture).await;
    let seen = fixture
        .system(async |conn| sweep::overdue(conn).await)
        .await
        .remove(0);
    fixture
        .system(async move |conn| sweep::expire(conn, &seen).await)
        .await;
    assert!(
        fixture.claim(upload.job_id, "w2").await.is_none(),
        "its session is stopped"
    );
    let finishes = fixture
        .system(async |conn| sweep::close_stopped(conn).await)
        .await;
    assert_eq!(finishes.len(), 1);
    assert_eq!(
        fixture.finish(&finishes[0]).await.unwrap(),
        SessionStatus::Cancelled
    );
}

#[tokio::test]
async fn jobs_that_came_back_after_a_failure_are_closed() {
    let fixture = Fixture::new().await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let upload = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    let upload = fixture.claim(upload.id, "w1").await.unwrap();
    let code = SessionErrorCode::NoSuchBucket;
    let finish = write!(fixture, |conn| jobs::fail_session(conn, &upload, code, "gone")).unwrap();
    assert_eq!(finish, None, "the scan still runs");
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
    let finishes = fixture
        .system(async |conn| sweep::close_stopped(conn).await)
        .await;
    assert_eq!(fixture.finish(&finishes[0]).await.unwrap(), SessionStatus::Failed);
}

/// The server ends its transaction after five seconds.
#[tokio::test]
async fn a_sweeper_that_hangs_does_not_keep_the_others_from_sweeping() {
    let fixture = Fixture::new().await;
    let db = fixture.db.clone();
    let hangs = fixture.db.system(async move |conn: &mut SystemConn| {
        assert!(sweep::lock(conn).await?);
        while !db
            .system(async |other: &mut SystemConn| sweep::lock(other).await)
            .await?
        {}
        sweep::lock(conn).await
    });
    let hangs = tokio::time::timeout(LEASE, hangs)
        .await
        .expect("it loses the lock");
    assert!(hangs.is_err(), "{hangs:?}");
}

#[tokio::test]
async fn one_sweeps_at_a_time() {
    let fixture = Fixture::new().await;
    let db = fixture.db.clone();
    let (first, second) = fixture
        .system(async move |conn| {
            let first = sweep::lock(conn).await?;
            let second = db
                .system(async |other: &mut database::SystemConn| sweep::lock(other).await)
                .await?;
            Ok((first, second))
        })
        .await;
    assert_eq!((first, second), (true, false));
}

#[tokio::test]
async fn pushes_are_noted() {
    let fixture = Fixture::new().await;
    let (_, scan) = fixture.session().await;
    let id: JobId = scan.id;
    fixture
        .system(async move |conn| sweep::note_pushed(conn, &[id]).await)
        .await;
    assert_eq!(fixture.sql("SELECT pushed_at IS NOT NULL FROM jobs").await, "t");
}

#[tokio::test]
async fn the_file_that_makes_workers_vanish_fails_alone() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(3).await;
    fixture
        .sql("UPDATE jobs SET crashes = 2 WHERE kind = 'upload'")
        .await;
    for poison in [2, 3] {
        fixture
            .sql(
                "UPDATE jobs SET state = 'ready', worker_id = NULL, lease_until = NULL WHERE kind = 'upload'",
            )
            .await;
        let claim = fixture.claim(claim.job_id, "w").await.unwrap();
        assert!(claim.is_isolated());
        assert_eq!(
            fixture
                .sql("SELECT suspect_file IS NULL FROM jobs WHERE kind = 'upload'")
                .await,
            "t"
        );
        fixture
            .db
            .tenant(fixture.company, async move |conn: &mut TenantConn| {
                jobs::suspect(conn, &claim, LEASE, poison).await
            })
            .await
            .unwrap();
        let_lease_run_out(&fixture).await;
        let seen = fixture
            .system(async |conn| sweep::overdue(conn).await)
            .await
            .remove(0);
        assert_eq!(
            fixture
                .system(async move |conn| sweep::expire(conn, &seen).await)
                .await,
            None
        );
        assert_eq!(
            fixture
                .sql("SELECT crashes FROM jobs WHERE kind = 'upload'")
                .await,
            "2",
            "still isolated"
        );
    }
    let session_now = fixture.get(session).await;
    assert_eq!(
        (
            session_now.files.failed,
            session_now.bytes.failed,
            session_now.files.pending()
        ),
        (2, 20, 1)
    );
    assert_eq!(
        fixture.sql("SELECT string_agg(number || ' ' || error_code, ', ' ORDER BY number) FROM file_uploads WHERE status = 'failed'").await,
        "2 worker_crashed, 3 worker_crashed"
    );
    let claim = fixture.claim(claim.job_id, "w").await.unwrap();
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
    assert_eq!(fixture.get(session).await.files.uploaded, 1);
}
