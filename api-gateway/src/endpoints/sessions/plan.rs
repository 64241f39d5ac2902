//! `GET /api/sessions/{id}/plan`: what a dry run found that an upload would do, as it was saved at its end; and how long
//! that may take, as far as anything is known of it now.

use super::estimate::{Basis, Estimate, NoEstimate, Task, in_a_minute};
use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::Id;
use crate::state::State;
use actix_web::{get, web};
use database::TenantConn;
use database::plans;
use database::sessions::{self, Session};
use domain::{Permission, Plan, SessionId, SessionStatus};
use queue::Pace;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// A pace that is not there by then is not known.
const PACE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a dry run found that an upload with its settings would do.
#[derive(Serialize, ToSchema)]
struct SessionPlan {
    session_id: SessionId,
    /// The run of the dry run that it is of.
    run: i32,
    #[serde(flatten)]
    plan: Plan,
    /// How long it may take, by what is known now; null: `no_estimate` says why.
    estimate: Option<Estimate>,
    no_estimate: Option<NoEstimate>,
}

/// The plan of a dry run that came to its end: what an upload with its settings would do if nothing changed meanwhile.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, description = "The plan", body = SessionPlan),
        (status = 409, description = "`session_running`: it has not ended yet; `no_plan`: it was no dry run, was cancelled, failed, or ended before there were plans",
            body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/api/sessions/{id}/plan")]
pub(crate) async fn plan(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
) -> Result<web::Json<SessionPlan>, ApiError> {
    actor.require(Permission::SessionRead)?;
    actor.require(Permission::FileRead)?;
    let (session, saved, mut known) = state
        .database
        .tenant(actor.company_id, async move |conn: &mut TenantConn| {
            let session = sessions::get(conn, id).await?;
            let saved = plans::get(conn, id, session.run).await?;
            let known = vec![
                (
                    Basis::ProjectSessions,
                    plans::achieved(conn, Some(session.project_id)).await?,
                ),
                (Basis::CompanySessions, plans::achieved(conn, None).await?),
            ];
            Ok::<_, ApiError>((session, saved, known))
        })
        .await?;
    let saved = of_session(&session, saved)?;
    known.push((
        Basis::WorkersPace,
        in_a_minute(pace(&state, &session.source_root).await),
    ));
    let task = Task {
        least: saved.send,
        most: saved.send + saved.compare,
        bandwidth_limit: session.settings.bandwidth_limit_bytes_per_s,
    };
    let (estimate, no_estimate) = match task.estimate(&known) {
        Ok(estimate) => (Some(estimate), None),
        Err(why) => (None, Some(why)),
    };
    Ok(web::Json(SessionPlan {
        session_id: session.id,
        run: session.run,
        plan: saved,
        estimate,
        no_estimate,
    }))
}

/// The plan of the session as it stands, or why there is none.
fn of_session(session: &Session, saved: Option<Plan>) -> Result<Plan, ApiError> {
    let none = |detail: &str| Err(ApiError::new(Code::NoPlan).detail(detail));
    if !session.settings.dry_run {
        return none("It is no dry run: only those leave a plan.");
    }
    match session.status {
        status if !status.is_ended() => Err(ApiError::new(Code::SessionRunning)
            .detail("The dry run has not ended yet; its plan is saved at its end.")),
        SessionStatus::Cancelled => none("The dry run was cancelled."),
        SessionStatus::Failed => none("The dry run failed."),
        _ => saved.map_or_else(|| none("The dry run ended before there were plans."), Ok),
    }
}

/// What the workers that serve a source root got done in the last minute; nothing where they cannot be asked.
async fn pace(state: &State, location: &String) -> Pace {
    match tokio::time::timeout(PACE_TIMEOUT, state.queue.workers()).await {
        Ok(Ok(workers)) => workers
            .iter()
            .filter(|worker| worker.locations.contains(location))
            .map(|worker| worker.pace)
            .sum(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no pace");
            Pace::default()
        }
        Err(_) => Pace::default(),
    }
}
