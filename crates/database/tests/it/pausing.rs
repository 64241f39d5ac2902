//! Pause and resume.

use crate::fixture::{Fixture, found, outcome};
use database::TenantConn;
use database::jobs::{self, Claim};
use database::sessions::{self, Moved, Session, SessionError};
use domain::{FileStatus, SessionId, SessionStatus, StopFlag};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::oneshot;

async fn pause(fixture: &Fixture, id: SessionId) -> Result<Session, SessionError> {
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            sessions::pause(conn, id).await
        })
        .await
}

async fn resume(fixture: &Fixture, id: SessionId) -> Result<Moved, SessionError> {
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            sessions::resume(conn, id).await
        })
        .await
}

#[tokio::test]
async fn what_waits_is_parked_and_what_runs_is_told() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let waiting = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    assert_eq!(
        pause(&fixture, session).await.unwrap().status,
        SessionStatus::Paused
    );
    assert!(fixture.claim(waiting.id, "w").await.is_none(), "it is parked");
    assert_eq!(fixture.record(&scan, vec![]).await.unwrap(), StopFlag::Pause);
    assert!(
        fixture.emit(&scan, found(3..=4)).await.unwrap().is_none(),
        "nothing more is added"
    );
    let released = scan.clone();
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::release(conn, &released, Duration::ZERO, None).await
        })
        .await
        .unwrap();
    assert!(
        fixture.claim(scan.job_id, "w").await.is_none(),
        "given back, it is parked, too"
    );
    assert!(
        fixture
            .system(async |conn| database::sweep::due_counts(conn).await)
            .await
            .is_empty()
    );

    let moved = resume(&fixture, session).await.unwrap();
    assert_eq!(moved.session.status, SessionStatus::InProgress);
    assert_eq!(
        moved.jobs.iter().map(|job| job.id).collect::<Vec<_>>(),
        [scan.job_id, waiting.id]
    );
    let again = fixture.claim(scan.job_id, "w").await.unwrap();
    assert_eq!((again.crashes, again.errors), (0, 0), "a pause costs nothing");
    assert!(fixture.claim(waiting.id, "w").await.is_some());
}

#[tokio::test]
async fn a_job_whose_worker_vanished_during_a_pause_is_parked() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    pause(&fixture, session).await.unwrap();
    fixture
        .sql("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        .await;
    let seen = fixture
        .system(async |conn| database::sweep::overdue(conn).await)
        .await
        .remove(0);
    fixture
        .system(async move |conn| database::sweep::expire(conn, &seen).await)
        .await;
    let due = fixture
        .system(async |conn| database::sweep::due_counts(conn).await)
        .await;
    assert!(due.is_empty(), "a sweep would push it again and again: {due:?}");
    assert!(fixture.claim(claim.job_id, "w").await.is_none());
    resume(&fixture, session).await.unwrap();
    assert!(fixture.claim(claim.job_id, "w").await.is_some());
}

#[tokio::test]
async fn a_session_that_was_never_claimed_waits_again_after_its_pause() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    pause(&fixture, session).await.unwrap();
    assert!(fixture.claim(scan.id, "w").await.is_none());
    let moved = resume(&fixture, session).await.unwrap();
    assert_eq!(
        (moved.session.status, moved.jobs.len()),
        (SessionStatus::Pending, 1)
    );
    assert!(fixture.claim(scan.id, "w").await.is_some());
}

#[tokio::test]
async fn a_pause_after_the_last_file_lets_the_session_end() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    pause(&fixture, session).await.unwrap();
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Completed);
}

#[tokio::test]
async fn a_resume_leaves_the_finish_job_where_it_is() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    let finish_id = finish.job_id;
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::release(conn, &finish, Duration::from_secs(3600), Some("try later")).await
        })
        .await
        .unwrap();
    pause(&fixture, session).await.unwrap();
    assert!(resume(&fixture, session).await.unwrap().jobs.is_empty());
    assert!(fixture.claim(finish_id, "w").await.is_none(), "it is not due yet");
}

/// Parked, it would stay so when the session is cancelled then.
#[tokio::test]
async fn a_finish_job_that_comes_back_during_a_pause_is_not_parked() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    let claim = fixture.claim(finish.id, "finisher").await.unwrap();
    pause(&fixture, session).await.unwrap();
    release(&fixture, &claim).await;
    fixture
        .claim(finish.id, "w1")
        .await
        .expect("given back, it goes on");
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
    fixture.cancel(session).await.unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Cancelled);
}

#[tokio::test]
async fn a_paused_session_can_be_cancelled() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    fixture.emit(&scan, found(1..=2)).await.unwrap();
    fixture.end(&scan, true).await.unwrap();
    pause(&fixture, session).await.unwrap();
    let moved = fixture.cancel(session).await.unwrap();
    assert_eq!(
        fixture.finish(&moved.jobs[0]).await.unwrap(),
        SessionStatus::Cancelled
    );
    assert_eq!(fixture.get(session).await.files.cancelled, 2);
}

#[tokio::test]
async fn what_cannot_be_paused_or_resumed_says_so() {
    let fixture = Fixture::new().await;
    let made = fixture
        .try_create(|new| new.start = false)
        .await
        .unwrap()
        .session
        .id;
    assert!(
        matches!(pause(&fixture, made).await, Err(SessionError::WrongStatus { .. })),
        "it is not started"
    );
    assert!(matches!(
        resume(&fixture, made).await,
        Err(SessionError::WrongStatus { .. })
    ));
    let (session, _) = {
        fixture.cancel(made).await.unwrap();
        fixture.uploading(1).await
    };
    pause(&fixture, session).await.unwrap();
    assert!(
        matches!(
            pause(&fixture, session).await,
            Err(SessionError::WrongStatus { .. })
        ),
        "it is paused"
    );
    fixture.cancel(session).await.unwrap();
    assert!(
        matches!(
            resume(&fixture, session).await,
            Err(SessionError::WrongStatus { .. })
        ),
        "it is told to end"
    );
}

/// Runs `other` while a transaction that did `first` to the session is open: until `other` waits for it, or is done.
async fn while_open<T>(
    fixture: &Fixture,
    id: SessionId,
    first: StopFlag,
    other: impl Future<Output = T>,
) -> T {
    let (has_moved, moved) = oneshot::channel();
    let (may_commit, commit) = oneshot::channel();
    let open = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            match first {
                StopFlag::Pause => drop(sessions::pause(conn, id).await?),
                _ => drop(sessions::resume(conn, id).await?),
            }
            has_moved.send(()).unwrap();
            commit.await.unwrap();
            Ok::<_, SessionError>(())
        });
    let is_done = Cell::new(false);
    let other = async {
        moved.await.unwrap();
        let done = other.await;
        is_done.set(true);
        done
    };
    let watch = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while !is_done.get() && fixture.sql(waits).await == "0" {}
        may_commit.send(()).unwrap();
    };
    let (opened, done, ()) = tokio::join!(open, other, watch);
    opened.unwrap();
    done
}

async fn release(fixture: &Fixture, claim: &Claim) {
    let claim = claim.clone();
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::release(conn, &claim, Duration::ZERO, None).await
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_job_given_back_during_a_pause_is_parked_and_during_a_resume_is_not() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    let parked = "SELECT count(*) FROM jobs WHERE state = 'ready' AND run_after = 'infinity'";
    while_open(&fixture, session, StopFlag::Pause, release(&fixture, &claim)).await;
    assert_eq!(fixture.sql(parked).await, "1");

    resume(&fixture, session).await.unwrap();
    let claim = fixture.claim(claim.job_id, "w2").await.unwrap();
    pause(&fixture, session).await.unwrap();
    while_open(&fixture, session, StopFlag::Run, release(&fixture, &claim)).await;
    assert_eq!(fixture.sql(parked).await, "0", "nobody would ever unpark it");
    assert!(fixture.claim(claim.job_id, "w3").await.is_some());
}

#[tokio::test]
async fn a_job_that_expires_during_a_resume_is_not_parked() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    pause(&fixture, session).await.unwrap();
    fixture
        .sql("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        .await;
    let seen = fixture
        .system(async |conn| database::sweep::overdue(conn).await)
        .await
        .remove(0);
    let expire = fixture.system(async move |conn| database::sweep::expire(conn, &seen).await);
    while_open(&fixture, session, StopFlag::Run, expire).await;
    assert!(fixture.claim(claim.job_id, "w2").await.is_some());
}

#[tokio::test]
async fn a_batch_added_during_a_pause_is_parked() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let emit = fixture.emit(&scan, found(1..=2));
    let batch = while_open(&fixture, session, StopFlag::Pause, emit)
        .await
        .unwrap()
        .unwrap();
    let parked = "SELECT id FROM jobs WHERE state = 'ready' AND run_after = 'infinity'";
    assert_eq!(fixture.sql(parked).await, batch.id.to_string());
    let moved = resume(&fixture, session).await.unwrap();
    assert_eq!(moved.jobs.len(), 1);
}
