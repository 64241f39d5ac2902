//! `POST /api/projects/{id}/leftovers/abort`.

use super::{Place, refused, within};
use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::{post, web};
use buckets::Closed;
use domain::{Permission, ProjectId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use storage::OpenUpload;
use utoipa::ToSchema;

/// How long the store may take. What is aborted by then stays so.
const PATIENCE: Duration = Duration::from_secs(50);

/// Which uploads to abort: one, by `key` and `upload_id`, or with `all` every one that nobody uses.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AbortLeftovers {
    /// The key its object would have.
    key: Option<String>,
    /// Its id at the store.
    upload_id: Option<String>,
    /// Every one that no unfinished session refers to.
    #[serde(default)]
    all: bool,
}

/// What is to be aborted.
enum Target {
    All,
    One { key: String, upload_id: String },
}

impl AbortLeftovers {
    fn target(self) -> Result<Target, ApiError> {
        match (self.all, self.key, self.upload_id) {
            (true, None, None) => Ok(Target::All),
            (false, Some(key), Some(upload_id)) => Ok(Target::One { key, upload_id }),
            (all, key, upload_id) => {
                let mut problems = Problems::default();
                for (pointer, given) in [("/key", key.is_some()), ("/upload_id", upload_id.is_some())] {
                    match (all, given) {
                        (true, true) => problems.add(pointer, "invalid", "cannot be given together with all"),
                        (false, false) => problems.add(pointer, "required", "is required, or else all"),
                        _ => {}
                    }
                }
                Err(problems.into_error())
            }
        }
    }
}

/// What became of them.
#[derive(Serialize, ToSchema)]
struct AbortedLeftovers {
    /// Aborted.
    aborted: usize,
    /// Left alone: a session that is not finished refers to them.
    in_use: usize,
    /// The store did not confirm their abort.
    failed: usize,
}

/// Abort multipart uploads that were left open: the store drops their parts. What a session that is not finished
/// refers to is left alone; cancel that session to be rid of it.
#[utoipa::path(
    tag = "leftovers",
    params(("id" = ProjectId, Path)),
    request_body = AbortLeftovers,
    responses(
        (status = 200, description = "What became of them", body = AbortedLeftovers),
        (status = 404, description = "The project is not there, or no such upload is open below its prefixes",
         body = crate::error::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`upload_in_use`: a session that is not finished refers to the one that was named; \
         or the bucket cannot be used as the project is: `access_denied`, `no_such_bucket`, `credentials_missing`, \
         `credentials_unreadable`, `storage_misconfigured`",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/projects/{id}/leftovers/abort")]
pub(crate) async fn abort(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<ProjectId>,
    body: Body<AbortLeftovers>,
) -> Result<web::Json<AbortedLeftovers>, ApiError> {
    actor.require(Permission::StorageCheck)?;
    let target = body.read()?.target()?;
    let place = Place::of(&state, &actor, id).await?;
    let closed = within(PATIENCE, async {
        let uploads = match &target {
            Target::All => buckets::open_uploads(&place.bucket, &place.prefixes)
                .await
                .map_err(refused)?,
            Target::One { key, upload_id } => vec![place.find(key, upload_id).await?],
        };
        Ok(buckets::close_unused(&state.database, actor.company_id, &place.bucket, &uploads).await?)
    })
    .await?;
    if matches!(target, Target::One { .. }) {
        said_of_one(closed)?;
    }
    let Closed {
        aborted,
        in_use,
        failed,
    } = closed;
    Ok(web::Json(AbortedLeftovers {
        aborted,
        in_use,
        failed,
    }))
}

impl Place {
    /// The open upload of this key and id, if it is the project's.
    async fn find(&self, key: &str, upload_id: &str) -> Result<OpenUpload, ApiError> {
        let is_ours = self
            .prefixes
            .iter()
            .any(|prefix| key.starts_with(prefix.as_str()));
        let open = if is_ours {
            self.bucket.list_multipart_uploads(key).await.map_err(refused)?
        } else {
            Vec::new()
        };
        open.into_iter()
            .find(|upload| upload.key == key && upload.upload_id.as_str() == upload_id)
            .ok_or_else(|| {
                ApiError::new(Code::NotFound)
                    .detail("No such upload is open below the prefixes of this project.")
            })
    }
}

/// Whoever names one is told plainly when it stays.
fn said_of_one(closed: Closed) -> Result<(), ApiError> {
    if closed.in_use > 0 {
        return Err(ApiError::new(Code::UploadInUse)
            .detail("A session that is not finished goes on with this upload. Cancel the session, or wait until it ends."));
    }
    if closed.failed > 0 {
        return Err(ApiError::new(Code::StorageError)
            .detail("The store did not confirm the abort. The gateway's log has its answer."));
    }
    Ok(())
}
