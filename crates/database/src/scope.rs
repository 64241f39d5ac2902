//! The pool and the two scopes; see the crate's documentation.

use crate::DatabaseError;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, TransactionManager,
};
use domain::CompanyId;
use futures::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait for a connection, or for the answer to BEGIN on one, before the database counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a transaction may take. The server ends statements and idle transactions earlier: this is for
/// connections on which no answer comes any more, though nobody closed them.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for one that has statements as long as [`TenantConn::allow_long_statements`] allows.
const LONG_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(35 * 60);

/// A callback whose future is `Send`; what `AsyncFnOnce` alone cannot say (the same device as diesel-async's).
pub trait ScopeFn<Conn, Output>: AsyncFnOnce(Conn) -> Output + FnOnce(Conn) -> Self::Fut {
    /// The callback's future.
    type Fut: Future<Output = Output>;
}

impl<F, Conn, Fut, Output> ScopeFn<Conn, Output> for F
where
    F: AsyncFnOnce(Conn) -> Output + FnOnce(Conn) -> Fut,
    Fut: Future<Output = Output>,
{
    type Fut = Fut;
}

/// A pool of connections as the runtime login, which can do nothing but open a scope.
#[derive(Clone)]
pub struct Database {
    pool: Pool<AsyncPgConnection>,
}

/// One transaction in one company's scope.
pub struct TenantConn {
    conn: Object<AsyncPgConnection>,
    company_id: CompanyId,
    is_long: Arc<AtomicBool>,
}

/// One transaction across companies.
pub struct SystemConn {
    conn: Object<AsyncPgConnection>,
}

impl TenantConn {
    /// The company whose rows are seen here.
    #[must_use]
    pub fn company_id(&self) -> CompanyId {
        self.company_id
    }

    /// Lets the statements of this transaction that touch every file of a session take their time.
    pub(crate) async fn allow_long_statements(&mut self) -> Result<(), DatabaseError> {
        self.is_long.store(true, Ordering::Relaxed);
        self.conn
            .batch_execute("SET LOCAL statement_timeout = '30min'")
            .await?;
        Ok(())
    }

    pub(crate) fn raw(&mut self) -> &mut AsyncPgConnection {
        &mut self.conn
    }
}

impl SystemConn {
    pub(crate) fn raw(&mut self) -> &mut AsyncPgConnection {
        &mut self.conn
    }
}

/// Of every connection. Plans are made without looking at the values: a new session is in no statistics, from which the
/// planner concludes that it has no files, and then walks through all of them for each outcome. Nothing is compiled: a plan
/// that goes by a way that was switched off (see [`crate::prepared`]) looks dear enough to be, which takes a second each time.
const SETTINGS: &str = "SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '60s';
     SET plan_cache_mode = force_generic_plan; SET jit = off; SET application_name = 'data-uploader'";

impl Database {
    /// A pool of at most `max_connections` to `url`. Nothing is connected yet.
    ///
    /// # Errors
    /// When the pool cannot be built.
    pub fn new(url: &str, max_connections: usize) -> Result<Self, DatabaseError> {
        let mut config = ManagerConfig::default();
        // A connection left inside a transaction (its future was dropped) is discarded, not handed on.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(|url| {
            async move {
                let mut conn = AsyncPgConnection::establish(url).await?;
                conn.batch_execute(SETTINGS)
                    .await
                    .map_err(diesel::result::ConnectionError::CouldntSetupConfiguration)?;
                Ok(conn)
            }
            .boxed()
        });
        let url = with_limits(url);
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(url, config);
        let pool = Pool::builder(manager)
            .max_size(max_connections)
            .wait_timeout(Some(CONNECT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| DatabaseError::Unavailable(error.to_string()))?;
        Ok(Self { pool })
    }

    /// Runs `work` in one transaction that sees `company_id`'s rows alone. It commits when `work` gives `Ok`.
    ///
    /// # Errors
    /// What `work` gives, or that the transaction could not be opened or committed.
    pub async fn tenant<R, E, F>(&self, company_id: CompanyId, work: F) -> Result<R, E>
    where
        for<'c> F: AsyncFnOnce(&'c mut TenantConn) -> Result<R, E>
            + ScopeFn<&'c mut TenantConn, Result<R, E>, Fut: Send>
            + Send,
        E: From<DatabaseError> + Send,
        R: Send,
    {
        let mut scope = TenantConn {
            conn: self.connection().await?,
            company_id,
            is_long: Arc::default(),
        };
        let setup = format!("SET LOCAL ROLE uploader_tenant; SET LOCAL app.company = '{company_id}'");
        begin(&mut scope.conn, &setup).await?;
        let is_long = scope.is_long.clone();
        let transaction = async {
            let outcome = work(&mut scope).await;
            end(&mut scope.conn, outcome).await
        };
        within_patience(transaction, &is_long).await
    }

    /// Runs `work` in one transaction that sees every company's rows. It commits when `work` gives `Ok`.
    ///
    /// # Errors
    /// What `work` gives, or that the transaction could not be opened or committed.
    pub async fn system<R, E, F>(&self, work: F) -> Result<R, E>
    where
        for<'c> F: AsyncFnOnce(&'c mut SystemConn) -> Result<R, E>
            + ScopeFn<&'c mut SystemConn, Result<R, E>, Fut: Send>
            + Send,
        E: From<DatabaseError> + Send,
        R: Send,
    {
        let mut scope = SystemConn {
            conn: self.connection().await?,
        };
        begin(&mut scope.conn, "SET LOCAL ROLE uploader_system").await?;
        let transaction = async {
            let outcome = work(&mut scope).await;
            end(&mut scope.conn, outcome).await
        };
        within_patience(transaction, &AtomicBool::new(false)).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] with the cause when it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let mut conn = self.connection().await?;
        begin(&mut conn, "SELECT 1").await?;
        end(&mut conn, Ok(())).await
    }

    async fn connection(&self) -> Result<Object<AsyncPgConnection>, DatabaseError> {
        self.pool
            .get()
            .await
            .map_err(|error| DatabaseError::Unavailable(error.to_string()))
    }
}

/// A server that vanishes without a word (its machine went, the network broke) is noticed within half a minute: the
/// system's own limits are hours. What the URL says itself comes later and counts.
fn with_limits(url: &str) -> String {
    const LIMITS: &str =
        "connect_timeout=5&tcp_user_timeout=20&keepalives_idle=10&keepalives_interval=5&keepalives_retries=3";
    match url.split_once('?') {
        Some((address, options)) => format!("{address}?{LIMITS}&{options}"),
        None => format!("{url}?{LIMITS}"),
    }
}

async fn begin(conn: &mut AsyncPgConnection, setup: &str) -> Result<(), DatabaseError> {
    let begin = async {
        AnsiTransactionManager::begin_transaction(conn).await?;
        Ok(conn.batch_execute(setup).await?)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, begin)
        .await
        .unwrap_or_else(|_elapsed| Err(unanswered(CONNECT_TIMEOUT)))
}

/// Runs a transaction that has begun. One that is given up leaves its connection inside it, to be discarded.
async fn within_patience<R, E: From<DatabaseError>>(
    transaction: impl Future<Output = Result<R, E>>,
    is_long: &AtomicBool,
) -> Result<R, E> {
    let patience = async {
        tokio::time::sleep(TRANSACTION_TIMEOUT).await;
        if is_long.load(Ordering::Relaxed) {
            tokio::time::sleep(LONG_TRANSACTION_TIMEOUT).await;
        }
    };
    tokio::select! {
        biased;
        outcome = transaction => outcome,
        () = patience => Err(unanswered(TRANSACTION_TIMEOUT).into()),
    }
}

fn unanswered(limit: Duration) -> DatabaseError {
    DatabaseError::Unavailable(format!("no answer for {} s", limit.as_secs()))
}

async fn end<R, E: From<DatabaseError>>(conn: &mut AsyncPgConnection, outcome: Result<R, E>) -> Result<R, E> {
    match outcome {
        Ok(value) => {
            AnsiTransactionManager::commit_transaction(conn)
                .await
                .map_err(DatabaseError::from)?;
            Ok(value)
        }
        Err(error) => {
            // The first error is the interesting one; a connection that cannot roll back is discarded.
            let _ = AnsiTransactionManager::rollback_transaction(conn).await;
            Err(error)
        }
    }
}
