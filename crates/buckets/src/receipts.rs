//! From what is recorded to the parts of a receipt, for gateway and workers alike: the company's key, the header, and
//! a file's entry.

use crate::open::Buckets;
use chrono::{DateTime, SecondsFormat, Utc};
use database::cycles::Cycle;
use database::files::File;
use database::jobs::WorkOrder;
use database::receipts::{self as stored, Key};
use database::sessions::Session;
use database::{Database, DatabaseError, TenantConn};
use domain::{CompanyId, FileErrorCode, FileStatus};
use identity::SealError;
use identity::sealing::{open_receipt_key, seal_receipt_key};
use receipts::{
    ByteCounts, Company, Counts, Entry, FORMAT, FileCounts, Header, KeyError, Named, SessionPart, SigningKey,
    Source, Tool,
};
use uuid::Uuid;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It was sealed with another `SECRETS_KEY`, or is damaged.
    #[error("the company's key for receipts cannot be opened: {0}")]
    Sealed(#[from] SealError),
    /// It is none, or none can be made.
    #[error("the company's key for receipts cannot be used: {0}")]
    Unusable(#[from] KeyError),
}

/// A company's key, and its id in the database.
#[derive(Debug)]
pub struct CompanyKey {
    /// Its id.
    pub id: Uuid,
    /// The key.
    pub key: SigningKey,
}

/// The key that signs a company's receipts; it is made when it is needed first.
///
/// One that cannot be opened is not replaced: a worker with a wrong `SECRETS_KEY` would otherwise change, without
/// anybody asking for it, what everybody who holds the company's public key believes.
///
/// # Errors
/// Why there is none.
pub async fn company_key(
    database: &Database,
    buckets: &Buckets,
    company_id: CompanyId,
) -> Result<CompanyKey, NoKey> {
    let known = database
        .tenant(company_id, async |conn: &mut TenantConn| {
            stored::signing_key(conn).await
        })
        .await?;
    let key = match known {
        Some(key) => key,
        None => make_key(database, buckets, company_id).await?,
    };
    let seed = open_receipt_key(buckets.secrets_key(), company_id, key.id, &key.private_key_sealed)?;
    let signing = SigningKey::from_seed(&seed)?;
    if signing.public_key().as_bytes() != key.public_key {
        return Err(KeyError::NotPrivate.into());
    }
    Ok(CompanyKey {
        id: key.id,
        key: signing,
    })
}

/// Makes a key, unless somebody else does at the same time: then theirs counts.
async fn make_key(database: &Database, buckets: &Buckets, company_id: CompanyId) -> Result<Key, NoKey> {
    let (id, seed) = (Uuid::now_v7(), SigningKey::new_seed()?);
    let public_key = SigningKey::from_seed(&seed)?.public_key();
    let sealed = seal_receipt_key(buckets.secrets_key(), company_id, id, &seed)?;
    let key = database
        .tenant(company_id, async move |conn: &mut TenantConn| {
            stored::add_key(conn, id, public_key.as_bytes(), &sealed).await
        })
        .await?;
    key.ok_or(NoKey::Database(DatabaseError::NotFound))
}

/// The header of a session's receipt. `session` is as it ends, and `ended_at` when its last file had its outcome.
#[must_use]
pub fn header(
    buckets: &Buckets,
    order: &WorkOrder,
    cycle: &Cycle,
    session: &Session,
    ended_at: DateTime<Utc>,
) -> Header {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let (files, bytes, count) = (session.files, session.bytes, |n: i64| {
        u64::try_from(n).unwrap_or(0)
    });
    Header {
        format: FORMAT.to_owned(),
        tool: Tool {
            name: "data-uploader".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        company: Company {
            id: session.company_id,
            code: order.company_code.clone(),
        },
        project: Named {
            id: order.project.id,
            name: order.project.name.clone(),
        },
        cycle: Named {
            id: cycle.id,
            name: cycle.cycle_name.clone(),
        },
        session: SessionPart {
            id: session.id,
            run: session.run,
            status: session.status,
            created_at: time(session.created_at),
            started_at: session.started_at.map(time),
            ended_at: time(ended_at),
        },
        source: Source {
            root: settings::root_name(&session.source_root).to_owned(),
            path: session.source_path.clone(),
        },
        bucket: order.project.bucket.clone(),
        region: order.project.region.clone(),
        endpoint_url: buckets.endpoint_url(&order.project).map(str::to_owned),
        key_prefix: session.key_prefix.clone(),
        settings: serde_json::to_value(&session.settings).unwrap_or_default(),
        counts: Counts {
            files: FileCounts {
                total: count(files.total),
                uploaded: count(files.uploaded),
                skipped: count(files.skipped),
                failed: count(files.failed),
                cancelled: count(files.cancelled),
            },
            bytes: ByteCounts {
                total: count(bytes.total),
                uploaded: count(bytes.uploaded),
                skipped: count(bytes.skipped),
                failed: count(bytes.failed),
            },
        },
    }
}

/// A file as it stands in the receipt of a session whose keys begin with `key_prefix`. Only of what the bucket
/// has are there a checksum and an `ETag`: what an attempt that failed left in a row proves nothing.
#[must_use]
pub fn entry(file: File, key_prefix: &str) -> Entry {
    let is_there = match file.status {
        FileStatus::Uploaded => true,
        FileStatus::Skipped => file.error_code == Some(FileErrorCode::Unchanged.into()),
        _ => false,
    };
    Entry {
        checksum: file.checksum.filter(|_| is_there),
        error_code: file.error_code.map(|code| code.to_string()),
        etag: file.etag.filter(|_| is_there),
        key: format!("{key_prefix}{}", file.path),
        number: file.number,
        path_is_encoded: file.path_is_encoded,
        size_bytes: u64::try_from(file.size_bytes).unwrap_or(0),
        status: file.status,
    }
}
