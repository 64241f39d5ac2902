//! Open multipart uploads: whose bucket is due, what refers to them, and what they cost the hot table.

use crate::fixture::{Fixture, LEASE, outcome, write};
use database::leftovers::{self, Referrer};
use database::{SystemConn, TenantConn, jobs};
use domain::FileStatus;
use futures::future::join_all;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

async fn take(fixture: &Fixture) -> Option<String> {
    let due = fixture
        .system(async |conn: &mut SystemConn| leftovers::take_due(conn, HOUR).await)
        .await?;
    assert_eq!(
        (due.company_id, due.project.id),
        (fixture.company, fixture.project)
    );
    let clock: i64 = fixture
        .sql("SELECT extract(epoch FROM now())::bigint")
        .await
        .parse()
        .unwrap();
    assert!((due.now.timestamp() - clock).abs() < 60, "the database's clock");
    Some(due.project.name)
}

#[tokio::test]
async fn a_bucket_is_due_once_an_interval_whoever_asks() {
    let fixture = Fixture::new().await;
    assert_eq!(take(&fixture).await, None, "a new project is not due");
    let earlier = "UPDATE projects SET leftovers_checked_at = leftovers_checked_at - interval '61 minutes'";
    fixture.sql(earlier).await;
    let before = fixture.sql("SELECT updated_at FROM projects").await;
    let taken = join_all((0..6).map(|_| take(&fixture))).await;
    assert_eq!(taken.iter().flatten().count(), 1, "{taken:?}");
    assert_eq!(take(&fixture).await, None);
    assert_eq!(
        fixture.sql("SELECT updated_at FROM projects").await,
        before,
        "nobody changed it"
    );
    fixture.sql(earlier).await;
    assert!(take(&fixture).await.is_some());
}

#[tokio::test]
async fn an_upload_is_in_use_while_its_session_is_not_finished() {
    let fixture = Fixture::new().await;
    let (session, claim) = fixture.uploading(2).await;
    let opening = claim.clone();
    write!(fixture, |conn| jobs::multipart_opened(
        conn,
        &opening,
        LEASE,
        2,
        "upload-2",
        8 << 20
    ))
    .unwrap();
    let ids = || vec!["upload-2".to_owned(), "unknown".to_owned()];
    let in_use = async || {
        let asked = ids();
        fixture
            .system(async move |conn: &mut SystemConn| leftovers::in_use(conn, &asked).await)
            .await
    };
    let of_ended = async || -> Vec<Referrer> {
        let project = fixture.project;
        write!(fixture, |conn| leftovers::of_ended_sessions(conn, project, 10)).unwrap()
    };
    for (pause, flag) in [(false, "in_progress"), (true, "paused")] {
        if pause {
            write!(fixture, |conn| database::sessions::pause(conn, session)).unwrap();
        }
        assert_eq!(in_use().await, ["upload-2"], "{flag}");
        assert!(of_ended().await.is_empty(), "{flag}");
    }
    let asked = ids();
    let referrers = write!(fixture, |conn| leftovers::referrers(conn, &asked)).unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!((referrers[0].session_id, referrers[0].number), (session, 2));
    assert_eq!(
        (referrers[0].path.as_str(), referrers[0].key.as_str()),
        ("dir/file 2", "p/C1/dir/file 2")
    );
    let project = fixture.project;
    assert_eq!(
        write!(fixture, |conn| leftovers::prefixes(conn, project)).unwrap(),
        ["p/C1/"]
    );

    fixture.cancel(session).await.unwrap();
    assert_eq!(in_use().await, ["upload-2"], "it is not at its end yet");
    let finish = fixture.end(&claim, false).await.unwrap().unwrap();
    fixture.finish(&finish).await.unwrap();
    assert!(in_use().await.is_empty());
    let mut ended = of_ended().await;
    assert_eq!(ended.len(), 1);

    // What was recorded since is another upload, and stays.
    fixture
        .sql("UPDATE file_uploads SET upload_id = 'a newer one' WHERE number = 2")
        .await;
    let aborted = ended.clone();
    write!(fixture, |conn| leftovers::forget(conn, &aborted)).unwrap();
    assert_eq!(of_ended().await.len(), 1);
    ended[0].upload_id = "a newer one".to_owned();
    write!(fixture, |conn| leftovers::forget(conn, &ended)).unwrap();
    assert!(of_ended().await.is_empty());
}

#[tokio::test]
async fn another_companys_uploads_are_in_use_and_not_told() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(1).await;
    write!(fixture, |conn| jobs::multipart_opened(
        conn,
        &claim,
        LEASE,
        1,
        "upload-1",
        8 << 20
    ))
    .unwrap();
    let (other, project, _) = fixture.add_company("OTHER").await;
    let ids = vec!["upload-1".to_owned()];
    let asked = ids.clone();
    let in_use = fixture
        .system(async move |conn: &mut SystemConn| leftovers::in_use(conn, &asked).await)
        .await;
    assert_eq!(in_use, ["upload-1"]);
    let told = fixture
        .db
        .tenant(other, async move |conn: &mut TenantConn| {
            let referrers = leftovers::referrers(conn, &ids).await?;
            let of_ended = leftovers::of_ended_sessions(conn, project, 10).await?;
            Ok::<_, database::DatabaseError>(referrers.len() + of_ended.len())
        })
        .await
        .unwrap();
    assert_eq!(told, 0);
}

/// The index of open uploads is none for small files: their outcomes are written beside the old rows.
#[tokio::test]
async fn outcomes_of_small_files_stay_in_their_page() {
    let fixture = Fixture::new().await;
    let (_, claim) = fixture.uploading(10).await;
    let outcomes = (1..10)
        .map(|number| outcome(number, FileStatus::Uploaded))
        .collect();
    fixture.record(&claim, outcomes).await.unwrap();
    write!(fixture, |conn| jobs::multipart_opened(
        conn,
        &claim,
        LEASE,
        10,
        "upload-10",
        8 << 20
    ))
    .unwrap();
    let counted = "SELECT sum(n_tup_upd) || ' ' || sum(n_tup_hot_upd) FROM pg_stat_user_tables
                   WHERE relname LIKE 'file_uploads_%'";
    // Connections tell what they did when they have rested for a moment.
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let seen = fixture.sql(counted).await;
        if seen.starts_with("10 ") {
            assert_eq!(seen, "10 9", "updated, and of these in their page");
            return;
        }
        assert!(tokio::time::Instant::now() < patience, "{seen}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
