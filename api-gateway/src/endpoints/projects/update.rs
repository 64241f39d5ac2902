//! `PATCH /api/projects/{id}`.

use super::create::refuse_restricted;
use super::{Credentials, Project, Visibility, fields};
use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::patch::{not_null, nullable, or_default};
use crate::request::{Body, Id};
use crate::state::State;
use actix_web::{patch, web};
use database::projects::{self, ProjectChange, Sessions};
use domain::{Permission, ProjectId};
use serde::Deserialize;
use utoipa::ToSchema;

/// What to change: absent leaves a thing as it is, null clears it (or gives the default back).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateProject {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String, required = false)]
    bucket: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    region: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    endpoint_url: Option<Option<String>>,
    /// Sessions made before keep the prefix they were made with.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    prefix: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    aws_profile: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Credentials>)]
    credentials: Option<Option<Credentials>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    storage_class: Option<Option<String>>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Visibility, required = false)]
    visibility: Option<Visibility>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = bool, required = false)]
    is_active: Option<bool>,
}

impl UpdateProject {
    /// Checks the fields that are there, as far as they can be checked alone.
    fn check(&self, allow_private_endpoints: bool, problems: &mut Problems) {
        if let Some(name) = &self.name {
            fields::name(name, problems);
        }
        if let Some(Some(description)) = &self.description {
            fields::description(description, problems);
        }
        if let Some(Some(region)) = &self.region {
            fields::region(region, problems);
        }
        if let Some(Some(url)) = &self.endpoint_url {
            fields::endpoint_url(url, allow_private_endpoints, problems);
        }
        if let Some(Some(prefix)) = &self.prefix {
            fields::prefix(prefix, problems);
        }
        if let Some(Some(profile)) = &self.aws_profile {
            fields::aws_profile(profile, problems);
        }
        if let Some(Some(credentials)) = &self.credentials {
            fields::credentials(credentials, problems);
        }
        if let Some(Some(class)) = &self.storage_class {
            fields::storage_class(class, problems);
        }
    }

    /// Checks what depends on the fields that stay as they are.
    fn check_with(&self, present: &projects::Project, has_default_endpoint: bool) -> Result<(), ApiError> {
        let mut problems = Problems::default();
        let has_endpoint = match &self.endpoint_url {
            Some(url) => url.is_some(),
            None => present.endpoint_url.is_some(),
        } || has_default_endpoint;
        if self.bucket.is_some() || self.endpoint_url.is_some() {
            fields::bucket(
                self.bucket.as_ref().unwrap_or(&present.bucket),
                has_endpoint,
                &mut problems,
            );
        }
        let has_profile = match &self.aws_profile {
            Some(profile) => profile.is_some(),
            None => present.aws_profile.is_some(),
        };
        let has_credentials = match &self.credentials {
            Some(credentials) => credentials.is_some(),
            None => present.credentials_sealed.is_some(),
        };
        if has_profile && has_credentials {
            let pointer = if self.aws_profile.is_some() {
                "/aws_profile"
            } else {
                "/credentials"
            };
            problems.add(
                pointer,
                "invalid",
                "cannot be set together with the other; clear that with null",
            );
        }
        problems.finish()
    }
}

/// Whether the bucket would be another one than it is.
fn moves(present: &projects::Project, change: &ProjectChange) -> bool {
    let differs = |new: &Option<String>, old: &String| new.as_ref().is_some_and(|new| new != old);
    differs(&change.bucket, &present.bucket)
        || differs(&change.region, &present.region)
        || change
            .endpoint_url
            .as_ref()
            .is_some_and(|url| *url != present.endpoint_url)
}

/// Change a project.
#[utoipa::path(
    tag = "projects",
    params(("id" = ProjectId, Path)),
    request_body = UpdateProject,
    responses(
        (status = 200, description = "Changed", body = Project),
        (status = 409, description = "`name_taken`; `session_running` where bucket, region or endpoint would change",
         body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[patch("/api/projects/{id}")]
pub(crate) async fn update(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<ProjectId>,
    body: Body<UpdateProject>,
) -> Result<web::Json<Project>, ApiError> {
    actor.require(Permission::ProjectWrite)?;
    let request = body.read()?;
    let mut problems = Problems::default();
    request.check(state.storage_defaults.allow_private_endpoints, &mut problems);
    problems.finish()?;
    refuse_restricted(request.visibility)?;
    let credentials_sealed = match &request.credentials {
        None => None,
        Some(None) => Some(None),
        Some(Some(credentials)) => Some(Some(credentials.seal(
            &state.secrets_key,
            actor.company_id,
            id,
        )?)),
    };
    let has_default_endpoint = state.storage_defaults.endpoint_url.is_some();
    let default_region = state.storage_defaults.region.clone();
    let project = state
        .database
        .tenant(actor.company_id, async move |conn| {
            let present = projects::lock(conn, id).await?;
            request.check_with(&present, has_default_endpoint)?;
            let change = ProjectChange {
                name: request.name,
                description: or_default(request.description),
                bucket: request.bucket,
                region: request.region.map(|region| region.unwrap_or(default_region)),
                endpoint_url: request.endpoint_url,
                prefix: or_default(request.prefix),
                aws_profile: request.aws_profile,
                credentials_sealed,
                storage_class: request.storage_class,
                is_active: request.is_active,
            };
            if moves(&present, &change) && projects::sessions_of(conn, id).await? == Sessions::Unfinished {
                return Err(ApiError::new(Code::SessionRunning).detail(
                    "A session of this project is not finished; its files would go to two places. Cancel it, or wait \
                     until it ends.",
                ));
            }
            projects::update(conn, id, change).await.map_err(ApiError::from)
        })
        .await?;
    Ok(web::Json(project.into()))
}
