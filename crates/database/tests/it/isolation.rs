//! Row-level security holds by itself, whatever the queries above it do.

use crate::fixture::{Fixture, cluster};
use database::sessions::{self, SessionFilter};
use database::{DatabaseError, TenantConn};
use domain::CompanyId;

/// Runs a statement as the runtime login, in the scope that `setup` opens; gives what psql prints, or its error.
async fn as_runtime(fixture: &Fixture, setup: &str, statement: &str) -> String {
    let sql = format!("BEGIN; SET LOCAL SESSION AUTHORIZATION uploader_app; {setup} {statement}; ROLLBACK;");
    match cluster().await.postgres().run_sql(&fixture.urls.name, &sql).await {
        Ok(output) => output
            .lines()
            .rfind(|line| !line.is_empty() && *line != "ROLLBACK")
            .unwrap_or("")
            .to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

const TABLES: [&str; 10] = [
    "companies",
    "memberships",
    "projects",
    "cycles",
    "sync_sessions",
    "file_uploads",
    "jobs",
    "receipts",
    "receipt_keys",
    "session_plans",
];

#[tokio::test]
async fn the_runtime_login_alone_may_do_nothing() {
    let fixture = Fixture::new().await;
    fixture.uploading(1).await;
    for table in TABLES.iter().chain(&["users", "refresh_tokens"]) {
        let answer = as_runtime(&fixture, "", &format!("SELECT count(*) FROM {table}")).await;
        assert!(answer.contains("permission denied"), "{table}: {answer}");
    }
}

#[tokio::test]
async fn a_tenant_scope_sees_its_company_and_no_other() {
    let fixture = Fixture::new().await;
    fixture.uploading(3).await;
    let (other, _, _) = fixture.add_company("OTHER").await;
    let scope =
        |company: &str| format!("SET LOCAL ROLE uploader_tenant; SET LOCAL app.company = '{company}';");
    for table in TABLES {
        let column = if table == "companies" { "id" } else { "company_id" };
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(
            as_runtime(&fixture, "SET LOCAL ROLE uploader_tenant;", &count).await,
            "0",
            "{table} without company"
        );
        let foreign = format!("SELECT count(*) FROM {table} WHERE {column} <> '{other}'");
        assert_eq!(
            as_runtime(&fixture, &scope(&other.to_string()), &foreign).await,
            "0",
            "{table} of others"
        );
    }
    let files = as_runtime(
        &fixture,
        &scope(&fixture.company.to_string()),
        "SELECT count(*) FROM file_uploads",
    )
    .await;
    assert_eq!(files, "3");
    let moved = as_runtime(
        &fixture,
        &scope(&other.to_string()),
        &format!("UPDATE projects SET company_id = '{}'", fixture.company),
    )
    .await;
    assert!(moved.contains("row-level security"), "{moved}");
    let partition = as_runtime(
        &fixture,
        &scope(&fixture.company.to_string()),
        "SELECT count(*) FROM file_uploads_default",
    )
    .await;
    assert!(partition.contains("permission denied"), "{partition}");
    let hash = as_runtime(
        &fixture,
        &scope(&fixture.company.to_string()),
        "SELECT password_hash FROM users",
    )
    .await;
    assert!(hash.contains("permission denied"), "{hash}");
}

#[tokio::test]
async fn every_table_is_closed() {
    let fixture = Fixture::new().await;
    let open = fixture
        .sql(
            "SELECT coalesce(string_agg(relname, ', '), 'none') FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
               AND relname <> '__diesel_schema_migrations' AND NOT (relrowsecurity AND relforcerowsecurity)",
        )
        .await;
    assert_eq!(open, "none");
    let without_policy = fixture
        .sql(
            "SELECT coalesce(string_agg(relname, ', '), 'none') FROM pg_class c
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
               AND relname <> '__diesel_schema_migrations'
               AND NOT EXISTS (SELECT FROM pg_policies p WHERE p.tablename = c.relname)",
        )
        .await;
    assert_eq!(without_policy, "none");
    let login = fixture
        .sql("SELECT rolinherit OR rolbypassrls OR rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'uploader_app'")
        .await;
    assert_eq!(login, "f");
}

#[tokio::test]
async fn another_companys_session_is_like_an_unknown_one() {
    let fixture = Fixture::new().await;
    let (session, _) = fixture.session().await;
    let (other, _, _) = fixture.add_company("OTHER").await;
    let get = async |company: CompanyId| {
        fixture
            .db
            .tenant(company, async move |conn: &mut TenantConn| {
                sessions::get(conn, session).await
            })
            .await
    };
    assert!(get(fixture.company).await.is_ok());
    assert!(matches!(get(other).await, Err(DatabaseError::NotFound)));
    let listed = fixture
        .db
        .tenant(other, async |conn: &mut TenantConn| {
            sessions::list(conn, &SessionFilter::default(), false, None, 10).await
        })
        .await
        .unwrap();
    assert!(listed.is_empty());
}

#[tokio::test]
async fn a_row_cannot_point_across_companies() {
    let fixture = Fixture::new().await;
    let (other, _, _) = fixture.add_company("OTHER").await;
    let insert = format!(
        "INSERT INTO cycles (id, company_id, project_id, cycle_number, cycle_name, s3_prefix)
         VALUES (gen_random_uuid(), '{other}', '{}', 9, 'C9', 'C9/')",
        fixture.project
    );
    let refused = cluster()
        .await
        .postgres()
        .run_sql(&fixture.urls.name, &insert)
        .await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("foreign key"));
}

/// A future that is dropped in the middle of its scope leaves neither a transaction nor a company behind.
#[tokio::test]
async fn a_dropped_scope_leaks_nothing() {
    let fixture = Fixture::new().await;
    fixture.uploading(1).await;
    let (other, _, _) = fixture.add_company("OTHER").await;
    let db = database::Database::new(&fixture.urls.app_url, 1).unwrap();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let dropped = db.tenant(fixture.company, async move |conn: &mut TenantConn| {
        sessions::list(conn, &SessionFilter::default(), false, None, 1).await?;
        let _ = entered.send(());
        std::future::pending::<Result<(), DatabaseError>>().await
    });
    tokio::select! {
        _ = dropped => unreachable!("it never ends"),
        reached = inside => reached.unwrap(),
    }
    let listed = db
        .tenant(other, async |conn: &mut TenantConn| {
            sessions::list(conn, &SessionFilter::default(), false, None, 10).await
        })
        .await
        .unwrap();
    assert!(listed.is_empty());
}
