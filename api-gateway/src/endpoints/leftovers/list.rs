//! `GET /api/projects/{id}/leftovers`.

use super::{Place, refused, within};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::page::{Page, PageParams, PageRequest};
use crate::request::{Id, Query};
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use database::leftovers::{self, Referrer};
use database::{SystemConn, TenantConn};
use domain::{Permission, ProjectId, SessionId, SessionStatus};
use futures::StreamExt as _;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use storage::{Bucket, OpenUpload, StorageErrorKind};
use utoipa::ToSchema;

/// How long the store may take for a page, and how many uploads are asked for their parts at the same time.
const PATIENCE: Duration = Duration::from_secs(30);
const IN_FLIGHT: usize = 16;

/// A multipart upload that is neither complete nor aborted. The store bills its parts.
#[derive(Serialize, ToSchema)]
struct Leftover {
    project_id: ProjectId,
    /// The key its object would have.
    key: String,
    /// Its id at the store.
    upload_id: String,
    /// When it was opened, by the store's clock; null where the store does not say.
    initiated_at: Option<DateTime<Utc>>,
    age_ms: Option<i64>,
    /// How many parts the store has; null where it does not say.
    parts: Option<usize>,
    /// The bytes of these parts.
    size_bytes: Option<u64>,
    /// Whether a session that is not finished refers to it: then it cannot be aborted. Such a session may be another
    /// company's with the same bucket; then `session_id` is null.
    is_in_use: bool,
    /// The session whose file refers to it; null: nothing does, and nobody will go on with it.
    session_id: Option<SessionId>,
    session_status: Option<SessionStatus>,
    /// That file's number in its session.
    file_id: Option<i64>,
    /// That file's path below the source.
    path: Option<String>,
}

/// The multipart uploads that are open in a project's bucket, below the project's own prefixes, by key. Those that
/// nobody uses are left over; workers abort them by and by.
#[utoipa::path(
    tag = "leftovers",
    params(("id" = ProjectId, Path), PageParams),
    responses(
        (status = 200, description = "A page of open uploads", body = Page<Leftover>),
        (status = 409, description = "The bucket cannot be used as the project is: `access_denied`, `no_such_bucket`, \
         `credentials_missing`, `credentials_unreadable`, `storage_misconfigured`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/api/projects/{id}/leftovers")]
pub(crate) async fn list(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<ProjectId>,
    mut query: Query,
) -> Result<web::Json<Page<Leftover>>, ApiError> {
    actor.require(Permission::StorageCheck)?;
    let page = PageRequest::<(String, String)>::read(&mut query);
    query.finish()?;
    let place = Place::of(&state, &actor, id).await?;
    let found = within(PATIENCE, async {
        let mut open = buckets::open_uploads(&place.bucket, &place.prefixes)
            .await
            .map_err(refused)?;
        if let Some((key, upload_id)) = &page.after {
            open.retain(|upload| (&upload.key, upload.upload_id.as_str()) > (key, upload_id.as_str()));
        }
        let name = |upload: &OpenUpload| (upload.key.clone(), upload.upload_id.to_string());
        let page = page.page(open, name, |upload| upload)?;
        let measured: Vec<Measured> = futures::stream::iter(page.items)
            .map(|upload| measure(&place.bucket, upload))
            .buffered(IN_FLIGHT)
            .filter_map(|measured| async move { measured })
            .collect()
            .await;
        Ok(Page {
            items: measured,
            next_cursor: page.next_cursor,
        })
    })
    .await?;
    let ids: Vec<String> = found
        .items
        .iter()
        .map(|(upload, _)| upload.upload_id.to_string())
        .collect();
    let uses = Uses::of(&state, &actor, ids).await?;
    let now = Utc::now();
    Ok(web::Json(Page {
        items: found
            .items
            .into_iter()
            .map(|measured| uses.explain(id, measured, now))
            .collect(),
        next_cursor: found.next_cursor,
    }))
}

/// An upload with the number of its parts and their bytes.
type Measured = (OpenUpload, Option<(usize, u64)>);

/// Asks for the parts of an upload; nothing when it has ended meanwhile.
async fn measure(bucket: &Bucket, upload: OpenUpload) -> Option<Measured> {
    match bucket.list_parts(&upload.key, &upload.upload_id).await {
        Ok(parts) => {
            let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
            Some((upload, Some((parts.len(), size_bytes))))
        }
        Err(error) if error.kind() == StorageErrorKind::NoSuchUpload => None,
        Err(error) => {
            tracing::debug!("the parts of an open upload are not known: {error}");
            Some((upload, None))
        }
    }
}

/// Who refers to uploads.
struct Uses {
    in_use: HashSet<String>,
    referrers: HashMap<String, Referrer>,
}

impl Uses {
    /// Asked after the store was: what was recorded meanwhile counts.
    async fn of(state: &State, actor: &Actor, upload_ids: Vec<String>) -> Result<Self, ApiError> {
        let asked = upload_ids.clone();
        let in_use = state
            .database
            .system(async move |conn: &mut SystemConn| leftovers::in_use(conn, &asked).await)
            .await?;
        let referrers = state
            .database
            .tenant(actor.company_id, async move |conn: &mut TenantConn| {
                leftovers::referrers(conn, &upload_ids).await
            })
            .await?;
        Ok(Self {
            in_use: in_use.into_iter().collect(),
            referrers: referrers
                .into_iter()
                .map(|file| (file.upload_id.clone(), file))
                .collect(),
        })
    }

    fn explain(&self, project_id: ProjectId, (upload, parts): Measured, now: DateTime<Utc>) -> Leftover {
        let file = self.referrers.get(upload.upload_id.as_str());
        let initiated_at = buckets::initiated_at(&upload);
        let (parts, size_bytes) = parts.unzip();
        Leftover {
            project_id,
            initiated_at,
            age_ms: initiated_at.map(|at| (now - at).num_milliseconds().max(0)),
            parts,
            size_bytes,
            is_in_use: self.in_use.contains(upload.upload_id.as_str()),
            session_id: file.map(|file| file.session_id),
            session_status: file.map(|file| file.session_status),
            file_id: file.map(|file| file.number),
            path: file.map(|file| file.path.clone()),
            upload_id: upload.upload_id.to_string(),
            key: upload.key,
        }
    }
}
