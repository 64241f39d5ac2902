//! Signing in and out. Cookies, sign-up, API keys and the second factor have their place here.

mod change_password;
mod login;
mod logout;
mod me;
mod refresh;

use crate::actor::Actor;
use crate::error::ApiError;
use crate::state::State;
use chrono::{DateTime, Utc};
use database::SystemConn;
use database::accounts::{self, SignedIn};
use database::refresh_tokens::{self, NewFamily};
use domain::{CompanyId, Permission, Role, UserId};
use identity::RefreshToken;
use identity::refresh::FAMILY_LIFETIME;
use identity::tokens::Subject;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(login::login)
        .service(refresh::refresh)
        .service(logout::logout)
        .service(me::me)
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
    /// Nothing but `me`, `change-password`, `refresh` and `logout` answers until it is changed.
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
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// Exchange it for new tokens with `POST /api/auth/refresh`; good for one use.
    refresh_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// How long the access token is good for, in seconds.
    expires_in: i64,
    user: Me,
}

/// Opens a sign-in for a person, with its first refresh token.
async fn open_sign_in(
    conn: &mut SystemConn,
    signed_in: &SignedIn,
    refresh_token: &RefreshToken,
    user_agent: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Uuid, ApiError> {
    let family = NewFamily {
        company_id: signed_in.membership.company_id,
        user_id: signed_in.user.id,
        token_hash: &refresh_token.hash(),
        expires_at: now + identity::refresh::LIFETIME,
        family_expires_at: now + FAMILY_LIFETIME,
        user_agent,
    };
    Ok(refresh_tokens::open_family(conn, &family, now).await?)
}

/// The answer to a sign-in or refresh.
fn tokens(
    state: &State,
    user: Me,
    family_id: Uuid,
    refresh_token: &RefreshToken,
    now: DateTime<Utc>,
) -> Result<Tokens, ApiError> {
    let subject = Subject {
        user_id: user.id,
        company_id: user.company.id,
        role: Some(user.role),
        sign_in_id: family_id,
    };
    let access_token = state.signer.issue(&subject, now).map_err(ApiError::internal)?;
    Ok(Tokens {
        access_token: access_token.text,
        refresh_token: refresh_token.expose().to_owned(),
        token_type: "Bearer",
        expires_in: access_token.expires_in_s,
        user,
    })
}
