//! The receipt of a session: begun when every file has its outcome, written into the bucket, and sealed together with
//! the final status. What it says is decided once a run, in the database, so that a job that is begun again writes the
//! same.
//!
//! A store that does not take it is waited for as long as for files (`STORE_PATIENCE_S`). Then the session ends all the
//! same, as what it is, and says that its receipt is not in the bucket: it is signed, and can be had from the API.

use crate::lease::Lease;
use crate::worker::{JobFailure, service_delay};
use buckets::ObjectWriter;
use buckets::receipts::{CompanyKey, NoKey, company_key, entry, header};
use database::jobs::{self, Settled, WorkOrder};
use database::receipts::{self as stored, Seal};
use database::{TenantConn, cycles, files};
use domain::object_key::object_key;
use receipts::{Writer, receipt_key, signed_message};
use std::sync::Arc;
use std::time::Duration;
use storage::{Bucket, StorageError, StorageErrorKind};

/// Files read in one go.
const PAGE: i64 = 1_000;
/// Requests for a receipt are tried as often as the others of a finish job; the job itself comes again.
const STORE_ATTEMPTS: u32 = 3;
/// How long a multipart upload that an earlier holder left open is looked for.
const ABORT_PATIENCE: Duration = Duration::from_secs(30);

/// What became of a receipt that was due.
pub struct Written {
    /// What is recorded of it; nothing where it could not be signed.
    pub seal: Option<Seal>,
    /// Why it is not in the bucket, if so.
    pub missing: Option<String>,
}

/// A receipt that is begun.
struct Begun {
    header: String,
    /// Whether the store may be waited for.
    is_patient: bool,
}

/// Writes the receipt of a session, if it is to have one.
///
/// # Errors
/// Why the job did not come to its end, the store that is waited for among them.
pub async fn write(lease: &Arc<Lease>, order: &WorkOrder) -> Result<Option<Written>, JobFailure> {
    let Some(begun) = begin(lease, order).await? else {
        return Ok(None);
    };
    failpoint::at!("finish.before_receipt");
    let key = match lease.keep(async { Ok(key(lease).await) }).await? {
        Ok(key) => key,
        Err(NoKey::Database(error)) => return Err(JobFailure::Database(error)),
        Err(error) => {
            tracing::error!(session_id = %lease.claim.session_id, "no receipt: {error}");
            let missing = Some(format!("{error}"));
            return Ok(Some(Written { seal: None, missing }));
        }
    };
    let mut target = Target::new(lease, order).await?;
    let seal = lease
        .keep(stream(lease, order, &begun, &key, &mut target))
        .await?;
    if let Target::Open(_) = target {
        failpoint::at!("finish.after_receipt");
        tracing::info!(session_id = %lease.claim.session_id, size_bytes = seal.size_bytes, "receipt written");
    }
    let missing = match target {
        Target::Open(_) => None,
        Target::Lost(detail) => {
            tracing::warn!(session_id = %lease.claim.session_id, "the receipt is not in the bucket: {detail}");
            Some(detail)
        }
    };
    Ok(Some(Written {
        seal: Some(seal),
        missing,
    }))
}

/// The company's key. An outage of the database is waited for, as by every transaction of a job.
async fn key(lease: &Lease) -> Result<CompanyKey, NoKey> {
    let worker = &lease.worker;
    let mut failures = 0;
    loop {
        match company_key(&worker.database, &worker.targets.buckets, lease.claim.company_id).await {
            Err(NoKey::Database(error)) if error.is_unavailable() => {
                failures += 1;
                tokio::time::sleep(service_delay(failures)).await;
            }
            key => return key,
        }
    }
}

/// Settles the session and begins its receipt, unless that was done before.
async fn begin(lease: &Lease, order: &WorkOrder) -> Result<Option<Begun>, JobFailure> {
    let begun = lease
        .renewing(|claim, term| {
            let (order, worker) = (order.clone(), lease.worker.clone());
            async move |conn: &mut TenantConn| {
                let (header, is_patient) = match jobs::settle(conn, &claim, term).await? {
                    None => return Ok(None),
                    Some(Settled::Before {
                        header,
                        age,
                        is_cancelled,
                    }) => (header, age < worker.store_patience && !is_cancelled),
                    Some(Settled::Now(session, ended_at)) => {
                        let cycle = cycles::get(conn, session.cycle_id).await?;
                        let header = header(&worker.targets.buckets, &order, &cycle, &session, ended_at);
                        let header = header.to_canonical();
                        stored::begin(conn, &claim, session.status, &header).await?;
                        (header, true)
                    }
                };
                Ok(Some(Begun { header, is_patient }))
            }
        })
        .await?;
    Ok(begun)
}

/// Where a receipt goes.
enum Target {
    Open(Box<ObjectWriter>),
    /// It goes nowhere, for this cause; what is recorded of it is worked out all the same.
    Lost(String),
}

impl Target {
    /// The object of the session's receipt.
    async fn new(lease: &Arc<Lease>, order: &WorkOrder) -> Result<Self, JobFailure> {
        let session = &order.session;
        let key = receipt_key(&session.key_prefix, &session.settings.target_prefix, session.id);
        if let Err(error) = object_key("", &key) {
            return Ok(Self::Lost(format!("the receipt cannot be named: {error}")));
        }
        let bucket = match lease.worker.targets.bucket(order) {
            Ok(bucket) => bucket.with_max_attempts(STORE_ATTEMPTS),
            Err(failure) => return Ok(Self::Lost(failure.to_string())),
        };
        // Another worker may write the receipt of a later run when this one's lease is over.
        let fence = lease.clone();
        let bucket = bucket.with_fence(Arc::new(move || fence.holds()));
        if lease.claim.epoch > 1 {
            still_ours(lease).await?;
            let closing = tokio::time::timeout(ABORT_PATIENCE, abort_earlier(&bucket, &key));
            lease.keep(async { Ok(closing.await) }).await?.ok();
        }
        let token = format!("{}/{}/receipt", session.id, lease.claim.run);
        let object = ObjectWriter::new(bucket, key, token, "application/json");
        Ok(Self::Open(Box::new(object)))
    }

    /// Takes the bytes in `buffer`. With a store that may be waited for, a passing error ends the job.
    async fn take(&mut self, buffer: &mut Vec<u8>, is_patient: bool) -> Result<(), JobFailure> {
        if let Self::Open(object) = self
            && let Err(error) = object.write(buffer).await
        {
            self.lose(&error, is_patient).await?;
        }
        buffer.clear();
        Ok(())
    }

    /// Makes the object.
    async fn finish(&mut self, is_patient: bool) -> Result<(), JobFailure> {
        let Self::Open(object) = self else { return Ok(()) };
        match object.finish().await {
            Ok(stored) if stored.checksum.is_some() => Ok(()),
            Ok(_) => {
                *self = Self::Lost("the store did not confirm the receipt's checksum".to_owned());
                Ok(())
            }
            Err(error) => self.lose(&error, is_patient).await,
        }
    }

    async fn lose(&mut self, error: &StorageError, is_patient: bool) -> Result<(), JobFailure> {
        self.close().await;
        let detail = format!("the store does not take the receipt: {error}");
        if is_patient && may_pass(error) {
            return Err(JobFailure::ReceiptWaits(detail));
        }
        *self = Self::Lost(detail);
        Ok(())
    }

    /// Leaves no multipart upload open, where that can be had.
    async fn close(&mut self) {
        if let Self::Open(object) = self
            && let Err(error) = object.abort().await
        {
            tracing::warn!("a receipt's multipart upload may stay open: {error}");
        }
    }
}

/// Reads all files, page by page, and writes the receipt as it goes; gives what is to be recorded of it.
async fn stream(
    lease: &Lease,
    order: &WorkOrder,
    begun: &Begun,
    key: &CompanyKey,
    target: &mut Target,
) -> Result<Seal, JobFailure> {
    let (mut after, mut size_bytes, mut buffer) = (None, 0, Vec::new());
    let own_key = receipt_key(
        &order.session.key_prefix,
        &order.session.settings.target_prefix,
        order.session.id,
    );
    let mut writer = Writer::new(&begun.header, &mut buffer);
    loop {
        let page = lease
            .transact(|claim, _| {
                async move |conn: &mut TenantConn| {
                    let filter = files::FileFilter::default();
                    Ok(files::list(conn, claim.session_id, &filter, after, PAGE).await?)
                }
            })
            .await?;
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        for file in page {
            let entry = entry(file, &order.session.key_prefix);
            if entry.key == own_key {
                // A file of the source has the very name: what was delivered is not written over.
                target.close().await;
                *target = Target::Lost(format!("a file of the session has its key, {own_key:?}"));
            }
            writer.entry(&entry, &mut buffer);
        }
        size_bytes += buffer.len();
        still_ours(lease).await?;
        target.take(&mut buffer, begun.is_patient).await?;
    }
    let root = writer.finish();
    let signature = key.key.sign(&signed_message(&begun.header, root));
    Writer::tail(root, &key.key.public_key(), &signature, &mut buffer);
    size_bytes += buffer.len();
    still_ours(lease).await?;
    target.take(&mut buffer, begun.is_patient).await?;
    target.finish(begun.is_patient).await?;
    Ok(Seal {
        key_id: key.id,
        root: root.0,
        signature,
        size_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
    })
}

/// Asked before anything is sent: a worker that was frozen may wake when another has written the receipt of a later run.
async fn still_ours(lease: &Lease) -> Result<(), JobFailure> {
    if !lease.holds() {
        lease.renew().await?;
    }
    Ok(())
}

/// Whether the store may take later what it does not take now.
fn may_pass(error: &StorageError) -> bool {
    error.is_retryable() || error.kind() == StorageErrorKind::Unreachable
}

/// Aborts what an earlier holder of this job left open on the receipt's key.
async fn abort_earlier(bucket: &Bucket, key: &str) {
    match bucket.list_multipart_uploads(key).await {
        Ok(open) => {
            let same = open.into_iter().filter(|upload| upload.key == key);
            buckets::abort_all(bucket, same.map(|upload| ((), upload.key, upload.upload_id))).await;
        }
        Err(error) => tracing::warn!("cannot look for an earlier upload of the receipt: {error}"),
    }
}
