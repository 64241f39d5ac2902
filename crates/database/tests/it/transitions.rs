//! Which state may follow which, where no other file has it: what has ended stays, what an earlier holder does is
//! refused, the first stop counts. The table of all transitions and their tests is in `docs/SEMANTICS.md`.

use crate::fixture::{Fixture, LEASE, found, outcome, write};
use database::TenantConn;
use database::jobs::{self, Claim, Ending, JobError};
use database::plans;
use database::sessions::{self, SessionError};
use database::sweep;
use domain::plan::Excluded;
use domain::{FileStatus, SessionErrorCode, SessionId, SessionStatus};
use std::time::Duration;

/// Everything that the protocol writes, to be compared.
async fn everything(fixture: &Fixture) -> String {
    fixture
        .sql(
            "SELECT (SELECT string_agg(j::text, ';' ORDER BY id) FROM jobs j),
                    (SELECT string_agg(f::text, ';' ORDER BY session_id, number) FROM file_uploads f),
                    (SELECT string_agg(s::text, ';' ORDER BY id) FROM sync_sessions s),
                    (SELECT string_agg(p::text, ';' ORDER BY session_id) FROM session_plans p)",
        )
        .await
}

/// Each write that a worker has for a job is refused and changes nothing.
async fn nothing_is_taken(fixture: &Fixture, claim: &Claim) {
    let before = everything(fixture).await;
    let renew = claim.clone();
    let scan = claim.clone();
    let walk = claim.clone();
    let opened = claim.clone();
    let suspect = claim.clone();
    let contradict = claim.clone();
    let aborted = claim.clone();
    let settle = claim.clone();
    let waits = claim.clone();
    let finish = claim.clone();
    let release = claim.clone();
    let fail = claim.clone();
    let code = SessionErrorCode::NoSuchBucket;
    let writes = [
        (
            "renew",
            write!(fixture, |conn| jobs::renew(conn, &renew, LEASE)).map(drop),
        ),
        (
            "emit_batch",
            write!(fixture, |conn| jobs::emit_batch(
                conn,
                &scan,
                LEASE,
                "samples",
                &found(90..=91)
            ))
            .map(drop),
        ),
        (
            "note_walk",
            write!(fixture, |conn| plans::note_walk(
                conn,
                &walk,
                LEASE,
                Excluded::default(),
                1
            )),
        ),
        (
            "record_outcomes",
            fixture
                .record(claim, vec![outcome(1, FileStatus::Failed)])
                .await
                .map(drop),
        ),
        (
            "multipart_opened",
            write!(fixture, |conn| jobs::multipart_opened(
                conn,
                &opened,
                LEASE,
                1,
                "late",
                8 << 20
            )),
        ),
        (
            "suspect",
            write!(fixture, |conn| jobs::suspect(conn, &suspect, LEASE, 1)).map(drop),
        ),
        (
            "contradict",
            write!(fixture, |conn| jobs::contradict(
                conn,
                &contradict,
                LEASE,
                &[(1, "another".to_owned())]
            )),
        ),
        (
            "settle",
            write!(fixture, |conn| jobs::settle(conn, &settle, LEASE)).map(drop),
        ),
        (
            "await_receipt",
            write!(fixture, |conn| jobs::await_receipt(
                conn,
                &waits,
                LEASE,
                Duration::ZERO,
                "late"
            )),
        ),
        (
            "uploads_aborted",
            write!(fixture, |conn| jobs::uploads_aborted(conn, &aborted, LEASE, &[1])),
        ),
        (
            "finish_session",
            write!(fixture, |conn| jobs::finish_session(conn, &finish, LEASE)).map(drop),
        ),
        (
            "release",
            write!(fixture, |conn| jobs::release(
                conn,
                &release,
                Duration::ZERO,
                None
            )),
        ),
        ("end", fixture.end(claim, false).await.map(drop)),
        (
            "fail_session",
            write!(fixture, |conn| jobs::fail_session(conn, &fail, code, "late")).map(drop),
        ),
    ];
    for (name, outcome) in writes {
        assert!(matches!(outcome, Err(JobError::Fenced)), "{name}: {outcome:?}");
    }
    assert_eq!(everything(fixture).await, before);
}

#[tokio::test]
async fn an_earlier_holder_is_refused_whatever_it_writes() {
    let fixture = Fixture::new().await;
    let (_, old) = fixture.uploading(2).await;
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
    nothing_is_taken(&fixture, &old).await;
    let new = fixture.claim(old.job_id, "w2").await.unwrap();
    nothing_is_taken(&fixture, &old).await;
    fixture
        .record(&new, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    nothing_is_taken(&fixture, &old).await;
}

#[tokio::test]
async fn an_ended_job_stays_as_it_ended() {
    for ending in [Ending::Done, Ending::Cancelled, Ending::Dead] {
        let fixture = Fixture::new().await;
        let (_, claim) = fixture.uploading(2).await;
        let seen = fixture.let_lease_run_out().await;
        let held = claim.clone();
        write!(fixture, |conn| jobs::end(conn, &held, ending))
            .unwrap()
            .expect("the last job adds the finish job");
        let ended = everything(&fixture).await;
        nothing_is_taken(&fixture, &claim).await;
        assert!(fixture.claim(claim.job_id, "w2").await.is_none());
        fixture.expire(&seen).await;
        let job_id = claim.job_id;
        let disown = async move |conn: &mut database::SystemConn| jobs::disown(conn, job_id, "w1").await;
        assert!(!fixture.system(disown).await);
        fixture
            .system(async |conn| sweep::close_stopped(conn).await)
            .await;
        assert_eq!(everything(&fixture).await, ended);
    }
}

#[tokio::test]
async fn a_claim_that_is_disowned_during_a_pause_is_parked() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    write!(fixture, |conn| sessions::pause(conn, session)).unwrap();
    let job_id = claim.job_id;
    let disown = async move |conn: &mut database::SystemConn| jobs::disown(conn, job_id, "w1").await;
    assert!(fixture.system(disown).await);
    assert!(
        fixture
            .system(async |conn| sweep::due_counts(conn).await)
            .await
            .is_empty()
    );
    let resumed = write!(fixture, |conn| sessions::resume(conn, session)).unwrap();
    assert_eq!(resumed.jobs.len(), 1);
    assert!(fixture.claim(job_id, "w2").await.is_some());
}

#[tokio::test]
async fn the_first_stop_counts() {
    let code = SessionErrorCode::NoSuchBucket;
    // A person cancels, then a worker fails.
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    fixture.cancel(session).await.unwrap();
    let finish = write!(fixture, |conn| jobs::fail_session(conn, &claim, code, "late"))
        .unwrap()
        .unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Cancelled);
    assert_eq!(fixture.get(session).await.error_code, None);
    // A worker fails, then a person cancels.
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    let finish = write!(fixture, |conn| jobs::fail_session(conn, &claim, code, "first"))
        .unwrap()
        .unwrap();
    assert!(fixture.cancel(session).await.unwrap().is_replay);
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
    assert_eq!(fixture.get(session).await.error_code, Some(code.into()));
}

#[tokio::test]
async fn a_paused_session_can_fail() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    write!(fixture, |conn| sessions::pause(conn, session)).unwrap();
    let code = SessionErrorCode::NoSuchBucket;
    let finish = write!(fixture, |conn| jobs::fail_session(conn, &claim, code, "gone"))
        .unwrap()
        .unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
}

#[tokio::test]
async fn sessions_that_ended_for_good_are_not_moved() {
    let fixture = Fixture::new().await;
    let (cancelled, claim) = fixture.uploading(1).await;
    fixture.cancel(cancelled).await.unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Cancelled);
    is_not_moved(&fixture, cancelled).await;

    let fixture = Fixture::new().await;
    let (completed, claim) = fixture.uploading(1).await;
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Completed);
    is_not_moved(&fixture, completed).await;
}

/// Nobody can start, pause, resume, cancel or retry it, and no sweep adds to it.
async fn is_not_moved(fixture: &Fixture, id: SessionId) {
    let before = everything(fixture).await;
    let moves = [
        write!(fixture, |conn| sessions::start(conn, id)).map(drop),
        write!(fixture, |conn| sessions::pause(conn, id)).map(drop),
        write!(fixture, |conn| sessions::resume(conn, id)).map(drop),
        fixture.cancel(id).await.map(drop),
        fixture.retry(id, None).await.map(drop),
    ];
    for moved in moves {
        assert!(
            matches!(moved, Err(SessionError::WrongStatus { .. })),
            "{moved:?}"
        );
    }
    fixture
        .system(async |conn| sweep::close_stopped(conn).await)
        .await;
    assert_eq!(
        fixture
            .system(async |conn| sweep::add_missing_finishes(conn).await)
            .await,
        0
    );
    assert_eq!(everything(fixture).await, before);
}

#[tokio::test]
async fn a_walk_that_was_given_up_fails_its_session() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let claim = fixture.claim(scan.id, "scanner").await.unwrap();
    let upload = fixture.emit(&claim, found(1..=1)).await.unwrap().unwrap();
    let upload = fixture.claim(upload.id, "w1").await.unwrap();
    fixture
        .record(&upload, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    fixture.end(&upload, false).await.unwrap();
    fixture
        .sql(&format!(
            "UPDATE jobs SET crashes = {} WHERE state = 'running'",
            sweep::MAX_CRASHES - 1
        ))
        .await;
    let seen = fixture.let_lease_run_out().await;
    let finish = fixture.expire(&seen).await.expect("the walk is given up");
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
    let session = fixture.get(session).await;
    assert_eq!(
        (session.error_code, session.files.uploaded),
        (Some(SessionErrorCode::Internal.into()), 1)
    );
}

#[tokio::test]
async fn a_finish_job_is_never_given_up() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    for _ in 0..=sweep::MAX_CRASHES {
        let finish = fixture
            .claim(finish.id, "finisher")
            .await
            .expect("it is ready again");
        for ending in [Ending::Cancelled, Ending::Dead] {
            let finish = finish.clone();
            let ended = write!(fixture, |conn| jobs::end(conn, &finish, ending));
            assert!(matches!(ended, Err(JobError::Fenced)), "{ended:?}");
        }
        let seen = fixture.let_lease_run_out().await;
        assert_eq!(fixture.expire(&seen).await, None);
    }
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
}

#[tokio::test]
async fn what_is_not_due_is_not_pushed_and_a_finish_job_goes_to_the_head() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    let releasing = claim.clone();
    let hour = Duration::from_secs(3600);
    write!(fixture, |conn| jobs::release(
        conn,
        &releasing,
        hour,
        Some("later")
    ))
    .unwrap();
    let company = fixture.company;
    let due = async |location: &'static str| {
        fixture
            .system(async move |conn| sweep::due_jobs(conn, location, company, 10).await)
            .await
    };
    assert!(
        fixture
            .system(async |conn| sweep::due_counts(conn).await)
            .await
            .is_empty()
    );
    assert!(due("samples").await.is_empty());
    fixture
        .sql("UPDATE jobs SET run_after = now() WHERE state = 'ready'")
        .await;
    assert_eq!(
        due("samples")
            .await
            .iter()
            .map(|job| (job.id, job.at_head))
            .collect::<Vec<_>>(),
        [(claim.job_id, false)]
    );
    let elsewhere = domain::CompanyId::new();
    assert!(
        fixture
            .system(async move |conn| sweep::due_jobs(conn, "samples", elsewhere, 10).await)
            .await
            .is_empty(),
        "each company has its own list"
    );
    let claim = fixture.claim(claim.job_id, "w2").await.unwrap();
    assert!(
        fixture
            .system(async |conn| sweep::due_counts(conn).await)
            .await
            .is_empty(),
        "it runs"
    );
    assert!(due("samples").await.is_empty());
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(due("any").await, [finish]);
}

#[tokio::test]
async fn a_stop_leaves_the_finish_job_where_it_is() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    write!(fixture, |conn| sessions::pause(conn, session)).unwrap();
    let counts = fixture.system(async |conn| sweep::due_counts(conn).await).await;
    assert_eq!(
        counts.iter().map(|count| count.count).collect::<Vec<_>>(),
        [1],
        "it is not parked"
    );
    assert!(
        fixture.cancel(session).await.unwrap().jobs.is_empty(),
        "it has one"
    );
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Cancelled);
}

#[tokio::test]
async fn a_sweep_adds_nothing_to_what_goes_on_or_was_not_started() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    write!(fixture, |conn| jobs::release(conn, &claim, Duration::ZERO, None)).unwrap();
    fixture
        .try_create(|new| {
            new.start = false;
            new.settings.dry_run = true;
        })
        .await
        .unwrap();
    let before = everything(&fixture).await;
    fixture
        .system(async |conn| {
            sweep::close_stopped(conn).await?;
            sweep::add_missing_finishes(conn).await
        })
        .await;
    assert_eq!(everything(&fixture).await, before);
}

#[tokio::test]
async fn a_run_has_one_walk_and_one_end() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    fixture.end(&claim, false).await.unwrap().expect("a finish job");
    for kind in ["scan", "finish"] {
        let again = format!(
            "WITH again AS (
                 INSERT INTO jobs (company_id, session_id, run, location, kind)
                 SELECT company_id, session_id, run, location, kind FROM jobs WHERE kind = '{kind}'
                 ON CONFLICT DO NOTHING RETURNING id)
             SELECT count(*) FROM again"
        );
        assert_eq!(fixture.sql(&again).await, "0", "{kind}");
    }
}
