//! Statements that each connection prepares once: to parse and plan the large ones costs Postgres more than to run them
//! for some hundred rows.
//!
//! What is planned once must be planned well whatever is in the tables by then: a session that has just begun is in no
//! statistics, from which the planner concludes that it has no files, and then walks through all of them for each
//! outcome. So such a statement names its rows by what an index finds, and [`by_index`] leaves no other way.

use crate::{DatabaseError, TenantConn};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel_async::SimpleAsyncConnection;

/// A statement whose text is always the same. (Diesel prepares none that was given to it as text: it cannot know.)
pub(crate) struct Prepared<Q>(pub(crate) Q);

impl<Q: Query> Query for Prepared<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> QueryId for Prepared<Q> {
    type QueryId = ();
    // It is known by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

/// Until the end of the transaction, plans go through indexes and visit each row once, whatever the statistics say.
///
/// # Errors
/// The database's.
pub(crate) async fn by_index(conn: &mut TenantConn) -> Result<(), DatabaseError> {
    let settings = "SET LOCAL enable_seqscan = off; SET LOCAL enable_nestloop = off";
    Ok(conn.raw().batch_execute(settings).await?)
}
