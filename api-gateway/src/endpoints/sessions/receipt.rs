//! `GET /api/sessions/{id}/receipt`: the receipt, made anew from what is recorded and streamed, to the byte as it was
//! written beside the data.
//!
//! It was signed when the session ended; nothing is signed here. Should the files no longer be those that were signed
//! (a retry began meanwhile, somebody changed the database), the answer breaks off before its end.

use super::dropped::require_files;
use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::Id;
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, get, web};
use bytes::Bytes;
use database::files::{self, FileFilter};
use database::receipts::{self as stored, Sealed};
use database::sessions::{self, Session};
use database::{DatabaseError, TenantConn};
use domain::{CompanyId, Permission, SessionId, SessionStatus};
use receipts::{PublicKey, Writer};
use std::sync::Arc;

/// Files read in one go.
const PAGE: i64 = 1_000;

/// The receipt of a session that came to its end: what was delivered, file by file, with a root hash, signed with the
/// company's key. `docs/RECEIPTS.md` describes it; `uploader verify` checks it.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, description = "The receipt", body = Object, content_type = "application/json",
            headers(("Content-Disposition" = String, description = "With the name `receipt-{id}.json`"))),
        (status = 409, description = "`session_running`: it has not ended yet; `files_dropped`: its files are no longer recorded, and the receipt is in the bucket alone; `no_receipt`: it was a dry run, was cancelled, failed, ended before there were receipts, or could not be signed",
            body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/api/sessions/{id}/receipt")]
pub(crate) async fn receipt(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionRead)?;
    actor.require(Permission::FileRead)?;
    let company_id = actor.company_id;
    let (session, sealed) = state
        .database
        .tenant(company_id, async move |conn: &mut TenantConn| {
            let session = sessions::get(conn, id).await?;
            let sealed = of_session(&session, stored::get(conn, id).await?)?;
            require_files(conn, &session).await?;
            Ok::<_, ApiError>((session, sealed))
        })
        .await?;
    let reading = Reading::new(state.into_inner(), company_id, &session, sealed)?;
    let size_bytes = reading.left;
    let body = futures::stream::try_unfold(Some(reading), |reading| async move {
        let Some(reading) = reading else { return Ok(None) };
        let id = reading.id;
        reading.next().await.map(Some).inspect_err(|error| {
            tracing::error!(session_id = %id, "the receipt breaks off: {error}");
        })
    });
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"receipt-{id}.json\""),
        ))
        .no_chunking(size_bytes)
        .streaming(body))
}

/// The receipt of the session as it stands, or why there is none.
fn of_session(session: &Session, sealed: Option<Sealed>) -> Result<Sealed, ApiError> {
    let none = |detail: &str| Err(ApiError::new(Code::NoReceipt).detail(detail));
    match session.status {
        status if !status.is_ended() => {
            return Err(ApiError::new(Code::SessionRunning)
                .detail("The session has not ended yet; its receipt is written at its end."));
        }
        SessionStatus::Cancelled => return none("The session was cancelled."),
        SessionStatus::Failed => return none("The session failed."),
        _ if session.settings.dry_run => return none("It was a dry run: nothing was delivered."),
        _ => {}
    }
    match sealed.filter(|sealed| sealed.run == session.run) {
        Some(sealed) => Ok(sealed),
        None => none("The session ended before there were receipts, or its receipt could not be signed."),
    }
}

/// Why a receipt breaks off.
#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("its files are not those that were signed")]
    OtherFiles,
}

/// A receipt that is being sent.
struct Reading {
    state: Arc<State>,
    company_id: CompanyId,
    id: SessionId,
    key_prefix: String,
    sealed: Sealed,
    public_key: PublicKey,
    signature: [u8; 64],
    writer: Writer,
    buffer: Vec<u8>,
    /// What is still to come, in bytes. More than that would be cut off, and the answer look whole.
    left: u64,
    after: Option<i64>,
}

impl Reading {
    fn new(
        state: Arc<State>,
        company_id: CompanyId,
        session: &Session,
        sealed: Sealed,
    ) -> Result<Self, ApiError> {
        let mut buffer = Vec::new();
        Ok(Self {
            state,
            company_id,
            id: session.id,
            key_prefix: session.key_prefix.clone(),
            public_key: PublicKey::from_bytes(&sealed.public_key).map_err(ApiError::internal)?,
            signature: sealed
                .signature
                .as_slice()
                .try_into()
                .map_err(ApiError::internal)?,
            writer: Writer::new(&sealed.header, &mut buffer),
            left: u64::try_from(sealed.size_bytes).map_err(ApiError::internal)?,
            sealed,
            buffer,
            after: None,
        })
    }

    /// The next bytes, and what is left to be sent after them.
    async fn next(mut self) -> Result<(Bytes, Option<Self>), BrokenOff> {
        let (id, after) = (self.id, self.after);
        let page = self
            .state
            .database
            .tenant(self.company_id, async move |conn: &mut TenantConn| {
                files::list(conn, id, &FileFilter::default(), after, PAGE).await
            })
            .await?;
        let Some(last) = page.last() else {
            return Ok((self.end()?, None));
        };
        self.after = Some(last.number);
        for file in page {
            let entry = buckets::receipts::entry(file, &self.key_prefix);
            self.writer.entry(&entry, &mut self.buffer);
        }
        // Its root hash and signature come after this.
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .filter(|left| *left > 0)
            .ok_or(BrokenOff::OtherFiles)?;
        Ok((bytes, Some(self)))
    }

    fn end(mut self) -> Result<Bytes, BrokenOff> {
        let root = self.writer.finish();
        if root.0.as_slice() != self.sealed.root {
            return Err(BrokenOff::OtherFiles);
        }
        Writer::tail(root, &self.public_key, &self.signature, &mut self.buffer);
        Ok(Bytes::from(self.buffer))
    }
}
