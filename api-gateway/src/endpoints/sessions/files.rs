//! `GET /api/sessions/{id}/files`.

use super::dropped::require_files;
use super::view::File;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{get, web};
use database::files::{self as stored, FileFilter};
use database::sessions;
use domain::{FileErrorCode, FileStatus, Permission, SessionId};
use utoipa::IntoParams;

/// Which files.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what files reads")]
struct FilesParams {
    status: Option<FileStatus>,
    error_code: Option<FileErrorCode>,
    /// A text in the path.
    q: Option<String>,
}

/// The files of a session, by number.
#[utoipa::path(
    tag = "sessions",
    params(("id" = SessionId, Path), PageParams, FilesParams),
    responses(
        (status = 200, description = "A page of files", body = Page<File>),
        (status = 409, description = "`files_dropped`: they are no longer recorded", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/api/sessions/{id}/files")]
pub(crate) async fn files(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
    mut query: Query,
) -> Result<web::Json<Page<File>>, ApiError> {
    actor.require(Permission::FileRead)?;
    let page = PageRequest::<i64>::read(&mut query);
    let filter = FileFilter {
        status: query.value("status"),
        error_code: query.value("error_code"),
        q: query.text("q"),
    };
    query.finish()?;
    let (after, limit) = (page.after, page.rows());
    let (session, rows) = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let session = sessions::get(conn, id).await?;
            require_files(conn, &session).await?;
            let rows = stored::list(conn, id, &filter, after, limit).await?;
            Ok::<_, ApiError>((session, rows))
        })
        .await?;
    page.page(
        rows,
        |last| last.number,
        |file| File::new(file, &session.key_prefix),
    )
    .map(web::Json)
}
