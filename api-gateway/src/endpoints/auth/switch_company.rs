//! `POST /api/auth/switch-company`.

use super::{Device, Me, SignedInAnswer, Tokens, open_sign_in};
use crate::actor::{Actor, bearer};
use crate::error::{ApiError, Code};
use crate::request::Body;
use crate::state::State;
use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::{SubsecRound as _, Utc};
use database::accounts::{self, SignedIn};
use database::refresh_tokens;
use domain::CompanyId;
use identity::RefreshToken;
use serde::Deserialize;
use utoipa::ToSchema;

/// Where to go on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SwitchCompany {
    /// One of the `memberships` in `GET /api/auth/me`.
    company_id: CompanyId,
}

/// Go on in another company that one belongs to.
///
/// The answer is that of a sign-in there, which lasts as long as the one that asked would have. That one has ended, and its
/// tokens with it.
#[utoipa::path(
    tag = "sign-in",
    request_body = SwitchCompany,
    responses(
        (status = 200, description = "Signed in there", body = Tokens),
        (status = 404, description = "One does not belong to it, or may not sign in to it (any more)",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/auth/switch-company")]
pub(crate) async fn switch_company(
    state: web::Data<State>,
    actor: Actor,
    device: Device,
    http: HttpRequest,
    body: Body<SwitchCompany>,
) -> Result<HttpResponse, ApiError> {
    let company_id = body.read()?.company_id;
    let now = Utc::now().trunc_subsecs(6);
    let refresh_token = RefreshToken::generate();
    let issued = refresh_token.clone();
    let (user, family_id) = state
        .database
        .system(async move |conn| {
            let memberships = accounts::memberships(conn, actor.user.id).await?;
            let membership = memberships
                .into_iter()
                .find(|membership| membership.company_id == company_id)
                .ok_or_else(|| ApiError::new(Code::NotFound))?;
            let signed_in = SignedIn {
                user: actor.user,
                membership,
            };
            // Asked anew: what is known of the caller may be a moment old. It becomes no longer by going on elsewhere.
            let ends_at = refresh_tokens::replace_family(conn, actor.family_id, now)
                .await?
                .ok_or_else(|| ApiError::new(Code::Unauthenticated).detail("The sign-in has ended."))?;
            let family_id = open_sign_in(conn, &signed_in, &issued, &device, ends_at, now).await?;
            let user = Me::load(conn, Actor::new(signed_in, family_id)).await?;
            Ok::<_, ApiError>((user, family_id))
        })
        .await?;
    state.sign_ins.forget();
    tracing::info!(user_id = %user.id, %company_id, "went on in another company");
    let answer = SignedInAnswer {
        user,
        family_id,
        refresh_token,
        now,
        uses_cookies: bearer(&http).is_none(),
    };
    answer.into_response(&state)
}
