//! A store that is away: its sessions wait for so long, whoever has their jobs, and then fail.

use crate::fixture::{Fixture, LEASE, found, outcome, write};
use database::TenantConn;
use database::jobs::{self, Claim, JobError, StoreAway};
use database::sessions;
use domain::{FileStatus, QueuedJob, SessionErrorCode, SessionStatus};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(600);

impl Fixture {
    /// The job met a store that is away.
    async fn meets_no_store(&self, claim: &Claim) -> Result<Option<QueuedJob>, JobError> {
        let claim = claim.clone();
        let away = StoreAway {
            detail: "connection refused".to_owned(),
            delay: Duration::from_secs(30),
            patience: PATIENCE,
            is_last: claim.away_for.is_some_and(|away_for| away_for >= PATIENCE),
        };
        write!(self, |conn| jobs::await_store(conn, &claim, LEASE, &away))
    }

    async fn store_answers(&self, claim: &Claim) {
        let claim = claim.clone();
        let answered = async move |conn: &mut TenantConn| jobs::store_answers(conn, &claim).await;
        self.db.tenant(self.company, answered).await.unwrap();
    }

    /// The time that waiting jobs take passes.
    async fn let_time_pass(&self, minutes: u32) {
        self.sql(&format!(
            "UPDATE jobs SET run_after = run_after - interval '{minutes} min';
             UPDATE store_outages SET since = since - interval '{minutes} min'"
        ))
        .await;
    }

    /// In how many seconds each waiting upload job is due, oldest first.
    async fn due_in_s(&self) -> String {
        self.sql(
            "SELECT string_agg(round(extract(epoch FROM run_after - now()))::text, ',' ORDER BY id) FROM jobs
             WHERE state = 'ready' AND kind = 'upload'",
        )
        .await
    }
}

#[tokio::test]
async fn a_session_waits_for_its_store_and_says_so() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let first = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    fixture.emit(&scan, found(3..=4)).await.unwrap().unwrap();
    let claim = fixture.claim(first.id, "w1").await.unwrap();
    assert_eq!(claim.away_for, None);
    assert_eq!(fixture.meets_no_store(&claim).await.unwrap(), None);
    assert!(matches!(
        fixture.meets_no_store(&claim).await,
        Err(JobError::Fenced)
    ));
    assert_eq!(fixture.due_in_s().await, "30,30", "the others wait, too");
    let waiting = fixture.get(session).await;
    assert_eq!(waiting.status, SessionStatus::InProgress);
    assert_eq!(
        waiting.error_code,
        Some(SessionErrorCode::StorageUnreachable.into())
    );
    let detail = waiting.error_detail.unwrap();
    assert!(
        detail.contains("asked again until ") && detail.contains("connection refused"),
        "{detail}"
    );

    fixture.let_time_pass(1).await;
    let claim = fixture.claim(first.id, "w2").await.unwrap();
    assert!(claim.away_for >= Some(Duration::from_secs(60)), "{claim:?}");
    assert_eq!((claim.errors, claim.crashes), (1, 0));
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    fixture.store_answers(&claim).await;
    let going_on = fixture.get(session).await;
    assert_eq!((going_on.error_code, going_on.error_detail), (None, None));
    fixture.meets_no_store(&claim).await.unwrap();
    fixture.let_time_pass(1).await;
    let claim = fixture.claim(first.id, "w1").await.unwrap();
    let away_for = claim.away_for.unwrap();
    assert!(
        away_for < Duration::from_secs(90),
        "it is counted anew: {away_for:?}"
    );
    assert_eq!(claim.errors, 1, "what was before the success does not count");
}

#[tokio::test]
async fn the_last_attempt_comes_when_the_patience_ends_and_fails_the_session() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    let job_id = claim.job_id;
    fixture.meets_no_store(&claim).await.unwrap();
    fixture.let_time_pass(9).await;
    fixture
        .sql("UPDATE store_outages SET since = now() - interval '590 s'")
        .await;
    let claim = fixture.claim(job_id, "w2").await.unwrap();
    fixture.meets_no_store(&claim).await.unwrap();
    assert_eq!(fixture.due_in_s().await, "10", "not after it");
    assert_eq!(fixture.get(session).await.status, SessionStatus::InProgress);

    fixture.let_time_pass(1).await;
    let claim = fixture.claim(job_id, "w1").await.unwrap();
    let finish = fixture.meets_no_store(&claim).await.unwrap().unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
    let failed = fixture.get(session).await;
    assert_eq!(
        failed.error_code,
        Some(SessionErrorCode::StorageUnreachable.into())
    );
    let detail = failed.error_detail.unwrap();
    assert!(detail.contains("for 600 s the store took nothing"), "{detail}");

    let again = fixture.retry(session, None).await.unwrap();
    assert_eq!(again.session.error_code, None);
    let claim = fixture.claim(again.jobs[0].id, "w1").await.unwrap();
    assert_eq!(claim.away_for, None, "a retry has its patience anew");
}

#[tokio::test]
async fn a_success_of_another_job_keeps_the_session_from_failing() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    fixture.meets_no_store(&claim).await.unwrap();
    fixture.let_time_pass(11).await;
    let claim = fixture.claim(claim.job_id, "w2").await.unwrap();
    fixture.store_answers(&claim).await;
    assert_eq!(fixture.meets_no_store(&claim).await.unwrap(), None);
    assert_eq!(fixture.get(session).await.status, SessionStatus::InProgress);
}

#[tokio::test]
async fn a_pause_does_not_use_up_the_patience_and_a_cancel_ends_the_wait() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    fixture.meets_no_store(&claim).await.unwrap();
    write!(fixture, |conn| sessions::pause(conn, session)).unwrap();
    fixture.let_time_pass(60).await;
    let resumed = write!(fixture, |conn| sessions::resume(conn, session)).unwrap();
    assert_eq!(resumed.session.error_code, None);
    let claim = fixture.claim(claim.job_id, "w1").await.unwrap();
    assert_eq!(claim.away_for, None);
    fixture.meets_no_store(&claim).await.unwrap();
    let finish = fixture.cancel(session).await.unwrap().jobs.remove(0);
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Cancelled);
    let cancelled = fixture.get(session).await;
    assert_eq!((cancelled.error_code, cancelled.error_detail), (None, None));
}

/// A scan, an upload job that waits longer for a cause of its own, and another session are none of its business.
#[tokio::test]
async fn others_do_not_wait_for_its_store() {
    let mut fixture = Fixture::new().await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let first = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    let slow = fixture.emit(&scan, found(3..=4)).await.unwrap().unwrap();
    let resting = format!(
        "UPDATE jobs SET run_after = now() + interval '300 s' WHERE id = {}",
        slow.id
    );
    fixture.sql(&resting).await;
    let releasing = scan.clone();
    write!(fixture, |conn| jobs::release(
        conn,
        &releasing,
        Duration::ZERO,
        None
    ))
    .unwrap();
    fixture.cycle = fixture.add_cycle(fixture.company, fixture.project, 2).await;
    let (_, other_scan) = fixture.session().await;
    let other_scan = fixture.claim(other_scan.id, "scanner").await.unwrap();
    let other = fixture.emit(&other_scan, found(1..=2)).await.unwrap().unwrap();

    let claim = fixture.claim(first.id, "w1").await.unwrap();
    fixture.meets_no_store(&claim).await.unwrap();
    assert_eq!(fixture.due_in_s().await, "30,300,0");
    for id in [scan.job_id, other.id] {
        let is_due = fixture
            .sql(&format!("SELECT run_after <= now() FROM jobs WHERE id = {id}"))
            .await;
        assert_eq!(is_due, "t");
    }
}

#[tokio::test]
async fn a_paused_session_does_not_wait_for_its_store() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    write!(fixture, |conn| sessions::pause(conn, session)).unwrap();
    fixture.meets_no_store(&claim).await.unwrap();
    assert_eq!(fixture.get(session).await.error_code, None);
    assert_eq!(fixture.sql("SELECT count(*) FROM store_outages").await, "0");
}

/// A session that fails while its other jobs still deliver keeps its cause.
#[tokio::test]
async fn an_answer_of_the_store_hides_no_other_failure() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    fixture
        .sql("UPDATE sync_sessions SET error_code = 'access_denied', error_detail = 'no more'")
        .await;
    fixture.store_answers(&claim).await;
    let failing = fixture.get(session).await;
    assert_eq!(failing.error_code, Some(SessionErrorCode::AccessDenied.into()));
    assert_eq!(failing.error_detail.as_deref(), Some("no more"));
}
