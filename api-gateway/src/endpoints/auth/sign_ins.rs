//! `GET /api/auth/sign-ins`, `DELETE /api/auth/sign-ins/{id}`.

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::page::{Page, PageParams, PageRequest};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{HttpResponse, delete, get, web};
use chrono::{DateTime, Utc};
use database::refresh_tokens::{self, Family};
use domain::CompanyId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A device on which one is signed in.
#[derive(Serialize, ToSchema)]
struct SignIn {
    id: Uuid,
    /// Whether it is the one that asks.
    is_current: bool,
    company_id: CompanyId,
    company_name: String,
    /// What the device called itself; null if it did not.
    user_agent: Option<String>,
    /// When one signed in on it.
    created_at: DateTime<Utc>,
    /// When it last asked for tokens: at most half an hour before it last did anything.
    last_used_at: DateTime<Utc>,
    /// When one has to sign in on it again, if it is not used until then.
    expires_at: DateTime<Utc>,
}

impl SignIn {
    fn new(family: Family, current: Uuid) -> Self {
        Self {
            id: family.id,
            is_current: family.id == current,
            company_id: CompanyId(family.company_id),
            company_name: family.company_name,
            user_agent: family.user_agent,
            created_at: family.created_at,
            last_used_at: family.last_used_at,
            expires_at: family.expires_at,
        }
    }
}

/// The devices on which one is signed in, in any company, the latest sign-in first.
#[utoipa::path(
    tag = "sign-in",
    params(PageParams),
    responses((status = 200, description = "A page of sign-ins", body = Page<SignIn>)),
)]
#[get("/api/auth/sign-ins")]
pub(crate) async fn list_sign_ins(
    state: web::Data<State>,
    actor: Actor,
    mut query: Query,
) -> Result<web::Json<Page<SignIn>>, ApiError> {
    let page = PageRequest::<Uuid>::read(&mut query);
    query.finish()?;
    let (user_id, after, limit) = (actor.user.id, page.after, page.rows());
    let rows = state
        .database
        .system(async move |conn| {
            refresh_tokens::families(conn, user_id, after, limit, Utc::now())
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let view = |family| SignIn::new(family, actor.family_id);
    page.page(rows, |last| last.id, view).map(web::Json)
}

/// End a sign-in of one's own: the tokens on that device count no more.
#[utoipa::path(
    tag = "sign-in",
    params(("id" = Uuid, Path)),
    responses((status = 204, description = "Ended")),
)]
#[delete("/api/auth/sign-ins/{id}")]
pub(crate) async fn end_sign_in(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let user_id = actor.user.id;
    let has_ended = state
        .database
        .system(async move |conn| {
            refresh_tokens::revoke_own_family(conn, user_id, id, Utc::now())
                .await
                .map_err(ApiError::from)
        })
        .await?;
    if !has_ended {
        return Err(ApiError::new(Code::NotFound));
    }
    state.sign_ins.forget();
    Ok(HttpResponse::NoContent().finish())
}
