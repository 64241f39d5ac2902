//! A receipt is begun once a run, decides how its session ends, and is sealed by whoever holds the job.

use crate::fixture::{Fixture, LEASE, outcome, write};
use database::TenantConn;
use database::jobs::{self, Claim, JobError, Settled};
use database::receipts::{self, Seal};
use domain::{FileStatus, SessionId, SessionStatus};
use std::time::Duration;
use uuid::Uuid;

/// A session of which one file arrived and one failed, or both arrived; and its claimed finish job.
async fn ending(fixture: &Fixture, last: FileStatus) -> (SessionId, Claim) {
    let (session, claim) = fixture.uploading(2).await;
    let outcomes = vec![outcome(1, FileStatus::Uploaded), outcome(2, last)];
    fixture.record(&claim, outcomes).await.unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    (session, fixture.claim(finish.id, "finisher").await.unwrap())
}

/// What a finish job does first: gives the header that counts.
async fn begin(fixture: &Fixture, claim: &Claim, header: &str) -> Result<Option<String>, JobError> {
    let (claim, header) = (claim.clone(), header.to_owned());
    write!(fixture, |conn| async {
        match jobs::settle(conn, &claim, LEASE).await? {
            None => Ok(None),
            Some(Settled::Before { header, .. }) => Ok(Some(header)),
            Some(Settled::Now(session, _)) => {
                receipts::begin(conn, &claim, session.status, &header).await?;
                Ok::<_, JobError>(Some(header))
            }
        }
    })
}

async fn finish(fixture: &Fixture, claim: &Claim) -> Result<SessionStatus, JobError> {
    let claim = claim.clone();
    write!(fixture, |conn| jobs::finish_session(conn, &claim, LEASE))
}

#[tokio::test]
async fn a_receipt_is_begun_once_and_the_session_ends_as_it_says() {
    let fixture = Fixture::new().await;
    let (session, claim) = ending(&fixture, FileStatus::Failed).await;
    let settled = {
        let claim = claim.clone();
        write!(fixture, |conn| jobs::settle(conn, &claim, LEASE)).unwrap()
    };
    let Some(Settled::Now(seen, _)) = settled else {
        panic!("{settled:?}")
    };
    assert_eq!(seen.status, SessionStatus::CompletedWithErrors);
    assert_eq!(
        (seen.files.total, seen.files.uploaded, seen.files.failed),
        (2, 1, 1)
    );
    assert_eq!(
        begin(&fixture, &claim, "first").await.unwrap().as_deref(),
        Some("first")
    );
    assert_eq!(
        begin(&fixture, &claim, "second").await.unwrap().as_deref(),
        Some("first")
    );
    // Too late.
    fixture.cancel(session).await.unwrap();
    let hurried = {
        let claim = claim.clone();
        write!(fixture, |conn| jobs::settle(conn, &claim, LEASE)).unwrap()
    };
    assert!(
        matches!(
            hurried,
            Some(Settled::Before {
                is_cancelled: true,
                ..
            })
        ),
        "{hurried:?}"
    );
    assert_eq!(
        finish(&fixture, &claim).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
}

#[tokio::test]
async fn what_does_not_come_to_its_end_has_no_receipt() {
    let fixture = Fixture::new().await;
    let (session, claim) = ending(&fixture, FileStatus::Uploaded).await;
    fixture.cancel(session).await.unwrap();
    assert_eq!(begin(&fixture, &claim, "h").await.unwrap(), None);
    assert_eq!(finish(&fixture, &claim).await.unwrap(), SessionStatus::Cancelled);
    let (session, claim) = ending(&fixture, FileStatus::Uploaded).await;
    fixture
        .sql(&format!(
            "UPDATE sync_sessions SET scan_complete = false WHERE id = '{session}'"
        ))
        .await;
    assert_eq!(begin(&fixture, &claim, "h").await.unwrap(), None);
    assert!(!write!(fixture, |conn| receipts::was_begun(conn, session)).unwrap());
    assert_eq!(finish(&fixture, &claim).await.unwrap(), SessionStatus::Failed);
}

#[tokio::test]
async fn a_file_that_is_contradicted_later_makes_a_receipt_that_was_begun_worthless() {
    let fixture = Fixture::new().await;
    let (_, claim) = ending(&fixture, FileStatus::Uploaded).await;
    begin(&fixture, &claim, "first").await.unwrap();
    let contradict = async |number: i64| {
        let claim = claim.clone();
        write!(fixture, |conn| jobs::contradict(
            conn,
            &claim,
            LEASE,
            &[(number, "another".to_owned())]
        ))
        .unwrap();
    };
    contradict(99).await;
    assert_eq!(
        begin(&fixture, &claim, "second").await.unwrap().as_deref(),
        Some("first")
    );
    contradict(2).await;
    let session = claim.session_id;
    assert!(
        write!(fixture, |conn| receipts::was_begun(conn, session)).unwrap(),
        "what may be in the bucket is forgotten"
    );
    assert_eq!(
        begin(&fixture, &claim, "second").await.unwrap().as_deref(),
        Some("second")
    );
    assert_eq!(
        finish(&fixture, &claim).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
}

#[tokio::test]
async fn a_retry_begins_its_own() {
    let fixture = Fixture::new().await;
    let (session, claim) = ending(&fixture, FileStatus::Failed).await;
    begin(&fixture, &claim, "first").await.unwrap();
    finish(&fixture, &claim).await.unwrap();
    let jobs = fixture.retry(session, None).await.unwrap().jobs;
    let upload = fixture.claim(jobs[0].id, "w").await.unwrap();
    fixture
        .record(&upload, vec![outcome(2, FileStatus::Uploaded)])
        .await
        .unwrap();
    let last = fixture.end(&upload, false).await.unwrap().unwrap();
    let claim = fixture.claim(last.id, "finisher").await.unwrap();
    assert_eq!(
        begin(&fixture, &claim, "second").await.unwrap().as_deref(),
        Some("second")
    );
    assert_eq!(finish(&fixture, &claim).await.unwrap(), SessionStatus::Completed);
}

#[tokio::test]
async fn a_receipt_waits_for_the_store_and_says_so() {
    let fixture = Fixture::new().await;
    let (session, claim) = ending(&fixture, FileStatus::Uploaded).await;
    begin(&fixture, &claim, "h").await.unwrap();
    let waiting = claim.clone();
    write!(fixture, |conn| jobs::await_receipt(
        conn,
        &waiting,
        LEASE,
        Duration::ZERO,
        "the store is away"
    ))
    .unwrap();
    let seen = fixture.get(session).await;
    assert_eq!(
        (seen.status, seen.error_code, seen.error_detail.as_deref()),
        (
            SessionStatus::InProgress,
            Some(domain::SessionErrorCode::StorageUnreachable.into()),
            Some("the store is away")
        )
    );
    let again = claim.clone();
    let late = write!(fixture, |conn| jobs::await_receipt(
        conn,
        &again,
        LEASE,
        Duration::ZERO,
        "late"
    ));
    assert!(matches!(late, Err(JobError::Fenced)));
    assert!(matches!(
        begin(&fixture, &claim, "late").await,
        Err(JobError::Fenced)
    ));
    let claim = fixture.claim(claim.job_id, "another").await.unwrap();
    let ending = claim.clone();
    write!(fixture, |conn| async {
        jobs::finish_session(conn, &ending, LEASE).await?;
        jobs::receipt_missing(conn, &ending, "it took too long").await?;
        Ok::<_, JobError>(())
    })
    .unwrap();
    let seen = fixture.get(session).await;
    assert_eq!(
        (seen.status, seen.error_code, seen.error_detail.as_deref()),
        (
            SessionStatus::Completed,
            Some(domain::SessionErrorCode::ReceiptMissing.into()),
            Some("it took too long")
        )
    );
}

/// Runs the statement of `docs/RECEIPTS.md` as the login of the programs.
async fn retire_as_documented(fixture: &Fixture) {
    let document = include_str!("../../../../docs/RECEIPTS.md");
    let (_, after) = document.split_once("```sql\n").unwrap();
    let (statement, _) = after.split_once("```").unwrap();
    let statement = statement.replace("COMPANY_ID", &fixture.company.to_string());
    let login = fixture.urls.app_url.split_once("://").unwrap().1;
    let login = login.split_once([':', '@']).unwrap().0;
    fixture
        .sql(&format!("SET SESSION AUTHORIZATION \"{login}\"; {statement}"))
        .await;
}

#[tokio::test]
async fn a_company_has_one_key_that_signs_and_sees_no_others() {
    let fixture = Fixture::new().await;
    let (other, ..) = fixture.add_company("OTHER").await;
    let add = async |company, byte: u8| {
        fixture
            .db
            .tenant(company, async move |conn: &mut TenantConn| {
                receipts::add_key(conn, Uuid::now_v7(), &[byte; 32], b"sealed").await
            })
            .await
            .unwrap()
            .unwrap()
    };
    let first = add(fixture.company, 1).await;
    assert_eq!(
        add(fixture.company, 2).await.public_key,
        first.public_key,
        "the first one counts"
    );
    assert_eq!(add(other, 3).await.public_key, [3; 32]);
    retire_as_documented(&fixture).await;
    let second = add(fixture.company, 2).await;
    let keys = write!(fixture, |conn| receipts::keys(conn)).unwrap();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| (key.id, key.retired_at.is_some()))
        .collect();
    assert_eq!(keys, [(first.id, true), (second.id, false)]);

    // A seal belongs to the key and the run that it names.
    let (session, claim) = ending(&fixture, FileStatus::Uploaded).await;
    begin(&fixture, &claim, "h").await.unwrap();
    assert!(
        write!(fixture, |conn| receipts::get(conn, session))
            .unwrap()
            .is_none(),
        "not sealed yet"
    );
    let seal = Seal {
        key_id: second.id,
        root: [4; 32],
        signature: [5; 64],
        size_bytes: 6,
    };
    write!(fixture, |conn| receipts::seal(conn, &claim, &seal)).unwrap();
    let sealed = write!(fixture, |conn| receipts::get(conn, session))
        .unwrap()
        .unwrap();
    assert_eq!(
        (sealed.run, sealed.header.as_str(), sealed.size_bytes),
        (1, "h", 6)
    );
    assert_eq!(
        (sealed.root, sealed.signature, sealed.public_key),
        (vec![4; 32], vec![5; 64], vec![2; 32])
    );
    let theirs = fixture
        .db
        .tenant(other, async move |conn: &mut TenantConn| {
            receipts::get(conn, session).await
        })
        .await;
    assert!(theirs.unwrap().is_none());
}
