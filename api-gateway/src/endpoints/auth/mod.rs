//! Signing in and out. Sign-up, API keys and the second factor have their place here.

mod change_password;
mod csrf;
mod login;
mod logout;
mod me;
mod refresh;
mod sign_ins;
mod switch_company;
mod update_me;

use crate::actor::Actor;
use crate::cookies::Kind;
use crate::error::{ApiError, Code};
use crate::state::State;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use database::SystemConn;
use database::accounts::{self, SignedIn};
use database::refresh_tokens::{self, NewFamily};
use domain::{CompanyId, Permission, Role, UserId};
use identity::RefreshToken;
use identity::tokens::Subject;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use std::convert::Infallible;
use std::future::{Ready, ready};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const MAX_USER_AGENT_CHARS: usize = 200;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(login::login)
        .service(refresh::refresh)
        .service(logout::logout)
        .service(csrf::csrf)
        .service(me::me)
        .service(update_me::update_me)
        .service(sign_ins::list_sign_ins)
        .service(sign_ins::end_sign_in)
        .service(switch_company::switch_company)
        .service(change_password::change_password);
}

/// A person's company, as they see it.
#[derive(Serialize, ToSchema)]
struct OwnCompany {
    id: CompanyId,
    company_name: String,
    company_code: String,
}

/// One of a person's companies.
#[derive(Serialize, ToSchema)]
struct OwnMembership {
    company_id: CompanyId,
    company_name: String,
    role: Role,
}

/// The person signed in.
#[derive(Serialize, ToSchema)]
struct Me {
    id: UserId,
    username: String,
    email: String,
    full_name: String,
    is_platform_admin: bool,
    /// Nothing but `me`, `change-password`, `refresh`, `csrf` and `logout` answers until it is changed.
    must_change_password: bool,
    /// In the company below.
    role: Role,
    /// The company the access token is for.
    company: OwnCompany,
    /// What the role allows.
    permissions: Vec<&'static str>,
    memberships: Vec<OwnMembership>,
    last_login_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl Me {
    async fn load(conn: &mut SystemConn, actor: Actor) -> Result<Self, ApiError> {
        let memberships = accounts::memberships(conn, actor.user.id).await?;
        let user = actor.user;
        Ok(Self {
            id: user.id,
            username: user.username,
            email: user.email,
            full_name: user.full_name,
            is_platform_admin: user.is_platform_admin,
            must_change_password: user.must_change_password,
            role: actor.role,
            company: OwnCompany {
                id: actor.company_id,
                company_name: actor.company_name,
                company_code: actor.company_code,
            },
            permissions: shown_permissions(actor.role),
            memberships: memberships
                .into_iter()
                .map(|membership| OwnMembership {
                    company_id: membership.company_id,
                    company_name: membership.company_name,
                    role: membership.role,
                })
                .collect(),
            last_login_at: user.last_login_at,
            created_at: user.created_at,
        })
    }
}

/// What a role allows, as the contract names it: whether `session.control` reaches everybody's sessions is told by
/// the role.
fn shown_permissions(role: Role) -> Vec<&'static str> {
    let shown = |permission: &Permission| *permission != Permission::SessionControlAll;
    role.permissions().filter(shown).map(Permission::as_str).collect()
}

/// A signed-in device's tokens.
#[derive(Serialize, ToSchema)]
struct Tokens {
    /// Send it as `Authorization: Bearer …`. Absent where it came as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// Exchange it for new tokens with `POST /api/auth/refresh`; good for one use. Absent where it came as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// `Bearer`.
    token_type: &'static str,
    /// How long the access token is good for, in seconds.
    expires_in: i64,
    user: Me,
}

/// Where a request comes from, as it says itself.
struct Device {
    user_agent: Option<String>,
}

impl FromRequest for Device {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let user_agent = request.headers().get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        ready(Ok(Self {
            user_agent: user_agent.map(|text| text.chars().take(MAX_USER_AGENT_CHARS).collect()),
        }))
    }
}

/// Goes on only with the person's own password, in a request that is signed in already.
async fn check_own_password(state: &State, user_id: UserId, password: &SecretString) -> Result<(), ApiError> {
    let credentials = state
        .database
        .system(async move |conn| {
            accounts::credentials_of(conn, user_id)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let is_right = state
        .passwords
        .verify(password.expose_secret(), Some(&credentials.password_hash))
        .await
        .map_err(ApiError::internal)?;
    if is_right {
        Ok(())
    } else {
        Err(ApiError::new(Code::InvalidCredentials).detail("The current password is wrong."))
    }
}

/// Opens a sign-in for a person, with its first refresh token; it ends at `family_expires_at`, whatever happens.
async fn open_sign_in(
    conn: &mut SystemConn,
    signed_in: &SignedIn,
    refresh_token: &RefreshToken,
    device: &Device,
    family_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Uuid, ApiError> {
    let family = NewFamily {
        company_id: signed_in.membership.company_id,
        user_id: signed_in.user.id,
        token_hash: &refresh_token.hash(),
        expires_at: now + identity::refresh::LIFETIME,
        family_expires_at,
        user_agent: device.user_agent.as_deref(),
    };
    Ok(refresh_tokens::open_family(conn, &family, now).await?)
}

/// Somebody has signed in, or goes on.
struct SignedInAnswer {
    user: Me,
    family_id: Uuid,
    refresh_token: RefreshToken,
    now: DateTime<Utc>,
    /// Tokens as cookies, and not in the body.
    uses_cookies: bool,
}

impl SignedInAnswer {
    /// [`Tokens`], or cookies.
    fn into_response(self, state: &State) -> Result<HttpResponse, ApiError> {
        let subject = Subject {
            user_id: self.user.id,
            company_id: self.user.company.id,
            role: Some(self.user.role),
            sign_in_id: self.family_id,
        };
        let access_token = state
            .signer
            .issue(&subject, self.now)
            .map_err(ApiError::internal)?;
        let mut response = HttpResponse::Ok();
        let in_body = |token: &str| (!self.uses_cookies).then(|| token.to_owned());
        if self.uses_cookies {
            let lifetime_s = identity::refresh::LIFETIME.num_seconds();
            response
                .cookie(Kind::Access.cookie(state, &access_token.text, access_token.expires_in_s))
                .cookie(Kind::Refresh.cookie(state, self.refresh_token.expose(), lifetime_s));
        }
        Ok(response.json(Tokens {
            access_token: in_body(&access_token.text),
            refresh_token: in_body(self.refresh_token.expose()),
            token_type: "Bearer",
            expires_in: access_token.expires_in_s,
            user: self.user,
        }))
    }
}
