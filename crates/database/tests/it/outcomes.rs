//! The outcomes of files: what has one keeps it, and who is blamed for a crash.

use crate::fixture::{Fixture, LEASE, found, outcome, write};
use database::TenantConn;
use database::jobs::{self, Claim};
use domain::{FileStatus, SessionStatus};
use std::time::Duration;

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
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
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
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
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
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
    let files = fixture.get(session).await.files;
    assert_eq!((files.uploaded, files.failed), (1, 0));
}

/// A job that was claimed twice, one that was claimed once, and the run after.
#[tokio::test]
async fn only_objects_of_jobs_that_were_claimed_again_are_looked_at() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let twice = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    let once = fixture.emit(&scan, found(3..=3)).await.unwrap().unwrap();
    fixture.end(&scan, true).await.unwrap();
    fixture.claim(twice.id, "w1").await.unwrap();
    let seen = fixture.let_lease_run_out().await;
    fixture.expire(&seen).await;
    let twice = fixture.claim(twice.id, "w2").await.unwrap();
    let outcomes = [outcome(1, FileStatus::Uploaded), outcome(2, FileStatus::Failed)];
    fixture.record(&twice, outcomes.to_vec()).await.unwrap();
    fixture.end(&twice, false).await.unwrap();
    let once = fixture.claim(once.id, "w2").await.unwrap();
    fixture
        .record(&once, vec![outcome(3, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&once, false).await.unwrap().unwrap();
    let doubtful = async |finish: &Claim| {
        let finish = finish.clone();
        write!(fixture, |conn| jobs::doubtful_files(conn, &finish, 0, 10))
            .unwrap()
            .iter()
            .map(|file| file.number)
            .collect::<Vec<_>>()
    };
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    assert_eq!(doubtful(&finish).await, [1]);
    write!(fixture, |conn| jobs::finish_session(conn, &finish, LEASE)).unwrap();

    let moved = fixture.retry(session, None).await.unwrap();
    let again = fixture.claim(moved.jobs[0].id, "w1").await.unwrap();
    fixture
        .record(&again, vec![outcome(2, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&again, false).await.unwrap().unwrap();
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    assert_eq!(doubtful(&finish).await, [0i64; 0], "the run before was looked at");
}

/// Another session of the company has files with the same numbers.
#[tokio::test]
async fn outcomes_and_sums_are_those_of_their_own_session() {
    let fixture = Fixture::new().await;
    let (one, claim) = fixture.uploading(2).await;
    let mut dry = fixture
        .try_create(|new| new.settings.dry_run = true)
        .await
        .unwrap();
    let scan = fixture.claim(dry.jobs.remove(0).id, "scanner").await.unwrap();
    fixture.emit(&scan, found(1..=2)).await.unwrap();
    let outcomes = [1, 2].map(|number| outcome(number, FileStatus::Uploaded));
    fixture.record(&claim, outcomes.to_vec()).await.unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Completed);
    let files = fixture.get(one).await.files;
    assert_eq!((files.total, files.uploaded), (2, 2));
    let other = "SELECT count(*) FROM file_uploads f JOIN sync_sessions s ON s.id = f.session_id
                 WHERE s.id <> (SELECT id FROM sync_sessions WHERE status = 'completed') AND f.status <> 'pending'";
    assert_eq!(fixture.sql(other).await, "0");
}

#[tokio::test]
async fn objects_of_a_bucket_that_was_missing_are_all_looked_at_again() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    fixture
        .record(&claim, vec![outcome(1, FileStatus::Uploaded)])
        .await
        .unwrap();
    let code = domain::SessionErrorCode::NoSuchBucket;
    let finish = write!(fixture, |conn| jobs::fail_session(conn, &claim, code, "gone")).unwrap();
    fixture.finish(&finish.unwrap()).await.unwrap();
    let moved = fixture.retry(session, None).await.unwrap();
    let again = fixture.claim(moved.jobs[0].id, "w1").await.unwrap();
    fixture
        .record(&again, vec![outcome(2, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&again, false).await.unwrap().unwrap();
    let finish = fixture.claim(finish.id, "finisher").await.unwrap();
    let doubtful = write!(fixture, |conn| jobs::doubtful_files(conn, &finish, 0, 10)).unwrap();
    assert_eq!(
        doubtful.iter().map(|file| file.number).collect::<Vec<_>>(),
        [1, 2]
    );
}
