//! What is said of a job outside the database.

use crate::{CompanyId, JobId};

/// The location of jobs that read no source root (`finish`): any worker takes them. No root may have this name.
pub const ANY_LOCATION: &str = "any";

/// A job that waits: what travels through Redis, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// The row in Postgres.
    pub id: JobId,
    /// Whose list it goes to.
    pub company_id: CompanyId,
    /// The source root it reads, as `SOURCE_ROOTS` names it (`data`, or `data@ACME` where it is one company's), or
    /// [`ANY_LOCATION`].
    pub location: String,
    /// Whether it goes before what waits already.
    pub at_head: bool,
}
