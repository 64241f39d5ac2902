//! The receipt of a session: begun when every file has its outcome, written into the bucket, and sealed together with
//! the final status. What it says is decided once a run, in the database, so that a job that is begun again writes the
//! same.
//!
//! A store that does not take it is waited for as long as for files (`STORE_PATIENCE_S`). Then the session ends all the
//! same, as what it is, and says that its receipt is not in the bucket: it is signed, and can be had from the API.

use crate::lease::Lease;
use crate::receipt_object::{ReceiptObject, Trouble, has_predecessor, may_pass};
use crate::worker::{JobFailure, service_delay};
use buckets::ObjectWriter;
use buckets::receipts::{CompanyKey, NoKey, company_key, entry, header};
use database::jobs::{self, Settled, WorkOrder};
use database::receipts::{self as stored, Seal};
use database::{TenantConn, cycles, files};
use receipts::{Writer, signed_message};
use std::sync::Arc;
use std::time::Duration;
use storage::StorageError;

/// Files read in one go.
const PAGE: i64 = 1_000;
/// How long the store may take to withdraw a receipt that does not hold any more.
const WITHDRAWAL_PATIENCE: Duration = Duration::from_secs(30);

/// What became of a receipt that was due, or of one that does not hold any more.
pub struct Written {
    /// What is recorded of it; nothing where it could not be signed.
    pub seal: Option<Seal>,
    /// Why it is not in the bucket, if so, or why an earlier one still is.
    pub missing: Option<String>,
}

/// What a session comes to.
enum Due {
    /// A receipt, which is begun.
    Receipt(Begun),
    /// None; whether one was begun earlier and may be in the bucket.
    Nothing { was_begun: bool },
}

/// A receipt that is begun.
struct Begun {
    header: String,
    /// Whether the store may be waited for.
    is_patient: bool,
}

/// Writes the receipt of a session, if it is to have one. Where none comes into the bucket, none that was written earlier
/// stays there either: it says what is not so any more.
///
/// # Errors
/// Why the job did not come to its end, the store that is waited for among them.
pub async fn write(lease: &Arc<Lease>, order: &WorkOrder) -> Result<Option<Written>, JobFailure> {
    let object = ReceiptObject::new(lease, order);
    let begun = match begin(lease, order).await? {
        Due::Receipt(begun) => begun,
        Due::Nothing { was_begun: false } => return Ok(None),
        Due::Nothing { was_begun: true } => {
            let missing = withdraw(lease, &object).await?;
            return Ok(missing.map(|still| Written {
                seal: None,
                missing: Some(still),
            }));
        }
    };
    failpoint::at!("finish.before_receipt");
    let (seal, missing) = match lease.keep(async { Ok(key(lease).await) }).await? {
        Ok(key) => {
            let mut target = Target::open(lease, &object, begun.is_patient).await?;
            let streamed = lease.keep(stream(lease, order, &begun, &key, &mut target)).await;
            if let Err(JobFailure::Fenced) = streamed {
                // Whoever has the job now may have looked before this one was opened.
                target.close().await;
            }
            let seal = streamed?;
            match target {
                Target::Open(_) => {
                    failpoint::at!("finish.after_receipt");
                    tracing::info!(session_id = %lease.claim.session_id, size_bytes = seal.size_bytes, "receipt written");
                    (Some(seal), None)
                }
                Target::Lost { detail, may_be_there } => (Some(seal), Some((detail, may_be_there))),
            }
        }
        Err(NoKey::Database(error)) => return Err(JobFailure::Database(error)),
        Err(error) => (None, Some((error.to_string(), false))),
    };
    let missing = match missing {
        None => None,
        Some((detail, may_be_there)) => {
            tracing::error!(session_id = %lease.claim.session_id, "the receipt is not in the bucket: {detail}");
            let still = if may_be_there || has_predecessor(lease) {
                withdraw(lease, &object).await?
            } else {
                None
            };
            Some(match still {
                Some(still) => format!("{detail}; {still}"),
                None => detail,
            })
        }
    };
    Ok(Some(Written { seal, missing }))
}

/// Leaves no receipt of the session in the bucket; gives, in words, why one may still be there.
async fn withdraw(
    lease: &Lease,
    object: &Result<ReceiptObject, String>,
) -> Result<Option<String>, JobFailure> {
    let cause = match object {
        Err(detail) => detail.clone(),
        Ok(object) => {
            let withdrawal = tokio::time::timeout(WITHDRAWAL_PATIENCE, object.withdraw());
            match lease.keep(async { Ok(withdrawal.await) }).await? {
                Ok(Ok(())) => return Ok(None),
                Ok(Err(Trouble::Job(failure))) => return Err(failure),
                Ok(Err(Trouble::Store(error))) => error.to_string(),
                Err(_elapsed) => "the store does not answer".to_owned(),
            }
        }
    };
    tracing::error!(session_id = %lease.claim.session_id, "a receipt that does not hold any more may still be in the bucket: {cause}");
    Ok(Some(format!(
        "one that does not hold any more may still be in the bucket: {cause}"
    )))
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
async fn begin(lease: &Lease, order: &WorkOrder) -> Result<Due, JobFailure> {
    let due = lease
        .renewing(|claim, term| {
            let (order, worker) = (order.clone(), lease.worker.clone());
            async move |conn: &mut TenantConn| {
                let (header, is_patient) = match jobs::settle(conn, &claim, term).await? {
                    None => {
                        let was_begun = stored::was_begun(conn, claim.session_id).await?;
                        return Ok(Due::Nothing { was_begun });
                    }
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
                Ok(Due::Receipt(Begun { header, is_patient }))
            }
        })
        .await?;
    Ok(due)
}

/// Where a receipt goes.
enum Target {
    Open(Box<ObjectWriter>),
    /// It goes nowhere; what is recorded of it is worked out all the same.
    Lost {
        detail: String,
        /// It was to be completed, and nobody knows what became of that.
        may_be_there: bool,
    },
}

impl Target {
    /// Opens it. With a store that may be waited for, a passing error ends the job.
    async fn open(
        lease: &Lease,
        object: &Result<ReceiptObject, String>,
        is_patient: bool,
    ) -> Result<Self, JobFailure> {
        let object = match object {
            Ok(object) => object,
            Err(detail) => return Ok(Self::lost(detail.clone())),
        };
        match lease.keep(async { Ok(object.open().await) }).await? {
            Ok(writer) => Ok(Self::Open(Box::new(writer))),
            Err(Trouble::Job(failure)) => Err(failure),
            Err(Trouble::Store(error)) => Ok(Self::lost(refused(&error, is_patient)?)),
        }
    }

    fn lost(detail: String) -> Self {
        Self::Lost {
            detail,
            may_be_there: false,
        }
    }

    /// Takes the bytes in `buffer`. With a store that may be waited for, a passing error ends the job.
    async fn take(&mut self, buffer: &mut Vec<u8>, is_patient: bool) -> Result<(), JobFailure> {
        if let Self::Open(object) = self
            && let Err(error) = object.write(buffer).await
        {
            self.close().await;
            *self = Self::lost(refused(&error, is_patient)?);
        }
        buffer.clear();
        Ok(())
    }

    /// Makes the object.
    async fn finish(&mut self, is_patient: bool) -> Result<(), JobFailure> {
        let Self::Open(object) = self else { return Ok(()) };
        let detail = match object.finish().await {
            Ok(stored) if stored.checksum.is_some() => return Ok(()),
            Ok(_) => "the store did not confirm its checksum".to_owned(),
            Err(error) => {
                self.close().await;
                refused(&error, is_patient)?
            }
        };
        *self = Self::Lost {
            detail,
            may_be_there: true,
        };
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

/// What the store's error means for the receipt: it waits, or is lost.
fn refused(error: &StorageError, is_patient: bool) -> Result<String, JobFailure> {
    let detail = format!("the store does not take the receipt: {error}");
    if is_patient && may_pass(error) {
        return Err(JobFailure::ReceiptWaits(detail));
    }
    Ok(detail)
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
    target.take(&mut buffer, begun.is_patient).await?;
    // In the database: a clock may stand still with its machine.
    lease.renew().await?;
    failpoint::at!("receipt.before_complete");
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
