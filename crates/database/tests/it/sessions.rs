//! Sessions made, started, cancelled, retried, listed, deleted.

use crate::fixture::{Fixture, found, outcome};
use database::TenantConn;
use database::jobs::FoundFile;
use database::sessions::{self, SessionError, SessionFilter};
use domain::object_key::PathText;
use domain::{CycleId, FileErrorCode, FileStatus, SessionStatus};

#[tokio::test]
async fn overlapping_targets_of_a_cycle_exclude_each_other() {
    let fixture = Fixture::new().await;
    let (first, _) = fixture.session().await;
    for prefix in ["", "raw/"] {
        let busy = fixture
            .try_create(|new| new.settings.target_prefix = prefix.into())
            .await;
        assert!(
            matches!(busy, Err(SessionError::CycleBusy { other }) if other == first),
            "{prefix:?}"
        );
    }
    fixture
        .try_create(|new| new.settings.dry_run = true)
        .await
        .expect("a dry run writes nothing");
    fixture.cancel(first).await.unwrap();
    fixture
        .try_create(|new| new.settings.target_prefix = "a/".into())
        .await
        .unwrap();
    fixture
        .try_create(|new| new.settings.target_prefix = "b/".into())
        .await
        .expect("another target");
}

#[tokio::test]
async fn two_sessions_at_once_are_one() {
    let fixture = Fixture::new().await;
    let made = futures::future::join_all((0..6).map(|_| fixture.try_create(|_| {}))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_session() {
    let fixture = Fixture::new().await;
    let key = |body: &[u8]| Some(("key".to_owned(), body.to_vec()));
    let first = fixture
        .try_create(|new| new.idempotency = key(b"one"))
        .await
        .unwrap();
    let second = fixture
        .try_create(|new| new.idempotency = key(b"one"))
        .await
        .unwrap();
    assert_eq!((second.session.id, second.is_replay), (first.session.id, true));
    let third = fixture.try_create(|new| new.idempotency = key(b"two")).await;
    assert!(matches!(third, Err(SessionError::IdempotencyKeyReused)));
}

#[tokio::test]
async fn what_stands_against_a_session_is_said() {
    let fixture = Fixture::new().await;
    let unknown = fixture.try_create(|new| new.cycle_id = CycleId::new()).await;
    assert!(matches!(unknown, Err(SessionError::NotFound)));
    fixture.sql("UPDATE cycles SET status = 'completed'").await;
    assert!(matches!(
        fixture.try_create(|_| {}).await,
        Err(SessionError::CycleCompleted)
    ));
    fixture.sql("UPDATE projects SET is_active = false").await;
    assert!(matches!(
        fixture.try_create(|_| {}).await,
        Err(SessionError::ProjectInactive)
    ));
}

#[tokio::test]
async fn a_session_can_be_made_now_and_started_later() {
    let fixture = Fixture::new().await;
    let made = fixture.try_create(|new| new.start = false).await.unwrap();
    assert!(made.jobs.is_empty() && made.session.queued_at.is_none());
    assert_eq!(
        fixture
            .system(async |conn| database::sweep::add_missing_finishes(conn).await)
            .await,
        0
    );
    let id = made.session.id;
    let start = async || {
        fixture
            .db
            .tenant(fixture.company, async move |conn: &mut TenantConn| {
                sessions::start(conn, id).await
            })
            .await
    };
    assert_eq!(start().await.unwrap().jobs.len(), 1);
    assert!(matches!(start().await, Err(SessionError::WrongStatus { .. })));
    assert_eq!(fixture.sql("SELECT status FROM cycles").await, "in_progress");
}

#[tokio::test]
async fn cancel_before_any_claim_ends_at_once() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let moved = fixture.cancel(session).await.unwrap();
    assert_eq!(
        (moved.session.status, moved.session.open_jobs, moved.jobs.len()),
        (SessionStatus::Cancelled, 0, 0)
    );
    assert!(fixture.claim(scan.id, "w").await.is_none());
    let added = fixture
        .system(async |conn| database::sweep::add_missing_finishes(conn).await)
        .await;
    assert_eq!(added, 0, "it has ended");
    assert!(matches!(
        fixture.cancel(session).await,
        Err(SessionError::WrongStatus { .. })
    ));
}

#[tokio::test]
async fn cancel_closes_what_waits_and_lets_the_running_end() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let waiting = fixture.emit(&scan, found(1..=2)).await.unwrap().unwrap();
    let moved = fixture.cancel(session).await.unwrap();
    assert_eq!(
        (moved.session.open_jobs, moved.jobs.len()),
        (1, 0),
        "the scan is open"
    );
    assert!(fixture.claim(waiting.id, "w").await.is_none());
    assert!(
        fixture.emit(&scan, found(3..=4)).await.unwrap().is_none(),
        "nothing more is added"
    );
    assert!(
        fixture.cancel(session).await.unwrap().is_replay,
        "asked again, it changes nothing"
    );
    let finish = fixture.end(&scan, false).await.unwrap().unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Cancelled);
    let session = fixture.get(session).await;
    assert_eq!((session.files.cancelled, session.error_code), (2, None));
}

/// A session of 5 files: 1 arrived, 2 and 3 vanished, 4 timed out, 5 is a directory that could not be read.
async fn partly_failed(fixture: &Fixture) -> domain::SessionId {
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let mut files = found(1..=4);
    files.push(FoundFile {
        number: 5,
        path: PathText::from_bytes(b"closed/"),
        size_bytes: 0,
        modified_at: None,
        status: FileStatus::Failed,
        error: Some((FileErrorCode::PermissionDenied, "closed".into())),
        planned: None,
        object: database::jobs::ObjectMarks::default(),
    });
    let upload = fixture.emit(&scan, files).await.unwrap().unwrap();
    fixture.end(&scan, true).await.unwrap();
    let upload = fixture.claim(upload.id, "w").await.unwrap();
    let mut timed_out = outcome(4, FileStatus::Failed);
    timed_out.error = Some((FileErrorCode::Timeout, "slow".into()));
    let outcomes = vec![
        outcome(1, FileStatus::Uploaded),
        outcome(2, FileStatus::Failed),
        outcome(3, FileStatus::Failed),
        timed_out,
    ];
    fixture.record(&upload, outcomes).await.unwrap();
    let finish = fixture.end(&upload, false).await.unwrap().unwrap();
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
    session
}

#[tokio::test]
async fn failures_are_grouped_by_cause() {
    let fixture = Fixture::new().await;
    let session = partly_failed(&fixture).await;
    let groups = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            database::files::failures(conn, session).await
        })
        .await
        .unwrap();
    let counts: Vec<_> = groups
        .iter()
        .map(|group| (group.error_code.known().unwrap(), group.count))
        .collect();
    let expected = [
        (FileErrorCode::FileVanished, 2),
        (FileErrorCode::PermissionDenied, 1),
        (FileErrorCode::Timeout, 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(groups[0].example_paths, ["dir/file 2", "dir/file 3"]);
}

#[tokio::test]
async fn a_retry_takes_the_files_of_one_cause() {
    let fixture = Fixture::new().await;
    let session = partly_failed(&fixture).await;
    let none = fixture.retry(session, Some(FileErrorCode::Throttled)).await;
    assert!(matches!(none, Err(SessionError::NothingToRetry)));
    let moved = fixture
        .retry(session, Some(FileErrorCode::Timeout))
        .await
        .unwrap();
    assert_eq!(
        (moved.session.run, moved.session.status),
        (2, SessionStatus::Pending)
    );
    assert_eq!(
        (moved.session.files.pending(), moved.session.files.failed),
        (1, 3)
    );
    assert_eq!(moved.jobs.len(), 1);
    let again = fixture.retry(session, None).await;
    assert!(matches!(again, Err(SessionError::WrongStatus { .. })), "it runs");
    let upload = fixture.claim(moved.jobs[0].id, "w").await.unwrap();
    assert_eq!(upload.numbers, Some((4, 4)));
    fixture
        .record(&upload, vec![outcome(4, FileStatus::Uploaded)])
        .await
        .unwrap();
    let finish = fixture.end(&upload, false).await.unwrap().unwrap();
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
    let session = fixture.get(session).await;
    assert_eq!(
        (session.files.uploaded, session.files.failed, session.run),
        (2, 3, 2)
    );
}

#[tokio::test]
async fn a_retry_of_everything_walks_again_for_what_only_a_walk_decides() {
    let fixture = Fixture::new().await;
    let session = partly_failed(&fixture).await;
    let moved = fixture.retry(session, None).await.unwrap();
    assert_eq!(moved.jobs.len(), 2, "an upload job and a scan job");
    assert_eq!((moved.session.files.total, moved.session.files.pending()), (4, 3));
    assert!(!moved.session.scan_complete);
    assert_eq!(moved.session.open_jobs, 2);
}

#[tokio::test]
async fn a_retry_makes_ranges_that_do_not_overlap() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2_500).await;
    fixture
        .record(
            &claim,
            (1..=2_500)
                .map(|number| outcome(number, FileStatus::Failed))
                .collect(),
        )
        .await
        .unwrap();
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    fixture.finish(&finish).await.unwrap();
    let moved = fixture.retry(session, None).await.unwrap();
    assert_eq!(moved.jobs.len(), 3);
    let ranges = fixture
        .sql("SELECT string_agg(first_number || '-' || last_number, ' ' ORDER BY id) FROM jobs WHERE run = 2")
        .await;
    assert_eq!(ranges, "1-1000 1001-2000 2001-2500");
}

#[tokio::test]
async fn sessions_are_listed_by_page_and_filter() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let made = fixture.try_create(|new| {
            new.settings.target_prefix = format!("{n}/");
            new.source_path = format!("100%_{n}");
        });
        ids.push(made.await.unwrap().session.id);
    }
    let list = async |filter: SessionFilter, oldest_first, cursor| {
        let listed = fixture
            .db
            .tenant(fixture.company, async move |conn: &mut TenantConn| {
                sessions::list(conn, &filter, oldest_first, cursor, 2).await
            })
            .await
            .unwrap();
        listed.iter().map(|session| session.id).collect::<Vec<_>>()
    };
    let all = SessionFilter::default();
    assert_eq!(list(all.clone(), false, None).await, [ids[4], ids[3]]);
    assert_eq!(list(all.clone(), false, Some(ids[3])).await, [ids[2], ids[1]]);
    assert_eq!(list(all, true, Some(ids[3])).await, [ids[4]]);
    let text = SessionFilter {
        q: Some("0%_3".into()),
        ..SessionFilter::default()
    };
    assert_eq!(list(text, false, None).await, [ids[3]], "% and _ mean themselves");
    let status = SessionFilter {
        status: Some(SessionStatus::Completed),
        ..SessionFilter::default()
    };
    assert!(list(status, false, None).await.is_empty());
}

#[tokio::test]
async fn a_deleted_session_takes_its_files_along() {
    let fixture = Fixture::new().await;
    let (running, _) = fixture.uploading(1).await;
    let delete = async |id| {
        fixture
            .db
            .tenant(fixture.company, async move |conn: &mut TenantConn| {
                sessions::delete(conn, id).await
            })
            .await
    };
    assert!(matches!(
        delete(running).await,
        Err(SessionError::WrongStatus { .. })
    ));
    fixture.sql("UPDATE sync_sessions SET status = 'failed'").await;
    delete(running).await.unwrap();
    assert_eq!(
        fixture
            .sql("SELECT (SELECT count(*) FROM file_uploads) + (SELECT count(*) FROM jobs)")
            .await,
        "0"
    );
}

#[tokio::test]
async fn a_setting_of_a_newer_version_is_left_out() {
    let fixture = Fixture::new().await;
    let (session, _) = fixture.session().await;
    fixture
        .sql(r#"UPDATE sync_sessions SET settings = settings || '{"later": 1, "max_attempts": 7}'"#)
        .await;
    assert_eq!(fixture.get(session).await.settings.max_attempts, 7);
}

/// A session that failed on its third file, with the other two cut off.
async fn cut_off(fixture: &Fixture) -> domain::SessionId {
    let (session, claim) = fixture.uploading(3).await;
    fixture
        .record(&claim, vec![outcome(3, FileStatus::Failed)])
        .await
        .unwrap();
    let finish = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            database::jobs::fail_session(conn, &claim, domain::SessionErrorCode::NoSuchBucket, "gone").await
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fixture.finish(&finish).await.unwrap(), SessionStatus::Failed);
    assert_eq!(fixture.get(session).await.files.cancelled, 2);
    session
}

#[tokio::test]
async fn a_retry_of_one_cause_takes_along_what_was_cut_off() {
    let fixture = Fixture::new().await;
    let session = cut_off(&fixture).await;
    let moved = fixture
        .retry(session, Some(FileErrorCode::FileVanished))
        .await
        .unwrap();
    assert_eq!(
        (moved.session.files.pending(), moved.session.files.cancelled),
        (3, 0)
    );
    assert!(
        moved.session.started_at.is_none(),
        "durations are the present run's"
    );
}

#[tokio::test]
async fn a_session_with_files_cut_off_is_not_complete() {
    let fixture = Fixture::new().await;
    let session = cut_off(&fixture).await;
    let moved = fixture.retry(session, None).await.unwrap();
    let upload = fixture.claim(moved.jobs[0].id, "w").await.unwrap();
    fixture
        .record(&upload, vec![outcome(3, FileStatus::Uploaded)])
        .await
        .unwrap();
    fixture
        .sql("UPDATE file_uploads SET status = 'cancelled' WHERE number < 3")
        .await;
    let finish = fixture.end(&upload, false).await.unwrap().unwrap();
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
}

#[tokio::test]
async fn a_retried_dry_run_walks_again_and_sends_nothing() {
    let fixture = Fixture::new().await;
    let made = fixture
        .try_create(|new| new.settings.dry_run = true)
        .await
        .unwrap();
    let scan = fixture.claim(made.jobs[0].id, "scanner").await.unwrap();
    let mut files = found(1..=2);
    for (file, status) in files.iter_mut().zip([FileStatus::Skipped, FileStatus::Failed]) {
        file.status = status;
    }
    assert!(fixture.emit(&scan, files).await.unwrap().is_none());
    let finish = fixture.end(&scan, true).await.unwrap().unwrap();
    assert_eq!(
        fixture.finish(&finish).await.unwrap(),
        SessionStatus::CompletedWithErrors
    );
    fixture.session().await; // another session of the cycle is no obstacle: a dry run writes nothing
    let moved = fixture.retry(made.session.id, None).await.unwrap();
    assert_eq!((moved.jobs.len(), moved.session.files.total), (1, 1));
    assert_eq!(
        fixture
            .sql("SELECT count(*) FROM jobs WHERE run = 2 AND kind <> 'scan'")
            .await,
        "0"
    );
}

#[tokio::test]
async fn a_completed_cycle_takes_no_retry() {
    let fixture = Fixture::new().await;
    let session = partly_failed(&fixture).await;
    fixture.sql("UPDATE cycles SET status = 'completed'").await;
    assert!(matches!(
        fixture.retry(session, None).await,
        Err(SessionError::CycleCompleted)
    ));
}

#[tokio::test]
async fn a_retry_leaves_what_was_skipped() {
    let fixture = Fixture::new().await;
    let (session, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let mut files = found(1..=2);
    files[1].status = FileStatus::Skipped;
    files[1].error = Some((FileErrorCode::SymlinkRefused, "it leads outside".into()));
    let upload = fixture.emit(&scan, files).await.unwrap().unwrap();
    fixture.end(&scan, true).await.unwrap();
    let upload = fixture.claim(upload.id, "w").await.unwrap();
    fixture
        .record(&upload, vec![outcome(1, FileStatus::Failed)])
        .await
        .unwrap();
    let finish = fixture.end(&upload, false).await.unwrap().unwrap();
    fixture.finish(&finish).await.unwrap();
    let files = fixture.retry(session, None).await.unwrap().session.files;
    assert_eq!((files.skipped, files.pending()), (1, 1));
}

/// A file that failed because another object was found than was recorded keeps what was recorded; the retry must not take
/// that for what is in the bucket.
#[tokio::test]
async fn a_retry_knows_nothing_of_the_objects_before_it() {
    let fixture = Fixture::new().await;
    let (session, upload) = fixture.uploading(2).await;
    let outcomes = vec![outcome(1, FileStatus::Failed), outcome(2, FileStatus::Uploaded)];
    fixture.record(&upload, outcomes).await.unwrap();
    let finish = fixture.end(&upload, false).await.unwrap().unwrap();
    fixture.finish(&finish).await.unwrap();
    fixture
        .sql("UPDATE file_uploads SET etag = 'recorded', checksum = 'recorded'")
        .await;
    fixture.retry(session, None).await.unwrap();
    let marked = "SELECT string_agg(number::text, ',') FROM file_uploads WHERE etag IS NOT NULL OR checksum IS NOT NULL";
    assert_eq!(fixture.sql(marked).await, "2");
}
