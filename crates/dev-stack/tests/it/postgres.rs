use dev_stack::{Losing, Postgres, PostgresOptions, TestCluster};
use std::time::Duration;
use tokio::process::Command;

async fn psql(url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-w", "-q", "-d", url, "-c", sql])
        .output();
    let output = output.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[tokio::test]
async fn data_and_logins_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = PostgresOptions {
        dir: folder.path().join("postgres"),
        ephemeral: false,
        disk: None,
    };
    let mut postgres = Postgres::start(&options).await.unwrap();
    postgres.create_database("data", None).await.unwrap();
    psql(
        &postgres.owner_url("data"),
        "CREATE TABLE t (n int); INSERT INTO t VALUES (7)",
    )
    .await
    .unwrap();
    let url = postgres.owner_url("data");
    postgres.stop().await;
    assert!(psql(&url, "SELECT 1").await.is_err());
    postgres.start_again().await.unwrap();
    assert_eq!(psql(&url, "SELECT n FROM t").await.unwrap(), "7");
    postgres.stop().await;
    drop(postgres);

    let mut postgres = Postgres::start(&options).await.unwrap();
    assert_eq!(
        psql(&postgres.owner_url("data"), "SELECT n FROM t")
            .await
            .unwrap(),
        "7"
    );
    let wrong = postgres
        .app_url("data")
        .replacen("uploader_app:", "uploader_app:x", 1);
    assert!(
        psql(&wrong, "SELECT 1")
            .await
            .unwrap_err()
            .contains("authentication failed")
    );
    postgres.stop().await;
}

async fn cluster() -> &'static TestCluster {
    TestCluster::get_or_start(async |owner_url, app_url| {
        psql(&owner_url, "CREATE TABLE t (n int)")
            .await
            .map_err(anyhow::Error::msg)?;
        psql(&app_url, "SELECT 1").await.map_err(anyhow::Error::msg)?;
        Ok(())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, other) = tokio::join!(async { cluster().await.fresh_database().await.unwrap() }, async {
        cluster().await.fresh_database().await.unwrap()
    });
    psql(&one.owner_url, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(
        psql(&other.owner_url, "SELECT count(*) FROM t").await.unwrap(),
        "0"
    );
    assert_eq!(
        psql(&one.superuser_url, "SELECT count(*) FROM t").await.unwrap(),
        "1"
    );
    assert!(
        psql(&one.app_url, "SELECT * FROM t")
            .await
            .unwrap_err()
            .contains("permission denied")
    );
}

#[tokio::test]
async fn the_owner_may_make_roles_and_is_no_superuser() {
    let database = cluster().await.fresh_database().await.unwrap();
    let roles = "SELECT rolname, rolsuper, rolcreaterole, rolinherit FROM pg_roles
                 WHERE rolname LIKE 'uploader_%' ORDER BY 1";
    let found = psql(&database.superuser_url, roles).await.unwrap();
    assert!(
        found.contains("uploader_app|f|f|f") && found.contains("uploader_owner|f|t|t"),
        "{found}"
    );
}

/// Root's home is closed to the account that the server runs as; for anybody else this is like any folder.
#[tokio::test]
async fn a_folder_that_is_closed_to_others_will_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let options = PostgresOptions {
        dir: folder.path().join("postgres"),
        ephemeral: false,
        disk: None,
    };
    let mut postgres = Postgres::start(&options).await.unwrap();
    postgres.create_database("data", None).await.unwrap();
    postgres.stop().await;
    let mut postgres = Postgres::start(&options).await.unwrap();
    assert_eq!(psql(&postgres.owner_url("data"), "SELECT 7").await.unwrap(), "7");
    postgres.stop().await;

    // Who removes the folder starts afresh.
    std::fs::remove_dir_all(&options.dir).unwrap();
    let options = PostgresOptions {
        ephemeral: true,
        disk: None,
        ..options
    };
    let mut postgres = Postgres::start(&options).await.unwrap();
    assert!(
        psql(&postgres.owner_url("data"), "SELECT 7")
            .await
            .unwrap_err()
            .contains("does not exist")
    );
    postgres.stop().await;
}

#[tokio::test]
async fn a_proxy_loses_the_answers_to_commit_and_nothing_else() {
    let database = cluster().await.fresh_database().await.unwrap();
    let proxy = cluster().await.postgres().proxy().await.unwrap();
    let url = proxy.through(&database.owner_url);
    let count = async || {
        psql(&database.superuser_url, "SELECT count(*) FROM t")
            .await
            .unwrap()
    };
    const INSERT: &str = "BEGIN; INSERT INTO t VALUES (1); COMMIT";
    psql(&url, INSERT).await.unwrap();
    assert_eq!(
        (count().await.as_str(), proxy.commits(), proxy.lost()),
        ("1", 1, 0)
    );

    proxy.set_losing(Losing::PerMille(1_000));
    let error = psql(&url, INSERT).await.unwrap_err();
    assert!(error.contains("closed the connection"), "{error}");
    assert_eq!(
        (count().await.as_str(), proxy.commits(), proxy.lost()),
        ("2", 2, 1)
    );
    // What is rolled back has an answer.
    let rolled_back = "BEGIN; INSERT INTO t VALUES (2); ROLLBACK";
    psql(&url, rolled_back).await.unwrap();
    assert!(
        psql(&url, "SELECT 1/0")
            .await
            .unwrap_err()
            .contains("division by zero")
    );

    proxy.set_losing(Losing::Nothing);
    psql(&url, INSERT).await.unwrap();
    assert_eq!(
        (count().await.as_str(), proxy.commits(), proxy.lost()),
        ("3", 3, 1)
    );
}

#[tokio::test]
async fn a_proxy_holds_back_and_goes_on() {
    let database = cluster().await.fresh_database().await.unwrap();
    let proxy = cluster().await.postgres().proxy().await.unwrap();
    let url = proxy.through(&database.owner_url);
    proxy.hang();
    let asked = tokio::spawn(async move { psql(&url, "SELECT 7").await });
    let waited = tokio::time::timeout(
        Duration::from_millis(300),
        psql(&database.owner_url, "SELECT pg_sleep(10)"),
    )
    .await;
    assert!(waited.is_err() && !asked.is_finished());
    proxy.go_on();
    assert_eq!(asked.await.unwrap().unwrap(), "7");
}
