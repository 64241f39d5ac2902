//! The months of the files: made ahead, dropped when they are over, and nobody waits for either.

use crate::fixture::{Fixture, outcome, write};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use database::jobs;
use database::retention::{self, Kept};
use database::sessions::{self, SessionError};
use database::{Database, DatabaseError, SystemConn, TenantConn, files};
use domain::{FileStatus, SessionId};
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::{NoContext, Timestamp, Uuid};

/// Months.
const KEEP: u16 = 3;
/// Nothing here waits for long.
const LIMIT: Duration = Duration::from_secs(20);

/// The first day of the month `back` months ago.
fn month(back: u16) -> NaiveDate {
    Utc::now().date_naive().with_day(1).unwrap() - Months::new(back.into())
}

/// Its first instant.
fn begins(month: NaiveDate) -> DateTime<Utc> {
    month.and_time(NaiveTime::MIN).and_utc()
}

impl Fixture {
    /// An ended session that was made then, with two files, one of which failed. They are in no month yet.
    async fn session_of(&self, made_at: DateTime<Utc>) -> SessionId {
        let time = Timestamp::from_unix(
            NoContext,
            made_at.timestamp().try_into().unwrap(),
            made_at.timestamp_subsec_nanos(),
        );
        let id = SessionId(Uuid::new_v7(time));
        self.sql(&format!(
            "INSERT INTO sync_sessions (id, company_id, project_id, cycle_id, user_id, source_root, source_path, settings,
                    key_prefix, status, scan_complete, files_total, files_uploaded, files_failed, finished_at)
             VALUES ('{id}', '{company}', '{}', '{}', '{}', 'samples', '', '{{}}', 'p/C1/', 'completed_with_errors', true,
                     2, 1, 1, '{made_at}');
             INSERT INTO file_uploads (session_id, number, company_id, path, size_bytes, status, error_code)
             VALUES ('{id}', 1, '{company}', 'a', 1, 'uploaded', NULL),
                    ('{id}', 2, '{company}', 'b', 1, 'failed', 'read_error')",
            self.project,
            self.cycle,
            self.user,
            company = self.company,
        ))
        .await;
        id
    }

    /// A session of the first month that is over, which has its partition.
    async fn expired(&self) -> (SessionId, NaiveDate) {
        let month = month(KEEP + 1);
        let session = self.session_of(begins(month) + TimeDelta::days(3)).await;
        make(&self.db).await.unwrap();
        (session, month)
    }

    async fn files_of(&self, id: SessionId) -> String {
        self.sql(&format!(
            "SELECT count(*) FROM file_uploads WHERE session_id = '{id}'"
        ))
        .await
    }

    async fn is_dropped(&self, id: SessionId) -> bool {
        let is_dropped = self.get(id).await.files_dropped_at.is_some();
        assert_eq!(self.files_of(id).await, if is_dropped { "0" } else { "2" });
        is_dropped
    }

    /// The names of the partitions, but for the default one.
    async fn partitions(&self) -> Vec<String> {
        self.sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'file_uploads'::regclass
             AND inhrelid <> 'file_uploads_default'::regclass ORDER BY 1",
        )
        .await
        .lines()
        .map(str::to_owned)
        .collect()
    }

    /// Waits until somebody waits for a lock with a statement that begins so.
    async fn until_waiting(&self, statement: &str) {
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND query LIKE '{statement}%'"
        );
        let until = async { while self.sql(&waiting).await == "0" {} };
        tokio::time::timeout(LIMIT, until).await.expect("it waits");
    }
}

async fn make(db: &Database) -> Result<Option<i32>, DatabaseError> {
    db.system(async |conn: &mut SystemConn| retention::make_months(conn).await)
        .await
}

async fn drop_month(db: &Database, month: NaiveDate) -> Result<u64, Kept> {
    db.system(async move |conn: &mut SystemConn| retention::drop_month(conn, month, KEEP.into()).await)
        .await
}

async fn expired_months(fixture: &Fixture) -> Vec<NaiveDate> {
    fixture
        .system(async |conn| retention::expired_months(conn, KEEP.into()).await)
        .await
}

/// The table could not be had, and nobody waited for it any longer.
fn is_busy<T: std::fmt::Debug>(outcome: &Result<T, DatabaseError>) -> bool {
    matches!(outcome, Err(DatabaseError::Unavailable(cause)) if cause.contains("lock timeout"))
}

#[tokio::test]
async fn months_roll_off_at_their_boundary_and_their_sessions_stay() {
    let fixture = Fixture::new().await;
    let kept_since = begins(month(KEEP));
    let (last, first) = (
        fixture.session_of(kept_since - TimeDelta::milliseconds(1)).await,
        fixture.session_of(kept_since).await,
    );
    assert_eq!(
        fixture.sql("SELECT count(*) FROM file_uploads_default").await,
        "4"
    );
    assert_eq!(make(&fixture.db).await.unwrap(), Some(2));
    assert_eq!(make(&fixture.db).await.unwrap(), Some(0));
    assert_eq!(
        fixture
            .sql("SELECT pg_relation_size('file_uploads_default')")
            .await,
        "0"
    );

    let expired = month(KEEP + 1);
    assert_eq!(expired_months(&fixture).await, [expired]);
    assert_eq!(drop_month(&fixture.db, expired).await.unwrap(), 1);
    assert!(fixture.is_dropped(last).await);
    assert!(!fixture.is_dropped(first).await);
    let session = fixture.get(last).await;
    assert_eq!((session.files.total, session.files.failed), (2, 1));
    assert_eq!(expired_months(&fixture).await, []);
    let again = drop_month(&fixture.db, expired).await;
    assert!(matches!(again, Err(Kept::Elsewhere)), "{again:?}");
    let kept = drop_month(&fixture.db, month(KEEP)).await;
    assert!(matches!(kept, Err(Kept::Elsewhere)), "{kept:?}");
    assert!(!fixture.is_dropped(first).await);
}

/// As for a service that is not started anew for two years.
#[tokio::test]
async fn months_to_come_are_made_closed_and_take_in_what_came_before_them() {
    let fixture = Fixture::new().await;
    let in_a_year = (Utc::now().date_naive().with_day(1).unwrap() + Months::new(12))
        .format("file_uploads_%Y_%m")
        .to_string();
    fixture.sql(&format!("DROP TABLE {in_a_year}")).await;
    fixture
        .sql(&format!(
            "INSERT INTO file_uploads (session_id, number, company_id, path, size_bytes, status)
             SELECT uuid7_floor(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(months => m)),
                    1, '{}', 'f', 1, 'uploaded' FROM unnest(ARRAY[12, 13]) AS m",
            fixture.company
        ))
        .await;
    assert_eq!(make(&fixture.db).await.unwrap(), Some(1));
    let moved = format!("SELECT count(*) FROM {in_a_year}");
    assert_eq!(fixture.sql(&moved).await, "1");
    assert_eq!(
        fixture.sql("SELECT count(*) FROM file_uploads_default").await,
        "1"
    );
    let open = fixture
        .sql(
            "SELECT count(*) FROM pg_class WHERE relname LIKE 'file\\_uploads\\_%' AND relkind = 'r'
             AND (NOT relrowsecurity OR NOT relforcerowsecurity OR relacl IS NOT NULL)",
        )
        .await;
    assert_eq!(open, "0", "a partition can be reached past the parent's policies");
}

#[tokio::test]
async fn a_month_is_kept_as_long_as_a_session_of_it_needs_its_files() {
    let fixture = Fixture::new().await;
    let (other, month) = fixture.expired().await;
    let session = fixture.session_of(begins(month)).await;
    let job = format!(
        "INSERT INTO jobs (company_id, session_id, run, location, kind, state, worker_id, lease_until)
         VALUES ('{}', '{session}', 1, 'any', 'finish', 'running', 'w', now())",
        fixture.company
    );
    let of_session = |set: &str| format!("UPDATE sync_sessions SET {set} WHERE id = '{session}'");
    let of_file =
        |set: &str| format!("UPDATE file_uploads SET {set} WHERE session_id = '{session}' AND number = 1");
    let ended = of_session("status = 'completed', finished_at = now() - interval '1 year'");
    let mut needs: Vec<(String, String, &str)> = ["pending", "in_progress", "paused"]
        .map(|status| {
            let set = of_session(&format!("status = '{status}', finished_at = NULL"));
            (set, ended.clone(), "it is ")
        })
        .into();
    needs.push((
        of_session("finished_at = now() - interval '2 months'"),
        ended.clone(),
        "it ended at ",
    ));
    needs.push((
        job,
        "UPDATE jobs SET state = 'done'".into(),
        "a job of it is running",
    ));
    needs.push((
        of_file("upload_id = 'open'"),
        of_file("upload_id = NULL"),
        "a multipart upload of it is open",
    ));
    for (need, no_more, says) in needs {
        fixture.sql(&need).await;
        let kept = drop_month(&fixture.db, month).await.unwrap_err();
        let Kept::Needed { session_id, why } = &kept else {
            panic!("{need}: {kept:?}");
        };
        assert_eq!(*session_id, session, "{need}");
        assert!(why.starts_with(says), "{need}: {why}");
        assert!(
            !fixture.is_dropped(session).await && !fixture.is_dropped(other).await,
            "{need}"
        );
        fixture.sql(&no_more).await;
    }
    assert_eq!(drop_month(&fixture.db, month).await.unwrap(), 2);
    assert!(fixture.is_dropped(session).await && fixture.is_dropped(other).await);
}

#[tokio::test]
async fn one_works_at_a_time() {
    let fixture = Fixture::new().await;
    let (session, month) = fixture.expired().await;
    let db = fixture.db.clone();
    let (made, dropped) = fixture
        .system(async move |conn| {
            retention::make_months(conn).await?;
            Ok((make(&db).await?, drop_month(&db, month).await))
        })
        .await;
    assert_eq!(made, None);
    assert!(matches!(dropped, Err(Kept::Elsewhere)), "{dropped:?}");
    let outcomes = futures::future::join_all((0..4).map(|_| drop_month(&fixture.db, month))).await;
    let dropped = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(dropped, 1, "{outcomes:?}");
    assert!(fixture.is_dropped(session).await);
}

/// Somebody reads the old month for long, and the drop cannot have it. Uploads do not queue behind the drop.
#[tokio::test]
async fn uploads_go_on_while_a_month_cannot_be_had() {
    let fixture = Fixture::new().await;
    let (session, month) = fixture.expired().await;
    let (_, claim) = fixture.uploading(200).await;
    let next_year = fixture.partitions().await.pop().unwrap();
    fixture.sql(&format!("DROP TABLE {next_year}")).await;
    let (has_read, read) = oneshot::channel();
    let (may_end, end) = oneshot::channel::<()>();
    let reader = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            let files = files::list(conn, session, &files::FileFilter::default(), None, 10).await?;
            has_read.send(files.len()).unwrap();
            end.await.unwrap();
            Ok::<_, DatabaseError>(())
        });
    let others = async {
        assert_eq!(read.await.unwrap(), 2);
        for number in 1..=10 {
            let keeping = async { (drop_month(&fixture.db, month).await, make(&fixture.db).await) };
            let upload = fixture.record(&claim, vec![outcome(number, FileStatus::Uploaded)]);
            let ((dropped, made), uploaded) = tokio::join!(keeping, upload);
            uploaded.unwrap();
            let Err(Kept::Database(error)) = dropped else {
                panic!("{dropped:?}");
            };
            assert!(is_busy::<()>(&Err(error)));
            assert!(is_busy(&made), "{made:?}");
        }
        assert!(!fixture.is_dropped(session).await);
        may_end.send(()).unwrap();
    };
    let (reader, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(reader, others) })
        .await
        .expect("nobody waits for the reader");
    reader.unwrap();
    drop_month(&fixture.db, month).await.unwrap();
    assert_eq!(make(&fixture.db).await.unwrap(), Some(1));
    assert!(fixture.is_dropped(session).await);
}

#[tokio::test]
async fn a_session_that_is_started_anew_keeps_its_month() {
    let fixture = Fixture::new().await;
    let (session, month) = fixture.expired().await;
    let (has_begun, begun) = oneshot::channel();
    let (may_end, end) = oneshot::channel::<()>();
    let retry = fixture
        .db
        .tenant(fixture.company, async move |conn: &mut TenantConn| {
            let moved = sessions::retry(conn, session, None).await?;
            has_begun.send(()).unwrap();
            end.await.unwrap();
            Ok::<_, SessionError>(moved.jobs.len())
        });
    let others = async {
        begun.await.unwrap();
        let waits = async {
            fixture
                .until_waiting("UPDATE sync_sessions SET files_dropped_at")
                .await;
            may_end.send(()).unwrap();
        };
        tokio::join!(drop_month(&fixture.db, month), waits).0
    };
    let (retried, dropped) = tokio::join!(retry, others);
    assert_eq!(retried.unwrap(), 1);
    assert!(matches!(dropped, Err(Kept::Needed { .. })), "{dropped:?}");
    assert!(!fixture.is_dropped(session).await);
}

#[tokio::test]
async fn what_is_dropped_is_not_retried_and_is_taken_for_unknown_not_for_absent() {
    let fixture = Fixture::new().await;
    let (session, month) = fixture.expired().await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    let earlier = async || {
        let claim = scan.clone();
        write!(fixture, |conn| async {
            let earlier = jobs::earlier_sessions(conn, &claim, 10).await?;
            let ids: Vec<_> = earlier.into_iter().map(|(id, _)| id).collect();
            Ok::<_, DatabaseError>((ids, jobs::are_earlier_forgotten(conn, &claim).await?))
        })
        .unwrap()
    };
    assert_eq!(earlier().await, (vec![session], false));
    drop_month(&fixture.db, month).await.unwrap();
    assert_eq!(earlier().await, (vec![], true));
    let retried = fixture.retry(session, None).await.map(|_| ());
    assert!(matches!(retried, Err(SessionError::FilesDropped)), "{retried:?}");

    // What is elsewhere, or was only tried, or had no files, wrote nothing there.
    for change in [
        "key_prefix = 'p/C1/elsewhere/'",
        "settings = '{\"dry_run\": true}'",
        "files_total = 0",
    ] {
        let prefix = "UPDATE sync_sessions SET key_prefix = 'p/C1/here/' WHERE id =";
        fixture.sql(&format!("{prefix} '{}'", scan.session_id)).await;
        let set = format!(
            "UPDATE sync_sessions SET key_prefix = 'p/C1/', settings = '{{}}', files_total = 2 WHERE id = '{session}';
             UPDATE sync_sessions SET {change} WHERE id = '{session}'"
        );
        fixture.sql(&set).await;
        assert_eq!(earlier().await, (vec![], false), "{change}");
    }
}

#[tokio::test]
async fn nobody_drops_what_is_young_or_calls_without_a_scope() {
    let fixture = Fixture::new().await;
    let as_runtime = async |role: &str, call: &str| {
        let sql =
            format!("BEGIN; SET LOCAL SESSION AUTHORIZATION uploader_app; {role} SELECT {call}; ROLLBACK;");
        let cluster = crate::fixture::cluster().await;
        match cluster.postgres().run_sql(&fixture.urls.name, &sql).await {
            Ok(_) => "allowed".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    };
    fixture.session_of(begins(month(2))).await;
    make(&fixture.db).await.unwrap();
    let system = "SET LOCAL ROLE uploader_system;";
    for young in [
        format!("'{}'", month(0)),
        format!("'{}'", month(1)),
        format!("'{}'", month(3) + TimeDelta::days(1)),
        "NULL".into(),
    ] {
        let answer = as_runtime(system, &format!("drop_file_partition({young})")).await;
        assert!(answer.contains("are kept"), "{young}: {answer}");
    }
    for ahead in ["0", "25", "NULL"] {
        let answer = as_runtime(system, &format!("ensure_file_partitions({ahead})")).await;
        assert!(answer.contains("must be from 1 to 24"), "{ahead}: {answer}");
    }
    let old = format!("drop_file_partition('{}')", month(2));
    for role in ["", "SET LOCAL ROLE uploader_tenant;"] {
        for call in [old.as_str(), "ensure_file_partitions(12)"] {
            let answer = as_runtime(role, call).await;
            assert!(answer.contains("permission denied"), "{role} {call}: {answer}");
        }
    }
    assert_eq!(as_runtime(system, &old).await, "allowed");
    assert_eq!(fixture.partitions().await.len(), 15, "nothing was dropped");
}
