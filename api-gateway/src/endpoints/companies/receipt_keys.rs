//! `GET /api/companies/{id}/receipt-keys`.

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::page::Page;
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use database::TenantConn;
use database::receipts::{self as stored, Key};
use domain::{CompanyId, Permission};
use receipts::PublicKey;
use serde::Serialize;
use utoipa::ToSchema;

/// A key that signs receipts, or did so once.
#[derive(Serialize, ToSchema)]
struct ReceiptKey {
    /// As receipts name it: the first 8 bytes of the key's SHA-256 in hexadecimal.
    id: String,
    /// `ed25519`.
    algorithm: &'static str,
    /// 32 bytes in base64.
    public_key: String,
    /// The same in PEM, as other tools take it.
    public_key_pem: String,
    created_at: DateTime<Utc>,
    /// Since when it signs nothing more; what it signed before still counts.
    retired_at: Option<DateTime<Utc>>,
}

impl TryFrom<Key> for ReceiptKey {
    type Error = ApiError;

    fn try_from(key: Key) -> Result<Self, ApiError> {
        let public_key = PublicKey::from_bytes(&key.public_key).map_err(ApiError::internal)?;
        Ok(Self {
            id: public_key.id(),
            algorithm: "ed25519",
            public_key: public_key.to_base64(),
            public_key_pem: public_key.to_pem(),
            created_at: key.created_at,
            retired_at: key.retired_at,
        })
    }
}

/// The keys that sign the receipts of one's own company, the oldest first. The first is made with the first receipt.
#[utoipa::path(
    tag = "companies",
    params(("id" = CompanyId, Path)),
    responses((status = 200, description = "All keys, on one page", body = Page<ReceiptKey>)),
)]
#[get("/api/companies/{id}/receipt-keys")]
pub(crate) async fn receipt_keys(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<CompanyId>,
) -> Result<web::Json<Page<ReceiptKey>>, ApiError> {
    actor.require(Permission::CompanyRead)?;
    if id != actor.company_id {
        return Err(ApiError::new(Code::NotFound));
    }
    let keys = state
        .database
        .tenant(id, async |conn: &mut TenantConn| {
            stored::keys(conn).await.map_err(ApiError::from)
        })
        .await?;
    Ok(web::Json(Page {
        items: keys
            .into_iter()
            .map(ReceiptKey::try_from)
            .collect::<Result<_, _>>()?,
        next_cursor: None,
    }))
}
