//! `GET /api/sessions/{id}/files/{number}`.

use super::dropped::require_files;
use super::view::File;
use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpRequest, get, web};
use database::{files, sessions};
use domain::{Permission, SessionId};

/// One file of a session.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path), ("number" = i64, Path, description = "The file's `id`")),
    responses(
        (status = 200, description = "The file", body = File),
        (status = 409, description = "`files_dropped`: the session's files are no longer recorded", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/api/sessions/{id}/files/{number}")]
pub(crate) async fn file(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
    request: HttpRequest,
) -> Result<web::Json<File>, ApiError> {
    actor.require(Permission::FileRead)?;
    let number: Option<i64> = request
        .match_info()
        .get("number")
        .and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| ApiError::new(Code::NotFound))?;
    let (session, file) = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let session = sessions::get(conn, id).await?;
            require_files(conn, &session).await?;
            let file = files::get(conn, id, number).await?;
            Ok::<_, ApiError>((session, file))
        })
        .await?;
    Ok(web::Json(File::new(file, &session.key_prefix)))
}
