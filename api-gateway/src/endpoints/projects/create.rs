//! `POST /api/projects`.

use super::{Credentials, Project, Visibility, fields};
use crate::actor::Actor;
use crate::error::{ApiError, Problems};
use crate::request::Body;
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, post, web};
use database::projects::{self, NewProject};
use domain::{Permission, ProjectId};
use serde::Deserialize;
use settings::StorageDefaults;
use utoipa::ToSchema;

/// A project to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateProject {
    /// 1 to 100 characters, unique in the company whatever the case.
    name: String,
    #[serde(default)]
    description: Option<String>,
    bucket: String,
    /// Absent: the installation's default.
    region: Option<String>,
    /// Absent: the installation's default. Must be https and public, unless the installation allows others.
    endpoint_url: Option<String>,
    /// What every key begins with, exactly as it is: without a slash at its end, none is added.
    prefix: Option<String>,
    /// A profile of the workers' AWS configuration; not together with `credentials`.
    aws_profile: Option<String>,
    /// Absent: the workers' own.
    credentials: Option<Credentials>,
    storage_class: Option<String>,
    visibility: Option<Visibility>,
    /// Absent: true.
    is_active: Option<bool>,
}

impl CreateProject {
    fn check(&self, defaults: &StorageDefaults) -> Result<(), ApiError> {
        let problems = &mut Problems::default();
        fields::name(&self.name, problems);
        fields::description(self.description.as_deref().unwrap_or_default(), problems);
        let has_endpoint = self.endpoint_url.is_some() || defaults.endpoint_url.is_some();
        fields::bucket(&self.bucket, has_endpoint, problems);
        if let Some(region) = &self.region {
            fields::region(region, problems);
        }
        if let Some(url) = &self.endpoint_url {
            fields::endpoint_url(url, defaults.allow_private_endpoints, problems);
        }
        fields::prefix(self.prefix.as_deref().unwrap_or_default(), problems);
        if let Some(profile) = &self.aws_profile {
            fields::aws_profile(profile, problems);
        }
        if let Some(credentials) = &self.credentials {
            fields::credentials(credentials, problems);
        }
        if self.aws_profile.is_some() && self.credentials.is_some() {
            problems.add(
                "/aws_profile",
                "invalid",
                "cannot be set together with credentials",
            );
        }
        if let Some(class) = &self.storage_class {
            fields::storage_class(class, problems);
        }
        std::mem::take(problems).finish()?;
        refuse_restricted(self.visibility)
    }
}

pub(super) fn refuse_restricted(visibility: Option<Visibility>) -> Result<(), ApiError> {
    if visibility == Some(Visibility::Restricted) {
        return Err(ApiError::not_supported(
            "/visibility",
            "Restricted projects are not supported yet; use \"company\".",
        ));
    }
    Ok(())
}

/// Make a project.
#[utoipa::path(
    tag = "projects",
    request_body = CreateProject,
    responses(
        (status = 201, description = "Made", body = Project,
         headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "`name_taken`", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api/projects")]
pub(crate) async fn create(
    state: web::Data<State>,
    actor: Actor,
    body: Body<CreateProject>,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::ProjectWrite)?;
    let request = body.read()?;
    request.check(&state.storage_defaults)?;
    let id = ProjectId::new();
    let credentials_sealed = match &request.credentials {
        Some(credentials) => Some(credentials.seal(&state.secrets_key, actor.company_id, id)?),
        None => None,
    };
    let new = NewProject {
        name: request.name,
        description: request.description.unwrap_or_default(),
        bucket: request.bucket,
        region: request
            .region
            .unwrap_or_else(|| state.storage_defaults.region.clone()),
        endpoint_url: request.endpoint_url,
        prefix: request.prefix.unwrap_or_default(),
        aws_profile: request.aws_profile,
        credentials_sealed,
        storage_class: request.storage_class,
        is_active: request.is_active.unwrap_or(true),
    };
    let project = state
        .database
        .tenant(actor.company_id, async move |conn| {
            projects::create(conn, id, new).await.map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/projects/{}", project.id)))
        .json(Project::from(project)))
}
