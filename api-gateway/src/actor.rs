//! Who asks: the access token, as bearer or in a cookie, is verified, and person, role and sign-in are looked up as they are now. What was
//! looked up is kept for a moment, so that a sign-out or a changed role takes effect within [`KEPT`] everywhere.

use crate::cookies::{self, Kind};
use crate::error::{ApiError, Code};
use crate::request_id;
use crate::state::State;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use chrono::Utc;
use database::accounts::{self, SignedIn, User};
use domain::{CompanyId, Permission, Role, UserId};
use futures::future::LocalBoxFuture;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a look-up is kept.
const KEPT: Duration = Duration::from_secs(2);
/// How many are kept at most.
const MAX_KEPT: usize = 10_000;

/// Somebody signed in, in one company.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub user: User,
    pub company_id: CompanyId,
    pub company_name: String,
    pub company_code: String,
    pub role: Role,
    /// The sign-in: their family of refresh tokens.
    pub family_id: Uuid,
}

/// As [`Actor`], before a password that must be changed has been: for the few endpoints that lead there.
pub(crate) struct NewcomerOrActor(pub Actor);

impl Actor {
    pub(crate) fn new(signed_in: SignedIn, family_id: Uuid) -> Self {
        let SignedIn { user, membership } = signed_in;
        Self {
            user,
            company_id: membership.company_id,
            company_name: membership.company_name,
            company_code: membership.company_code,
            role: membership.role,
            family_id,
        }
    }

    /// Goes on only if the role holds `permission`.
    pub(crate) fn require(&self, permission: Permission) -> Result<(), ApiError> {
        if self.role.allows(permission) {
            return Ok(());
        }
        Err(ApiError::new(Code::PermissionDenied).detail(format!(
            "Your role ({}) does not include {}.",
            self.role,
            permission.as_str()
        )))
    }

    /// Goes on only for platform admins.
    pub(crate) fn require_platform_admin(&self) -> Result<(), ApiError> {
        if self.user.is_platform_admin {
            return Ok(());
        }
        Err(ApiError::new(Code::PermissionDenied).detail("Only platform admins may do this."))
    }
}

/// Look-ups of the last moments, by sign-in.
#[derive(Default)]
pub(crate) struct SignIns(Mutex<HashMap<Key, (Instant, Option<Actor>)>>);

type Key = (Uuid, UserId, CompanyId);

impl SignIns {
    fn get(&self, key: Key) -> Option<Option<Actor>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&key)
            .filter(|(since, _)| since.elapsed() < KEPT)
            .map(|(_, actor)| actor.clone())
    }

    fn put(&self, key: Key, actor: Option<Actor>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(key, (Instant::now(), actor));
        }
    }

    /// Looks everybody up anew: something about somebody was changed here.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The actor an access token speaks for, as things are now.
pub(crate) async fn authenticate(state: &State, token: &str) -> Result<Actor, ApiError> {
    let now = Utc::now();
    let claims = state
        .verifier
        .verify(token, now)
        .map_err(|error| refused("The access token is not valid, or has expired.").cause(error))?;
    let key = (claims.sid, claims.sub, claims.company);
    let actor = match state.sign_ins.get(key) {
        Some(actor) => actor,
        None => {
            let found = state
                .database
                .system(async move |conn| {
                    accounts::signed_in(conn, claims.sub, claims.company, claims.sid, now)
                        .await
                        .map_err(ApiError::from)
                })
                .await?;
            let actor = found.map(|signed_in| Actor::new(signed_in, claims.sid));
            state.sign_ins.put(key, actor.clone());
            actor
        }
    };
    actor.ok_or_else(|| refused("The sign-in has ended."))
}

fn refused(detail: &str) -> ApiError {
    ApiError::new(Code::Unauthenticated).detail(detail)
}

/// The bearer token of a request.
pub(crate) fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

/// The access token of a request: its bearer, or else that in its cookie.
pub(crate) fn access_token(request: &HttpRequest, state: &State) -> Option<String> {
    match bearer(request) {
        Some(token) => Some(token.to_owned()),
        None => Kind::Access.token(request, state),
    }
}

async fn from_request(request: HttpRequest) -> Result<Actor, ApiError> {
    let state = request
        .app_data::<web::Data<State>>()
        .ok_or_else(|| ApiError::internal("the state is not registered"))?;
    let token = access_token(&request, state).ok_or_else(|| ApiError::new(Code::Unauthenticated))?;
    let actor = authenticate(state, &token).await?;
    if bearer(&request).is_none() {
        cookies::check(&request, state, actor.family_id)?;
    }
    let caller = request_id::Caller {
        user_id: actor.user.id,
        company_id: actor.company_id,
    };
    request.extensions_mut().insert(caller);
    Ok(actor)
}

impl FromRequest for NewcomerOrActor {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { from_request(request).await.map(Self) })
    }
}

impl FromRequest for Actor {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let actor = from_request(request).await?;
            if actor.user.must_change_password {
                return Err(ApiError::new(Code::PasswordChangeRequired)
                    .detail("Change the password with POST /api/auth/change-password first."));
            }
            Ok(actor)
        })
    }
}
