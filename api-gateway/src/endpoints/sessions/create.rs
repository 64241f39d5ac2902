//! `POST /api/sessions`.

use super::announce;
use super::view::{Session, Source};
use crate::actor::Actor;
use crate::error::{ApiError, Problems};
use crate::request::{Body, MAX_LIST_BODY_BYTES};
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, post, web};
use database::DatabaseError;
use database::sessions::{self, Moved, NewSession, SessionError};
use domain::{CycleId, Permission, SessionId, SessionSettings};
use serde::Deserialize;
use settings::SourceRoot;
use utoipa::ToSchema;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
const MAX_PATH_BYTES: usize = 4096;

/// A session to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateSession {
    cycle_id: CycleId,
    source: Source,
    settings: Option<SessionSettings>,
    /// Absent: true. Otherwise it waits for `POST /api/sessions/{id}/start`.
    start: Option<bool>,
    /// The session it is made from, for the record.
    repeats: Option<SessionId>,
}

impl CreateSession {
    /// Gives the location of its root.
    fn check(&self, state: &State, company_code: &str) -> Result<String, ApiError> {
        let mut problems = Problems::default();
        let root = state.source_roots.get(&self.source.root, company_code);
        if root.is_none() {
            problems.add(
                "/source/root",
                "unknown_root",
                "is no source root of your company",
            );
        }
        if let Err(problem) = transfer::check_source_path(&self.source.path) {
            problems.add("/source/path", "invalid", problem);
        } else if self.source.path.len() > MAX_PATH_BYTES {
            problems.add("/source/path", "invalid_length", "may have 4,096 bytes");
        }
        let settings = self.settings.clone().unwrap_or_default();
        for problem in settings.problems() {
            problems.add(format!("/settings/{}", problem.field), "invalid", problem.detail);
        }
        if let Err(problem) = transfer::Filter::compile(&settings.include, &settings.exclude) {
            problems.add(format!("/settings/{}", problem.field), "invalid", problem.detail);
        }
        problems.finish()?;
        root.map(SourceRoot::location)
            .ok_or_else(|| ApiError::internal("a root that is none was let through"))
    }
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let Some(value) = request.headers().get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Ok(Some(text.to_owned()));
    }
    let mut problems = Problems::default();
    problems.add(
        "/Idempotency-Key",
        "invalid",
        "must have 1 to 255 visible ASCII characters",
    );
    problems.finish().map(|()| None)
}

/// Make an upload session, and start it unless told otherwise.
///
/// With an `Idempotency-Key` the same request gives the same session, however often it is sent.
#[utoipa::path(
    tag = "sessions",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters, chosen by the client")),
    request_body = CreateSession,
    responses(
        (status = 201, description = "Made", body = Session,
         headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "`cycle_busy`, `cycle_completed`, `project_inactive`, `idempotency_key_reused`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/sessions")]
pub(crate) async fn create(
    state: web::Data<State>,
    actor: Actor,
    request: HttpRequest,
    body: Body<CreateSession, MAX_LIST_BODY_BYTES>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionCreate)?;
    let (wanted, hash) = body.read_with_hash()?;
    let location = wanted.check(&state, &actor.company_code)?;
    let key = idempotency_key(&request)?;
    let new_session = || NewSession {
        cycle_id: wanted.cycle_id,
        user_id: actor.user.id,
        source_root: location.clone(),
        source_path: wanted.source.path.trim_end_matches('/').to_owned(),
        settings: wanted.settings.clone().unwrap_or_default(),
        repeats: wanted.repeats,
        idempotency: key.clone().map(|key| (key, hash.clone())),
        start: wanted.start.unwrap_or(true),
    };
    let moved = match insert(&state, &actor, new_session()).await {
        // The same request may have come twice at once: then the other one was first, and is found now.
        Err(SessionError::Database(DatabaseError::Conflict { .. }) | SessionError::CycleBusy { .. })
            if key.is_some() =>
        {
            insert(&state, &actor, new_session()).await?
        }
        outcome => outcome?,
    };
    failpoint::at!("gateway.create.before_push");
    announce(&state, moved.session.id, &moved.jobs).await;
    let session = Session::load(&state, moved.session).await;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/sessions/{}", session.id)))
        .json(session))
}

async fn insert(state: &State, actor: &Actor, new: NewSession) -> Result<Moved, SessionError> {
    state
        .database
        .tenant(actor.company_id, async move |conn| {
            if let Some(id) = new.repeats {
                sessions::get(conn, id).await.map_err(|error| match error {
                    DatabaseError::NotFound => SessionError::NotFound,
                    other => SessionError::Database(other),
                })?;
            }
            sessions::create(conn, new).await
        })
        .await
}
