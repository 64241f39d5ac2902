//! Receipts and the keys that sign them. A receipt is begun and sealed by its finish job ([`crate::jobs::settle`],
//! [`seal`]); its files are those of [`crate::files`].

use crate::jobs::Claim;
use crate::{DatabaseError, TenantConn};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::{SessionId, SessionStatus};
use uuid::Uuid;

/// A key that signs receipts, or did so once.
#[derive(Clone, QueryableByName)]
pub struct Key {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The public half, 32 bytes.
    #[diesel(sql_type = Binary)]
    pub public_key: Vec<u8>,
    /// The private half, sealed for this company and id.
    #[diesel(sql_type = Binary)]
    pub private_key_sealed: Vec<u8>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// Since when it signs nothing more.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retired_at: Option<DateTime<Utc>>,
}

const KEY_COLUMNS: &str = "id, public_key, private_key_sealed, created_at, retired_at";

/// All keys of the company, the oldest first.
///
/// # Errors
/// The database's.
pub async fn keys(conn: &mut TenantConn) -> Result<Vec<Key>, DatabaseError> {
    let company_id = conn.company_id();
    let query =
        format!("SELECT {KEY_COLUMNS} FROM receipt_keys WHERE company_id = $1 ORDER BY created_at, id");
    Ok(sql_query(query)
        .bind::<SqlUuid, _>(company_id.0)
        .load(conn.raw())
        .await?)
}

/// The key that signs for the company; `None`: none was needed yet.
///
/// # Errors
/// The database's.
pub async fn signing_key(conn: &mut TenantConn) -> Result<Option<Key>, DatabaseError> {
    let company_id = conn.company_id();
    let query =
        format!("SELECT {KEY_COLUMNS} FROM receipt_keys WHERE company_id = $1 AND retired_at IS NULL");
    Ok(sql_query(query)
        .bind::<SqlUuid, _>(company_id.0)
        .get_result(conn.raw())
        .await
        .optional()?)
}

/// Makes this the company's key, unless it has one by now; gives the one that it has.
///
/// # Errors
/// The database's.
pub async fn add_key(
    conn: &mut TenantConn,
    id: Uuid,
    public_key: &[u8],
    private_key_sealed: &[u8],
) -> Result<Option<Key>, DatabaseError> {
    let company_id = conn.company_id();
    sql_query(
        "INSERT INTO receipt_keys (id, company_id, public_key, private_key_sealed) VALUES ($1, $2, $3, $4)
         ON CONFLICT (company_id) WHERE retired_at IS NULL DO NOTHING",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(company_id.0)
    .bind::<Binary, _>(public_key)
    .bind::<Binary, _>(private_key_sealed)
    .execute(conn.raw())
    .await?;
    signing_key(conn).await
}

/// Begins the receipt of a run: from now on the session ends as `status`. What was begun for an earlier run is
/// replaced. The caller has settled the session in the same transaction.
///
/// # Errors
/// The database's.
pub async fn begin(
    conn: &mut TenantConn,
    claim: &Claim,
    status: SessionStatus,
    header: &str,
) -> Result<(), DatabaseError> {
    sql_query(
        "INSERT INTO receipts (session_id, company_id, run, status, header) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (session_id) DO UPDATE SET run = excluded.run, status = excluded.status,
            header = excluded.header, begun_at = excluded.begun_at, key_id = NULL, root = NULL, signature = NULL,
            size_bytes = NULL",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<SqlUuid, _>(claim.company_id.0)
    .bind::<Integer, _>(claim.run)
    .bind::<Text, _>(status.as_str())
    .bind::<Text, _>(header)
    .execute(conn.raw())
    .await?;
    Ok(())
}

/// Whether a receipt of the session was ever begun, of whatever run, so that one may be in the bucket.
///
/// # Errors
/// The database's.
pub async fn was_begun(conn: &mut TenantConn, session_id: SessionId) -> Result<bool, DatabaseError> {
    let row: Exists = sql_query("SELECT EXISTS (SELECT FROM receipts WHERE session_id = $1) AS is_there")
        .bind::<SqlUuid, _>(session_id.0)
        .get_result(conn.raw())
        .await?;
    Ok(row.is_there)
}

#[derive(QueryableByName)]
struct Exists {
    #[diesel(sql_type = Bool)]
    is_there: bool,
}

/// What a receipt has when all its files were read.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The key that signed.
    pub key_id: Uuid,
    /// The hash over the files.
    pub root: [u8; 32],
    /// Of header and root.
    pub signature: [u8; 64],
    /// Of the whole receipt, in bytes.
    pub size_bytes: i64,
}

/// Records the seal of the receipt that is begun. The caller has renewed the lease in the same transaction.
///
/// # Errors
/// The database's.
pub async fn seal(conn: &mut TenantConn, claim: &Claim, seal: &Seal) -> Result<(), DatabaseError> {
    sql_query(
        "UPDATE receipts SET key_id = $3, root = $4, signature = $5, size_bytes = $6
         WHERE session_id = $1 AND run = $2",
    )
    .bind::<SqlUuid, _>(claim.session_id.0)
    .bind::<Integer, _>(claim.run)
    .bind::<SqlUuid, _>(seal.key_id)
    .bind::<Binary, _>(seal.root.as_slice())
    .bind::<Binary, _>(seal.signature.as_slice())
    .bind::<BigInt, _>(seal.size_bytes)
    .execute(conn.raw())
    .await?;
    Ok(())
}

/// A sealed receipt, without its files.
#[derive(Clone, Debug, QueryableByName)]
pub struct Sealed {
    /// Of which run.
    #[diesel(sql_type = Integer)]
    pub run: i32,
    /// In its canonical form.
    #[diesel(sql_type = Text)]
    pub header: String,
    /// The hash over the files, 32 bytes.
    #[diesel(sql_type = Binary)]
    pub root: Vec<u8>,
    /// Of header and root, 64 bytes.
    #[diesel(sql_type = Binary)]
    pub signature: Vec<u8>,
    /// The key that signed, 32 bytes.
    #[diesel(sql_type = Binary)]
    pub public_key: Vec<u8>,
    /// Of the whole receipt, in bytes.
    #[diesel(sql_type = BigInt)]
    pub size_bytes: i64,
}

/// The sealed receipt of a session, if it has one.
///
/// # Errors
/// The database's.
pub async fn get(conn: &mut TenantConn, session_id: SessionId) -> Result<Option<Sealed>, DatabaseError> {
    Ok(sql_query(
        "SELECT r.run, r.header, r.root, r.signature, k.public_key, r.size_bytes
         FROM receipts r JOIN receipt_keys k ON k.company_id = r.company_id AND k.id = r.key_id
         WHERE r.session_id = $1",
    )
    .bind::<SqlUuid, _>(session_id.0)
    .get_result(conn.raw())
    .await
    .optional()?)
}
