//! Connections that break, hang, or lose the answer to a COMMIT.

use std::time::{Duration, Instant};

use database::sessions::{self, SessionError};
use database::{Database, DatabaseError, SystemConn, TenantConn};
use dev_stack::{Losing, PostgresProxy};
use domain::SessionStatus;

use crate::fixture::{Fixture, cluster};

struct Wired {
    fixture: Fixture,
    proxy: PostgresProxy,
    /// With one connection, so that it is always the same.
    database: Database,
}

async fn wired() -> Wired {
    let fixture = Fixture::new().await;
    let proxy = cluster().await.postgres().proxy().await.unwrap();
    let database = Database::new(&proxy.through(&fixture.urls.app_url), 1).unwrap();
    database.ping().await.unwrap();
    Wired {
        fixture,
        proxy,
        database,
    }
}

impl Wired {
    async fn any_user(&self) -> Result<bool, DatabaseError> {
        let look = async |conn: &mut SystemConn| database::accounts::any_user(conn).await;
        self.database.system(look).await
    }
}

#[tokio::test]
async fn a_lost_answer_to_commit_is_an_outage_and_what_was_committed_stays() {
    let wired = wired().await;
    let (id, _) = wired.fixture.session().await;
    wired.proxy.set_losing(Losing::FirstOfEachKind);
    let cancel = async move |conn: &mut TenantConn| sessions::cancel(conn, id).await;
    let cancelled = wired.database.tenant(wired.fixture.company, cancel).await;
    assert!(
        matches!(&cancelled, Err(SessionError::Database(error)) if error.is_unavailable()),
        "{:?}",
        cancelled.err()
    );
    assert_eq!(wired.proxy.lost(), 1);
    let [kind] = wired.proxy.lost_kinds().try_into().unwrap();
    assert!(kind.contains("UPDATE sync_sessions SET stop_flag"), "{kind}");
    let status = wired.fixture.get(id).await.status;
    assert_eq!(status, SessionStatus::Cancelled);
}

/// Nobody closes it, and no answer comes.
#[tokio::test]
async fn a_connection_that_hangs_is_given_up_and_another_is_made() {
    let wired = wired().await;
    wired.proxy.strand();
    let asked = Instant::now();
    let error = wired.any_user().await.unwrap_err();
    assert!(
        error.is_unavailable() && error.to_string().contains("no answer"),
        "{error}"
    );
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    // The pool does not hand it out again.
    wired.any_user().await.unwrap();
}

#[tokio::test]
async fn a_role_that_may_not_connect_any_more_is_an_outage() {
    let wired = wired().await;
    // Roles are the cluster's: this one is the test's own.
    let name = format!("limited_{}", wired.fixture.urls.name);
    wired
        .fixture
        .sql(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'secret' CONNECTION LIMIT 0"
        ))
        .await;
    let (_, address) = wired.fixture.urls.app_url.split_once('@').unwrap();
    let limited = Database::new(&format!("postgres://{name}:secret@{address}"), 1).unwrap();
    let error = limited.ping().await.unwrap_err();
    assert!(
        error.is_unavailable() && error.to_string().contains("too many connections"),
        "{error}"
    );
}
