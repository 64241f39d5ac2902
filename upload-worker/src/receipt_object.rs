//! The object of a receipt: one that holds is there, or none.
//!
//! S3 knows no fence, but it knows multipart uploads. A receipt is written by one, and whoever takes the finish job over
//! first closes those that are open on its key; so a worker that was frozen and wakes has nothing left that it could
//! complete. For that, each asks the database *between* two requests whether it still has the job: between looking for
//! what is open and closing it (what it saw is then of earlier holders), and between opening its own and completing it
//! (whoever comes later then finds it). A DELETE cannot be closed by others: one that is frozen between its last question
//! and that very request may delete the receipt of a later run. The API still has that, signed.

use crate::lease::Lease;
use crate::worker::JobFailure;
use buckets::ObjectWriter;
use database::jobs::{JobError, WorkOrder};
use domain::object_key::check_key;
use receipts::{receipt_key, withdrawn};
use std::sync::Arc;
use storage::{Bucket, StorageError, StorageErrorKind};

/// Requests for a receipt are tried as often as the others of a finish job; the job itself comes again.
const STORE_ATTEMPTS: u32 = 3;
const CONTENT_TYPE: &str = "application/json";

/// Where the receipt of a session is, or would be.
pub struct ReceiptObject {
    lease: Arc<Lease>,
    bucket: Bucket,
    key: String,
    token: String,
}

/// Why nothing came of it.
pub enum Trouble {
    /// The job cannot go on here.
    Job(JobFailure),
    /// The store.
    Store(StorageError),
}

impl From<JobError> for Trouble {
    fn from(error: JobError) -> Self {
        Self::Job(error.into())
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

impl ReceiptObject {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// In words, when there can be no such object, or the bucket cannot be opened.
    pub fn new(lease: &Arc<Lease>, order: &WorkOrder) -> Result<Self, String> {
        let session = &order.session;
        let key = receipt_key(&session.key_prefix, &session.settings.target_prefix, session.id);
        check_key(&key).map_err(|error| format!("the receipt cannot be named: {error}"))?;
        let bucket = lease
            .worker
            .targets
            .bucket(order)
            .map_err(|failure| failure.to_string())?;
        let fence = lease.clone();
        Ok(Self {
            lease: lease.clone(),
            bucket: bucket
                .with_max_attempts(STORE_ATTEMPTS)
                .with_fence(Arc::new(move || fence.holds())),
            key,
            token: format!("{}/{}/receipt", session.id, lease.claim.run),
        })
    }

    /// Closes what earlier holders left open, and opens an upload. The lease is to be renewed before it is finished.
    ///
    /// # Errors
    /// Why not.
    pub async fn open(&self) -> Result<ObjectWriter, Trouble> {
        self.close_earlier().await?;
        let (bucket, key, token) = (self.bucket.clone(), self.key.clone(), self.token.clone());
        Ok(ObjectWriter::open(bucket, key, token, CONTENT_TYPE).await?)
    }

    /// Leaves none there: what was written of this session does not hold any more. Where nothing may be deleted, a note
    /// is written over it.
    ///
    /// # Errors
    /// Why it may still be there.
    pub async fn withdraw(&self) -> Result<(), Trouble> {
        self.close_earlier().await?;
        let Some(object) = self.bucket.head(&self.key).await? else {
            return Ok(());
        };
        if object.token.is_some_and(|token| !token.ends_with("/receipt")) {
            // A file that a session delivered under this very name.
            return Ok(());
        }
        self.lease.renew().await?;
        match self.bucket.delete(&self.key).await {
            Err(error) if error.kind() == StorageErrorKind::AccessDenied => self.write_note().await?,
            deleted => deleted?,
        }
        tracing::info!(session_id = %self.lease.claim.session_id, "an earlier receipt was withdrawn");
        Ok(())
    }

    /// Writes over what may not be deleted. Leaves no upload open, where that can be had.
    async fn write_note(&self) -> Result<(), Trouble> {
        let mut note = self.open().await?;
        let written = async {
            note.write(withdrawn().as_bytes()).await?;
            self.lease.renew().await?;
            note.finish().await?;
            Ok(())
        };
        let written = written.await;
        if written.is_err()
            && let Err(error) = note.abort().await
        {
            tracing::warn!("a multipart upload over a receipt may stay open: {error}");
        }
        written
    }

    /// Closes the uploads of earlier holders.
    async fn close_earlier(&self) -> Result<(), Trouble> {
        if !has_predecessor(&self.lease) {
            return Ok(());
        }
        let open = match self.bucket.list_multipart_uploads(&self.key).await {
            Ok(open) => open,
            Err(error) if may_pass(&error) => return Err(error.into()),
            Err(error) => {
                tracing::warn!("cannot look for an earlier upload of the receipt: {error}");
                return Ok(());
            }
        };
        self.lease.renew().await?;
        failpoint::at!("receipt.before_abort");
        for upload in open.into_iter().filter(|upload| upload.key == self.key) {
            self.bucket.abort_multipart(&self.key, &upload.upload_id).await?;
        }
        // One that was frozen meanwhile opens nothing more: nobody would close that.
        self.lease.renew().await?;
        Ok(())
    }
}

/// Whether an earlier holder may have written a receipt of the session, or write it still.
pub fn has_predecessor(lease: &Lease) -> bool {
    lease.claim.epoch > 1 || lease.claim.run > 1
}

/// Whether the store may take later what it does not take now. An upload that somebody closed is begun anew.
pub fn may_pass(error: &StorageError) -> bool {
    error.is_retryable()
        || matches!(
            error.kind(),
            StorageErrorKind::Unreachable | StorageErrorKind::NoSuchUpload
        )
}
