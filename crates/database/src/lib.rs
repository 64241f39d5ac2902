//! Postgres: the pool, the two scopes, the schema, and one module per aggregate with its queries.
//!
//! **Tenancy is a type.** Every query takes a [`TenantConn`] or a [`SystemConn`]. A [`TenantConn`] exists only
//! inside [`Database::tenant`]: one transaction, as the role `uploader_tenant`, with the company set in it, so
//! that row-level security shows that company's rows and no others. A [`SystemConn`] exists only inside
//! [`Database::system`] and reaches across companies: claims, sweeping, sign-in, platform administration. The
//! runtime login itself may do nothing; there is no third way to a table.

pub mod accounts;
pub mod companies;
pub mod cycles;
pub mod error;
pub mod files;
pub mod jobs;
pub mod leftovers;
#[doc(hidden)]
pub mod measured;
pub mod members;
pub mod migrate;
pub mod plans;
mod prepared;
pub mod projects;
pub mod receipts;
pub mod refresh_tokens;
pub mod retention;
mod schema;
mod scope;
pub mod sessions;
pub mod sweep;
pub mod workload;

pub use error::DatabaseError;
pub use scope::{Database, ScopeFn, SystemConn, TenantConn};
