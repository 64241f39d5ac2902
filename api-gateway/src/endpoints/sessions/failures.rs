//! `GET /api/sessions/{id}/failures`.

use super::dropped::require_files;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{get, web};
use database::files::FailureGroup;
use database::{files, sessions};
use domain::{Cause, FileErrorCode, Permission, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

/// Failed files that share a cause.
#[derive(Serialize, ToSchema)]
struct Failure {
    #[schema(value_type = FileErrorCode)]
    error_code: Cause<FileErrorCode>,
    /// How many files.
    count: i64,
    /// How many bytes they have.
    size_bytes: i64,
    /// At most five.
    example_paths: Vec<String>,
    /// What to do about it.
    advice: &'static str,
}

impl From<FailureGroup> for Failure {
    fn from(group: FailureGroup) -> Self {
        let advice = group.error_code.known().map_or(
            "A later version recorded this cause. The files' details say more; look there, then retry.",
            FileErrorCode::advice,
        );
        Self {
            error_code: group.error_code,
            count: group.count,
            size_bytes: group.size_bytes,
            example_paths: group.example_paths,
            advice,
        }
    }
}

/// A session's failed files, grouped by cause, with what to do about each.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path), PageParams),
    responses(
        (status = 200, description = "The causes, the most frequent first", body = Page<Failure>),
        (status = 409, description = "`files_dropped`: the session's files are no longer recorded", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/api/sessions/{id}/failures")]
pub(crate) async fn failures(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
    mut query: Query,
) -> Result<web::Json<Page<Failure>>, ApiError> {
    actor.require(Permission::FileRead)?;
    let page = PageRequest::<usize>::read(&mut query);
    query.finish()?;
    let groups = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let session = sessions::get(conn, id).await?;
            require_files(conn, &session).await?;
            files::failures(conn, id).await.map_err(ApiError::from)
        })
        .await?;
    page.page_of_all(groups, Failure::from).map(web::Json)
}
