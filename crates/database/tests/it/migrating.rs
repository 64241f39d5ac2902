//! The schema brought up to date.

use crate::fixture::{Fixture, cluster};
use database::migrate::{MigrateError, migrate};

#[tokio::test]
async fn migrating_again_does_nothing() {
    let fixture = Fixture::new().await;
    let report = migrate(fixture.urls.owner_url.clone(), fixture.urls.app_url.clone())
        .await
        .unwrap();
    assert!(report.applied.is_empty());
}

#[tokio::test]
async fn many_at_once_apply_each_migration_once() {
    let postgres = cluster().await.postgres();
    postgres.create_database("raced", None).await.unwrap();
    let runs = (0..4).map(|_| migrate(postgres.owner_url("raced"), postgres.app_url("raced")));
    let reports = futures::future::join_all(runs).await;
    let applied: usize = reports
        .into_iter()
        .map(|report| report.unwrap().applied.len())
        .sum();
    assert_eq!(
        applied,
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"))
            .unwrap()
            .count()
    );
}

#[tokio::test]
async fn partitions_exist_ahead_of_time() {
    let fixture = Fixture::new().await;
    let months = fixture
        .sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'file_uploads'::regclass AND inhrelid::regclass::text <> 'file_uploads_default'")
        .await;
    assert_eq!(months, "14", "last month, this one, and twelve to come");
    // A session of today lands in this month's partition, not in the default one.
    fixture.uploading(1).await;
    assert_eq!(
        fixture.sql("SELECT count(*) FROM file_uploads_default").await,
        "0"
    );
    assert_eq!(fixture.sql("SELECT count(*) FROM file_uploads").await, "1");
}

#[tokio::test]
async fn rows_that_came_before_their_partition_move_into_it() {
    let fixture = Fixture::new().await;
    fixture
        .sql(&format!(
            "INSERT INTO file_uploads (session_id, number, company_id, path, size_bytes, status)
             SELECT uuid7_floor(now() + make_interval(months => m)), m, '{}', 'f', 1, 'uploaded' FROM generate_series(12, 16) AS m",
            fixture.company
        ))
        .await;
    let in_default = async || fixture.sql("SELECT count(*) FROM file_uploads_default").await;
    assert_eq!(in_default().await, "4", "the twelfth month has its partition");
    fixture
        .sql("SET SESSION AUTHORIZATION uploader_owner; SELECT ensure_file_partitions(15)")
        .await;
    assert_eq!(in_default().await, "1");
    assert_eq!(fixture.sql("SELECT count(*) FROM file_uploads").await, "5");
    let forced = "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'file_uploads_default'";
    assert_eq!(fixture.sql(forced).await, "t");
}

#[tokio::test]
async fn a_wrong_url_is_named() {
    let fixture = Fixture::new().await;
    let wrong = fixture.urls.owner_url.replace("/test_", "/absent_");
    let error = migrate(wrong, fixture.urls.app_url.clone()).await.unwrap_err();
    assert!(
        matches!(
            error,
            MigrateError::Connect {
                variable: "MIGRATION_DATABASE_URL",
                ..
            }
        ),
        "{error}"
    );
}

/// Every migration can be taken back, newest first.
#[tokio::test]
async fn the_way_back_works() {
    let postgres = cluster().await.postgres();
    postgres.create_database("undone", None).await.unwrap();
    migrate(postgres.owner_url("undone"), postgres.app_url("undone"))
        .await
        .unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for path in names.iter().rev() {
        let down = std::fs::read_to_string(path.join("down.sql")).unwrap();
        postgres
            .run_sql("undone", &down)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
    }
    let left = postgres
        .run_sql("undone", "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> '__diesel_schema_migrations'")
        .await
        .unwrap();
    assert_eq!(left.trim(), "0");
}
