//! One step alone, for those who measure it: `make instructions`. Nobody else may use it.

use crate::DatabaseError;
use crate::jobs::{FileOutcome, outcomes_statement};
use diesel::pg::{Pg, PgMetadataLookup, PgTypeMetadata};
use diesel::query_builder::QueryFragment as _;
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use domain::SessionId;

/// How many bytes of values [`crate::jobs::record_outcomes`] sends for these, which is all it does by itself.
///
/// # Errors
/// When one cannot be written as Postgres wants it.
pub fn outcome_bytes(session_id: SessionId, outcomes: &[FileOutcome]) -> Result<usize, DatabaseError> {
    /// The statement has built-in types alone.
    struct NoTypes;
    impl PgMetadataLookup for NoTypes {
        fn lookup_type(&mut self, _name: &str, _schema: Option<&str>) -> PgTypeMetadata {
            PgTypeMetadata::new(0, 0)
        }
    }
    let Some(statement) = outcomes_statement(session_id, outcomes) else {
        return Ok(0);
    };
    let mut values = RawBytesBindCollector::<Pg>::new();
    statement.collect_binds(&mut values, &mut NoTypes, &Pg)?;
    Ok(values.binds.iter().flatten().map(Vec::len).sum())
}
