//! Sessions whose files are no longer recorded (`FILE_RETENTION_MONTHS` of the workers): what needs them says so, and
//! where the receipt is that lists them.

use crate::error::{ApiError, Code};
use database::sessions::Session;
use database::{TenantConn, receipts as stored};
use domain::SessionErrorCode;
use receipts::{Header, receipt_key};

/// Goes on only if the session's files are recorded.
pub(super) async fn require_files(conn: &mut TenantConn, session: &Session) -> Result<(), ApiError> {
    let Some(dropped_at) = session.files_dropped_at else {
        return Ok(());
    };
    let receipt = stored::get(conn, session.id).await?;
    let header = receipt
        .filter(|receipt| receipt.run == session.run)
        .and_then(|receipt| serde_json::from_str::<Header>(&receipt.header).ok());
    let day = dropped_at.format("%Y-%m-%d");
    let advice = match header {
        None => "It has no receipt.".to_owned(),
        Some(_) if session.error_code == Some(SessionErrorCode::ReceiptMissing.into()) => {
            "Its receipt did not reach the bucket.".to_owned()
        }
        Some(header) => {
            let key = receipt_key(&session.key_prefix, &session.settings.target_prefix, session.id);
            format!(
                "Its receipt, which lists them, is in the bucket {}, at {key}.",
                header.bucket
            )
        }
    };
    Err(ApiError::new(Code::FilesDropped).detail(format!(
        "The files of this session have not been recorded since {day}; its counts are. {advice}"
    )))
}
