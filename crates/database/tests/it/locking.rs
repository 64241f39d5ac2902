//! Who waits for whom: the protocol's transactions never wait for each other in a circle, which Postgres would break by
//! failing one of them.

use crate::fixture::{Fixture, LEASE, found, outcome, write};
use database::TenantConn;
use database::jobs::{self, Claiming, JobError};
use database::sessions::{self, SessionError};
use database::sweep;
use domain::{FileStatus, SessionId};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many wait for a lock.
const WAITS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[tokio::test]
async fn nobody_waits_for_a_finish_job_that_is_being_written() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    let db = fixture.db.clone();
    let ended = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::renew(conn, &finish, LEASE).await?;
            let added = db
                .system(async |other: &mut database::SystemConn| sweep::add_missing_finishes(other).await)
                .await?;
            // It holds the session when it is through, and this transaction wants it next.
            let cancelled = db
                .tenant(finish.company_id, async move |other: &mut TenantConn| {
                    sessions::cancel(other, session).await
                })
                .await;
            let status = jobs::finish_session(conn, &finish, LEASE).await?;
            Ok::<_, JobError>((added, cancelled.is_ok(), status))
        })
        .await
        .unwrap();
    assert_eq!(ended, (0, true, domain::SessionStatus::Cancelled));
}

#[tokio::test]
async fn a_retry_that_waits_for_a_session_keeps_nobody_from_writing_it_twice() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let upload = fixture.emit(&scan, found(1..=1)).await.unwrap().unwrap();
    let upload = fixture.claim(upload.id, "w1").await.unwrap();
    let (has_written, written) = oneshot::channel();
    let (may_go_on, go_on) = oneshot::channel();
    let writes = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            jobs::end(conn, &scan, jobs::Ending::Done).await?;
            has_written.send(()).unwrap();
            go_on.await.unwrap();
            // A row that this transaction wrote already refers to its cycle anew.
            jobs::record_outcomes(conn, &upload, LEASE, &[outcome(1, FileStatus::Uploaded)]).await
        });
    let is_done = Cell::new(false);
    let retry = async {
        written.await.unwrap();
        let retried = fixture.retry(session, None).await;
        is_done.set(true);
        retried
    };
    let watch = async {
        while !is_done.get() && fixture.sql(WAITS).await == "0" {}
        may_go_on.send(()).unwrap();
    };
    let (written, retried, ()) = tokio::join!(writes, retry, watch);
    written.unwrap();
    assert!(matches!(retried, Err(SessionError::WrongStatus { .. })));
}

#[tokio::test]
async fn noting_a_push_waits_for_nobody() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let db = fixture.db.clone();
    fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            // It holds the jobs that wait.
            sessions::pause(conn, session).await?;
            let note =
                async move |other: &mut database::SystemConn| sweep::note_pushed(other, &[scan.id]).await;
            Ok::<_, SessionError>(db.system(note).await?)
        })
        .await
        .unwrap();
}

/// All of them have looked at the job before the first one has it.
#[tokio::test]
async fn of_claims_that_looked_at_the_same_moment_one_succeeds() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let claims = futures::future::join_all(["a", "b", "c"].map(|worker| fixture.claim(scan.id, worker)));
    let all_wait = async { while fixture.sql(WAITS).await != "3" {} };
    let claims = while_held(&fixture, session, claims, all_wait).await;
    assert_eq!(claims.into_iter().flatten().count(), 1);
}

/// Runs `work` and `meanwhile` while somebody else holds the session: until `meanwhile` is done, and, when `work` does
/// not wait for the session, `work` is, too.
async fn while_held<T>(
    fixture: &Fixture,
    session: SessionId,
    work: impl Future<Output = T>,
    meanwhile: impl Future<Output = ()>,
) -> T {
    let (has_locked, locked) = oneshot::channel();
    let (may_let_go, let_go) = oneshot::channel();
    let holds = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            // Refused, for it has not ended; the look at it holds its row.
            assert!(matches!(
                sessions::delete(conn, session).await,
                Err(SessionError::WrongStatus { .. })
            ));
            has_locked.send(()).unwrap();
            let_go.await.unwrap();
            Ok::<_, SessionError>(())
        });
    let is_done = Cell::new(false);
    let work = async {
        locked.await.unwrap();
        let done = work.await;
        is_done.set(true);
        done
    };
    let watch = async {
        meanwhile.await;
        while !is_done.get() && fixture.sql(WAITS).await == "0" {}
        may_let_go.send(()).unwrap();
    };
    let (held, done, ()) = tokio::join!(holds, work, watch);
    held.unwrap();
    done
}

/// A worker has looked at the job, and waits for its session.
#[tokio::test]
async fn a_job_that_is_put_off_meanwhile_is_not_claimed() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let put_off = async {
        while fixture.sql(WAITS).await == "0" {}
        fixture
            .sql("UPDATE jobs SET run_after = now() + interval '1 hour'")
            .await;
    };
    let claim = while_held(&fixture, session, fixture.claim(scan.id, "w"), put_off).await;
    assert!(claim.is_none(), "{claim:?}");
}

#[tokio::test]
async fn a_job_that_is_given_back_is_locked_before_its_session() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    let seen = fixture.let_lease_run_out().await;
    let releasing = claim.clone();
    let release = async {
        write!(fixture, |conn| jobs::release(
            conn,
            &releasing,
            Duration::ZERO,
            None
        ))
        .unwrap();
    };
    let meanwhile = async {
        while fixture.sql(WAITS).await == "0" {}
        let lock = format!(
            "SELECT count(*) FROM (SELECT FROM jobs WHERE id = {} FOR UPDATE SKIP LOCKED) AS had",
            claim.job_id
        );
        assert_eq!(fixture.sql(&lock).await, "0");
        // Who has the job is alive: the sweep does not wait for it, and takes nothing from it.
        fixture.expire(&seen).await;
    };
    while_held(&fixture, session, release, meanwhile).await;
    let again = fixture.claim(claim.job_id, "w2").await.unwrap();
    assert_eq!(again.crashes, 0);
}

#[tokio::test]
async fn a_sweep_does_not_wait_for_a_session_that_somebody_has() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    fixture.cancel(session).await.unwrap();
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
    let close = async || {
        fixture
            .system(async |conn| sweep::close_stopped(conn).await)
            .await
    };
    let meanwhile = while_held(&fixture, session, close(), async {}).await;
    assert!(meanwhile.is_empty());
    assert_eq!(close().await.len(), 1, "{}", claim.job_id);
}

#[tokio::test]
async fn only_a_ready_job_finds_its_company_full() {
    let fixture = Fixture::new().await;
    fixture.sql("UPDATE companies SET max_concurrent_jobs = 1").await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let ended = fixture.emit(&scan, found(1..=1)).await.unwrap().unwrap();
    let running = fixture.emit(&scan, found(2..=2)).await.unwrap().unwrap();
    let ending = fixture.claim(ended.id, "w1").await.unwrap();
    fixture.end(&ending, false).await.unwrap();
    let later = fixture.emit(&scan, found(3..=3)).await.unwrap().unwrap();
    fixture.claim(running.id, "w1").await.unwrap();
    fixture
        .sql(&format!(
            "UPDATE jobs SET run_after = now() + interval '1 hour' WHERE id = {}",
            later.id
        ))
        .await;
    for job in [ended.id, running.id, later.id] {
        let claiming = fixture.claiming(job, "w2").await;
        assert!(matches!(claiming, Claiming::Gone), "{claiming:?}");
    }
}
