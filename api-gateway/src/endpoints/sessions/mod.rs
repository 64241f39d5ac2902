//! Upload sessions: made, followed, controlled.

mod cancel;
mod create;
mod delete;
mod dropped;
mod estimate;
mod events;
mod failures;
mod file;
mod files;
mod get;
mod list;
mod pause;
mod plan;
mod receipt;
mod resume;
mod retry;
mod start;
mod view;

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::state::State;
use actix_web::HttpResponse;
use database::TenantConn;
use database::sessions::{self, Moved, SessionError};
use domain::{Permission, QueuedJob, SessionId};
use std::time::Duration;
use utoipa_actix_web::service_config::ServiceConfig;
use view::Session;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(create::create)
        .service(list::list)
        .service(get::get)
        .service(delete::delete)
        .service(start::start)
        .service(pause::pause)
        .service(resume::resume)
        .service(cancel::cancel)
        .service(retry::retry)
        .service(files::files)
        .service(file::file)
        .service(failures::failures)
        .service(events::events)
        .service(receipt::receipt)
        .service(plan::plan);
}

/// How long an answer waits for Redis: what is not pushed by then is found by a sweeper.
const PUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let code = match &error {
            SessionError::NotFound => return Self::new(Code::NotFound),
            SessionError::Database(_) => {
                let SessionError::Database(error) = error else {
                    return Self::new(Code::Internal);
                };
                return error.into();
            }
            SessionError::CycleBusy { .. } => Code::CycleBusy,
            SessionError::CycleCompleted => Code::CycleCompleted,
            SessionError::ProjectInactive => Code::ProjectInactive,
            SessionError::IdempotencyKeyReused => Code::IdempotencyKeyReused,
            SessionError::WrongStatus { .. } => Code::WrongStatus,
            SessionError::NothingToRetry => Code::NothingToRetry,
            SessionError::FilesDropped => Code::FilesDropped,
        };
        Self::new(code).detail(sentence(&error.to_string()))
    }
}

/// An error's text as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        format!("{}{}.", first.to_uppercase(), chars.as_str())
    })
}

/// Goes on only if the actor may control this session: their own, or with the permission for everybody's.
async fn require_control(conn: &mut TenantConn, actor: &Actor, id: SessionId) -> Result<(), ApiError> {
    let session = sessions::get(conn, id).await?;
    if session.user_id == actor.user.id {
        return Ok(());
    }
    actor.require(Permission::SessionControlAll)
}

/// Pushes what was committed, and tells those who watch. Redis may be down: then it comes later.
async fn announce(state: &State, id: SessionId, jobs: &[QueuedJob]) {
    let pushing = async {
        if !jobs.is_empty() {
            state.queue.push(jobs).await?;
        }
        state.queue.publish_progress(id).await
    };
    match tokio::time::timeout(PUSH_TIMEOUT, pushing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(session_id = %id, jobs = jobs.len(), %error, "not pushed; a sweeper will");
        }
        Err(_) => {
            tracing::warn!(session_id = %id, jobs = jobs.len(), "not pushed in time; a sweeper will");
        }
    }
}

/// Makes the workers look at the session's stop flag now; they also look by themselves.
async fn tell_workers(state: &State, id: SessionId) {
    let telling = tokio::time::timeout(PUSH_TIMEOUT, state.queue.publish_stop(id)).await;
    if !matches!(telling, Ok(Ok(()))) {
        tracing::debug!(session_id = %id, "the workers could not be told at once");
    }
}

/// The answer to a call that moved a session: 202 with the session.
async fn accepted(state: &State, moved: Moved) -> HttpResponse {
    announce(state, moved.session.id, &moved.jobs).await;
    HttpResponse::Accepted().json(Session::load(state, moved.session).await)
}
