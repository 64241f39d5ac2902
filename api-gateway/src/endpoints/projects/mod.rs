//! Projects: where deliveries go.

mod create;
mod delete;
mod fields;
mod get;
mod list;
mod update;

use chrono::{DateTime, Utc};
use domain::ProjectId;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(list::list)
        .service(create::create)
        .service(get::get)
        .service(update::update)
        .service(delete::delete);
}

/// A delivery target.
#[derive(Serialize, ToSchema)]
struct Project {
    id: ProjectId,
    /// Unique in the company, whatever the case.
    name: String,
    description: String,
    bucket: String,
    region: String,
    /// Null: the installation's default.
    endpoint_url: Option<String>,
    /// What every key begins with, exactly as it is: without a slash at its end, none is added.
    prefix: String,
    /// A profile of the workers' AWS configuration.
    aws_profile: Option<String>,
    /// Whether credentials are stored. They are never shown.
    has_credentials: bool,
    storage_class: Option<String>,
    visibility: Visibility,
    /// Whether sessions may be made.
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<database::projects::Project> for Project {
    fn from(project: database::projects::Project) -> Self {
        Self {
            id: project.id,
            name: project.name,
            description: project.description,
            bucket: project.bucket,
            region: project.region,
            endpoint_url: project.endpoint_url,
            prefix: project.prefix,
            aws_profile: project.aws_profile,
            has_credentials: project.credentials_sealed.is_some(),
            storage_class: project.storage_class,
            visibility: if project.visibility == "restricted" {
                Visibility::Restricted
            } else {
                Visibility::Company
            },
            is_active: project.is_active,
            created_at: project.created_at,
            updated_at: project.updated_at,
        }
    }
}

/// Who in the company sees a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Visibility {
    /// All its people.
    #[default]
    Company,
    /// Its members; not supported yet.
    Restricted,
}

/// Credentials for the store. Written, never read back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProjectCredentials)]
struct Credentials {
    access_key_id: String,
    #[schema(value_type = String, format = Password)]
    secret_access_key: SecretString,
    /// With temporary keys.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    session_token: Option<SecretString>,
}

impl Credentials {
    fn seal(
        &self,
        key: &identity::SecretsKey,
        company: domain::CompanyId,
        project: ProjectId,
    ) -> Result<Vec<u8>, crate::error::ApiError> {
        identity::ProjectCredentials {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            session_token: self
                .session_token
                .clone()
                .filter(|token| !token.expose_secret().is_empty()),
        }
        .seal(key, company, project)
        .map_err(crate::error::ApiError::internal)
    }
}
