//! Which state may follow which, where no other file has it: what has ended stays, what an earlier holder does is
//! refused, the first stop counts. The table of all transitions and their tests is in `docs/SEMANTICS.md`.

use crate::fixture::{Fixture, LEASE, found, outcome};
use database::TenantConn;
use database::jobs::{self, Claim, JobError};
use database::sessions::{self, SessionError};
use database::sweep;
use domain::{FileStatus, JobState, SessionErrorCode, SessionId, SessionStatus};
use std::time::Duration;

/// Runs one write of a worker.
macro_rules! write {
    ($fixture:expr, |$conn:ident| $work:expr) => {
        $fixture
            .db
            .tenant($fixture.company, async move |$conn: &mut TenantConn| $work.await)
            .await
    };
}

/// Everything that the protocol writes, to be compared.
async fn everything(fixture: &Fixture) -> String {
    fixture
        .sql(
            "SELECT (SELECT string_agg(j::text, ';' ORDER BY id) FROM jobs j),
                    (SELECT string_agg(f::text, ';' ORDER BY number) FROM file_uploads f),
                    (SELECT string_agg(s::text, ';') FROM sync_sessions s)",
        )
        .await
}

/// Each write that a worker has for a job is refused and changes nothing.
async fn nothing_is_taken(fixture: &Fixture, claim: &Claim) {
    let before = everything(fixture).await;
    let renew = claim.clone();
    let scan = claim.clone();
    let opened = claim.clone();
    let suspect = claim.clone();
    let contradict = claim.clone();
    let aborted = claim.clone();
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

async fn let_lease_run_out(fixture: &Fixture) -> sweep::Overdue {
    fixture
        .sql("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        .await;
    fixture
        .system(async |conn| sweep::overdue(conn).await)
        .await
        .remove(0)
}

async fn expire(fixture: &Fixture, seen: &sweep::Overdue) -> Option<domain::QueuedJob> {
    let seen = seen.clone();
    fixture
        .system(async move |conn| sweep::expire(conn, &seen).await)
        .await
}

#[tokio::test]
async fn an_earlier_holder_is_refused_whatever_it_writes() {
    let fixture = Fixture::new().await;
    let (_, old) = fixture.uploading(2).await;
    let seen = let_lease_run_out(&fixture).await;
    expire(&fixture, &seen).await;
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
    for state in [JobState::Done, JobState::Cancelled, JobState::Dead] {
        let fixture = Fixture::new().await;
        let (_, claim) = fixture.uploading(2).await;
        let seen = let_lease_run_out(&fixture).await;
        let ending = claim.clone();
        write!(fixture, |conn| jobs::end(conn, &ending, state))
            .unwrap()
            .expect("the last job adds the finish job");
        let ended = everything(&fixture).await;
        nothing_is_taken(&fixture, &claim).await;
        assert!(fixture.claim(claim.job_id, "w2").await.is_none());
        expire(&fixture, &seen).await;
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
    assert_eq!(fixture.get(session).await.error_code, Some(code));
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
    let seen = let_lease_run_out(&fixture).await;
    let finish = expire(&fixture, &seen).await.expect("the walk is given up");
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
    let session = fixture.get(session).await;
    assert_eq!(
        (session.error_code, session.files.uploaded),
        (Some(SessionErrorCode::Internal), 1)
    );
}

#[tokio::test]
async fn a_finish_job_is_never_given_up() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    for _ in 0..=sweep::MAX_CRASHES {
        fixture
            .claim(finish.id, "finisher")
            .await
            .expect("it is ready again");
        let seen = let_lease_run_out(&fixture).await;
        assert_eq!(expire(&fixture, &seen).await, None);
    }
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
}

#[tokio::test]
async fn a_file_with_an_outcome_opens_no_multipart_upload() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    let open = async |number| {
        let claim = claim.clone();
        write!(fixture, |conn| jobs::multipart_opened(
            conn,
            &claim,
            LEASE,
            number,
            "upload",
            8 << 20
        ))
        .unwrap();
    };
    let states = "SELECT string_agg(number || ' ' || status || ' ' || coalesce(upload_id, '-'), ', ' ORDER BY number) FROM file_uploads";
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    open(1).await;
    open(2).await;
    assert_eq!(fixture.sql(states).await, "1 uploaded -, 2 uploading upload");
    fixture
        .record(&claim, vec![outcome(2, FileStatus::Failed)])
        .await
        .unwrap();
    assert_eq!(fixture.sql(states).await, "1 uploaded -, 2 failed -");
    assert_eq!(fixture.get(session).await.files.pending(), 0);
}

#[tokio::test]
async fn the_last_look_fails_what_was_uploaded_and_nothing_else() {
    let fixture = Fixture::new().await;
    let (session, old) = fixture.uploading(3).await;
    let seen = let_lease_run_out(&fixture).await;
    expire(&fixture, &seen).await;
    let claim = fixture.claim(old.job_id, "w2").await.unwrap();
    let outcomes = [
        outcome(1, FileStatus::Uploaded),
        outcome(2, FileStatus::Uploaded),
        outcome(3, FileStatus::Skipped),
    ];
    fixture.record(&claim, outcomes.to_vec()).await.unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    let looking = finish.clone();
    let doubtful = write!(fixture, |conn| jobs::doubtful_files(conn, &looking, 0, 10)).unwrap();
    assert_eq!(
        doubtful.iter().map(|file| file.number).collect::<Vec<_>>(),
        [1, 2],
        "its job was claimed twice"
    );
    let wrong: Vec<_> = [2, 3]
        .map(|number| (number, "another object".to_owned()))
        .to_vec();
    let (contradicting, finishing) = (finish.clone(), finish);
    write!(fixture, |conn| jobs::contradict(
        conn,
        &contradicting,
        LEASE,
        &wrong
    ))
    .unwrap();
    let status = write!(fixture, |conn| jobs::finish_session(conn, &finishing, LEASE)).unwrap();
    assert_eq!(status, SessionStatus::CompletedWithErrors);
    let files = fixture.get(session).await.files;
    assert_eq!((files.uploaded, files.failed, files.skipped), (1, 1, 1));
}

#[tokio::test]
async fn a_new_holder_blames_nobody_yet() {
    let fixture = Fixture::new().await;
    let (session, old) = fixture.uploading(2).await;
    let (naming, job_id) = (old.clone(), old.job_id);
    write!(fixture, |conn| jobs::suspect(conn, &naming, LEASE, 1)).unwrap();
    write!(fixture, |conn| jobs::release(conn, &old, Duration::ZERO, None)).unwrap();
    fixture.claim(job_id, "w2").await.unwrap();
    let seen = let_lease_run_out(&fixture).await;
    expire(&fixture, &seen).await;
    assert_eq!(
        fixture.get(session).await.files.failed,
        0,
        "it vanished before it named a file"
    );
    assert_eq!(fixture.claim(job_id, "w3").await.unwrap().crashes, 1);
}

#[tokio::test]
async fn what_is_blamed_has_no_outcome_yet() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(1).await;
    let naming = claim.clone();
    write!(fixture, |conn| jobs::suspect(conn, &naming, LEASE, 1)).unwrap();
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let seen = let_lease_run_out(&fixture).await;
    expire(&fixture, &seen).await;
    let files = fixture.get(session).await.files;
    assert_eq!((files.uploaded, files.failed), (1, 0));
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
    let claim = fixture.claim(claim.job_id, "w2").await.unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(due("any").await, [finish]);
}
