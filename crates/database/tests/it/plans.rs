//! Plans: what the last walk counted and what the files tell, saved when the dry run ends.

use crate::fixture::{Fixture, LEASE, found, write};
use database::TenantConn;
use database::jobs::{self, Claim, FoundFile};
use database::plans::{self, Achieved};
use domain::object_key::PathText;
use domain::plan::{Amount, Excluded, SizedFile};
use domain::{FileErrorCode, FileStatus, OnExisting, Plan, Planned, SessionId, SessionSettings};

fn settings() -> SessionSettings {
    SessionSettings {
        dry_run: true,
        on_existing: OnExisting::SkipUnchanged,
        ..SessionSettings::default()
    }
}

/// Files of a dry run with these sizes, all of them planned so.
fn planned(first: i64, sizes: &[i64], planned: Planned) -> Vec<FoundFile> {
    let mut files = found(first..first + i64::try_from(sizes.len()).unwrap());
    for (file, size_bytes) in files.iter_mut().zip(sizes) {
        file.size_bytes = *size_bytes;
        file.status = FileStatus::Skipped;
        file.planned = Some(planned);
    }
    files
}

fn not_sent(number: i64, status: FileStatus, code: FileErrorCode) -> FoundFile {
    FoundFile {
        number,
        path: PathText::from_bytes(format!("not sent {number}").as_bytes()),
        size_bytes: 5,
        modified_at: None,
        status,
        error: Some((code, "because".into())),
        planned: None,
        object: jobs::ObjectMarks::default(),
    }
}

async fn note(fixture: &Fixture, claim: &Claim, files: u64, directories: u64, pages: u64) {
    let claim = claim.clone();
    let excluded = Excluded { files, directories };
    write!(fixture, |conn| plans::note_walk(
        conn, &claim, LEASE, excluded, pages
    ))
    .unwrap();
}

/// A dry run with these files whose scan is in hand.
async fn scanned(fixture: &Fixture, files: Vec<FoundFile>) -> (SessionId, Claim) {
    let moved = fixture.try_create(|new| new.settings = settings()).await.unwrap();
    let scan = fixture.claim(moved.jobs[0].id, "scanner").await.unwrap();
    assert!(fixture.emit(&scan, files).await.unwrap().is_none());
    (moved.session.id, scan)
}

/// Ends the scan and the session, as a worker does it.
async fn finish(fixture: &Fixture, scan: &Claim) {
    let finish = fixture.end(scan, true).await.unwrap().unwrap();
    let claim = fixture.claim(finish.id, "finisher").await.unwrap();
    write!(fixture, |conn| async {
        jobs::finish_session(conn, &claim, LEASE).await?;
        plans::save(conn, &claim, &settings()).await?;
        Ok::<_, jobs::JobError>(())
    })
    .unwrap();
}

async fn plan(fixture: &Fixture, session: SessionId, run: i32) -> Option<Plan> {
    write!(fixture, |conn| plans::get(conn, session, run)).unwrap()
}

#[tokio::test]
async fn a_plan_is_what_the_files_and_the_last_walk_tell() {
    const PART: i64 = 8 << 20;
    let fixture = Fixture::new().await;
    let mut files = planned(1, &[0, PART, PART + 1], Planned::Send);
    files.extend(planned(4, &[7, 3 * PART], Planned::Overwrite));
    files.extend(planned(6, &[9, 2 * PART], Planned::Compare));
    files.push(not_sent(8, FileStatus::Skipped, FileErrorCode::Unchanged));
    for number in 9..=15 {
        files.push(not_sent(number, FileStatus::Failed, FileErrorCode::NameCollision));
    }
    files.push(not_sent(16, FileStatus::Failed, FileErrorCode::ReadError));
    let (session, scan) = scanned(&fixture, files).await;
    // An earlier walk came to its end and could not say so.
    note(&fixture, &scan, 99, 99, 99).await;
    note(&fixture, &scan, 4, 2, 3).await;
    assert_eq!(plan(&fixture, session, 1).await, None, "it has not ended");
    finish(&fixture, &scan).await;
    let plan = plan(&fixture, session, 1).await.unwrap();
    let amount = |files, size_bytes: i64| Amount {
        files,
        size_bytes: size_bytes.unsigned_abs(),
    };
    assert_eq!(plan.send, amount(5, 5 * PART + 8));
    assert_eq!(plan.overwrite, Some(amount(2, 3 * PART + 7)));
    assert_eq!(plan.compare, amount(2, 2 * PART + 9));
    assert_eq!(plan.left_alone[0].count, 1);
    let [collisions] = plan.conflicts.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!((collisions.count, collisions.size_bytes), (7, 35));
    let examples: Vec<String> = (9..=13).map(|number| format!("not sent {number}")).collect();
    assert_eq!(collisions.example_paths, examples);
    assert_eq!(plan.unreadable[0].error_code, FileErrorCode::ReadError);
    assert_eq!(
        plan.excluded,
        Excluded {
            files: 4,
            directories: 2
        }
    );
    let requests = plan.requests;
    assert_eq!((requests.put_object, requests.list_objects), (3, 3));
    assert_eq!((requests.create_multipart_upload, requests.upload_part), (2, 5));
    let compared = plan.compare_requests;
    assert_eq!((compared.put_object, compared.upload_part), (1, 2));
    assert_eq!(plan.largest.len(), 7);
    assert_eq!(
        plan.largest[0],
        SizedFile {
            path: "dir/file 5".into(),
            size_bytes: amount(0, 3 * PART).size_bytes
        }
    );
}

#[tokio::test]
async fn twenty_of_the_largest_are_named() {
    let fixture = Fixture::new().await;
    let sizes: Vec<i64> = (1..=30).collect();
    let (session, scan) = scanned(&fixture, planned(1, &sizes, Planned::Send)).await;
    note(&fixture, &scan, 0, 0, 0).await;
    finish(&fixture, &scan).await;
    let plan = plan(&fixture, session, 1).await.unwrap();
    let sizes: Vec<u64> = plan.largest.iter().map(|file| file.size_bytes).collect();
    assert_eq!(sizes, (11..=30).rev().collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_plan_is_of_its_run_and_its_company() {
    let fixture = Fixture::new().await;
    let mut files = planned(1, &[1], Planned::Send);
    files.push(not_sent(2, FileStatus::Failed, FileErrorCode::NameNotSupported));
    let (session, scan) = scanned(&fixture, files).await;
    note(&fixture, &scan, 1, 1, 1).await;
    finish(&fixture, &scan).await;
    assert!(plan(&fixture, session, 1).await.is_some());
    let (other, _, _) = fixture.add_company("OTHER").await;
    let theirs = fixture
        .db
        .tenant(other, async move |conn: &mut TenantConn| {
            plans::get(conn, session, 1).await
        })
        .await;
    assert_eq!(theirs.unwrap(), None);
    // A retry plans anew: until its end there is none, of this run or the last.
    let moved = fixture.retry(session, None).await.unwrap();
    assert_eq!(plan(&fixture, session, 2).await, None);
    let scan = fixture.claim(moved.jobs[0].id, "scanner").await.unwrap();
    note(&fixture, &scan, 2, 0, 0).await;
    for run in [1, 2] {
        assert_eq!(plan(&fixture, session, run).await, None);
    }
    finish(&fixture, &scan).await;
    assert_eq!(plan(&fixture, session, 2).await.unwrap().excluded.files, 2);
}

#[tokio::test]
async fn what_a_worker_recorded_that_knew_no_plans_makes_none() {
    let fixture = Fixture::new().await;
    // It noted no walk.
    let (session, scan) = scanned(&fixture, planned(1, &[1], Planned::Send)).await;
    finish(&fixture, &scan).await;
    assert_eq!(plan(&fixture, session, 1).await, None);
    // Another went on where it was stopped.
    let mut files = planned(1, &[1, 2], Planned::Send);
    files[0].planned = None;
    let (session, scan) = scanned(&fixture, files).await;
    note(&fixture, &scan, 0, 0, 0).await;
    finish(&fixture, &scan).await;
    assert_eq!(plan(&fixture, session, 1).await, None);
}

#[tokio::test]
async fn what_was_achieved_is_what_unhampered_uploads_did() {
    let fixture = Fixture::new().await;
    let achieved = async |project| write!(fixture, |conn| plans::achieved(conn, project)).unwrap();
    let nothing = Achieved {
        sessions: 0,
        files: 0,
        bytes: 0,
        seconds: 0.0,
    };
    assert_eq!(achieved(None).await, nothing);
    let ended = async |change: &str| {
        let (session, _) = fixture.session().await;
        fixture
            .sql(&format!(
                "UPDATE sync_sessions SET status = 'completed', run = 1, files_uploaded = 10, bytes_uploaded = 1000,
                        started_at = now() - interval '90 seconds', finished_at = now() - interval '30 seconds'
                 WHERE id = '{session}'; UPDATE sync_sessions SET {change} WHERE id = '{session}'"
            ))
            .await;
    };
    ended("files_uploaded = 10").await;
    ended("status = 'completed_with_errors', files_uploaded = 5").await;
    for change in [
        "run = 2",
        "status = 'failed'",
        "status = 'cancelled'",
        "files_uploaded = 0",
        "started_at = finished_at",
        r#"settings = settings || '{"bandwidth_limit_bytes_per_s": 1000}'"#,
    ] {
        ended(change).await;
    }
    let expected = Achieved {
        sessions: 2,
        files: 15,
        bytes: 2_000,
        seconds: 120.0,
    };
    assert_eq!(achieved(None).await, expected);
    assert_eq!(achieved(Some(fixture.project)).await, expected);
    assert_eq!(achieved(Some(domain::ProjectId::new())).await, nothing);
    // The latest twenty.
    for _ in 0..20 {
        ended("bytes_uploaded = 1").await;
    }
    assert_eq!(achieved(None).await.bytes, 20);
}
