//! From a project to its opened bucket.

use database::projects::Project;
use domain::{CompanyId, ProjectId, SessionErrorCode};
use identity::sealing::{ProjectCredentials, SecretsKey};
use settings::StorageDefaults;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use storage::{Bucket, BucketConfig, Credentials};
use url::Url;

/// Opens the buckets of projects, and keeps them open, so that all who use one share its connections and its budget
/// of retries.
pub struct Buckets {
    defaults: StorageDefaults,
    secrets_key: Arc<SecretsKey>,
    opened: Mutex<HashMap<ProjectId, (chrono::DateTime<chrono::Utc>, Bucket)>>,
}

/// A project's bucket cannot be opened as the project is, or as this installation is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct CannotOpen {
    /// The cause.
    pub code: SessionErrorCode,
    /// In words, for people.
    pub detail: String,
}

impl CannotOpen {
    fn new(code: SessionErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    fn misconfigured(detail: impl Into<String>) -> Self {
        Self::new(SessionErrorCode::StorageMisconfigured, detail)
    }
}

impl Buckets {
    /// With the installation's defaults, and the key that opens stored credentials.
    #[must_use]
    pub fn new(defaults: StorageDefaults, secrets_key: Arc<SecretsKey>) -> Self {
        Self {
            defaults,
            secrets_key,
            opened: Mutex::default(),
        }
    }

    /// The bucket of a project of this company. Nothing is sent.
    ///
    /// # Errors
    /// When there are no credentials, they cannot be opened, or the project makes no usable configuration.
    pub fn of(&self, company_id: CompanyId, project: &Project) -> Result<Bucket, CannotOpen> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((updated_at, bucket)) = opened.get(&project.id)
            && *updated_at == project.updated_at
        {
            return Ok(bucket.clone());
        }
        let bucket = self.open(company_id, project)?;
        opened.insert(project.id, (project.updated_at, bucket.clone()));
        Ok(bucket)
    }

    /// Where a project's bucket is; `None`: Amazon S3.
    #[must_use]
    pub fn endpoint_url<'a>(&'a self, project: &'a Project) -> Option<&'a str> {
        project
            .endpoint_url
            .as_deref()
            .or_else(|| self.defaults.endpoint_url.as_ref().map(Url::as_str))
    }

    /// The key that opens stored secrets.
    pub(crate) fn secrets_key(&self) -> &SecretsKey {
        &self.secrets_key
    }

    fn open(&self, company_id: CompanyId, project: &Project) -> Result<Bucket, CannotOpen> {
        let parse = |url| {
            Url::parse(url)
                .map_err(|error| CannotOpen::misconfigured(format!("endpoint_url {url:?}: {error}")))
        };
        let own_endpoint = project.endpoint_url.as_deref().map(parse).transpose()?;
        let credentials = self.credentials(company_id, project, own_endpoint.as_ref())?;
        let mut config = BucketConfig::new(&project.bucket, &project.region, credentials);
        // Who writes projects must not reach the inner network through this process; the operator's endpoint may.
        let anywhere = own_endpoint.is_none() || self.defaults.allow_private_endpoints;
        config.endpoint_url = own_endpoint.or_else(|| self.defaults.endpoint_url.clone());
        config.storage_class = project.storage_class.clone();
        config.extra_root_certificates_pem = self.defaults.extra_ca_pem.clone().map(String::into_bytes);
        let opened = if anywhere {
            Bucket::open(config)
        } else {
            Bucket::open_public(config)
        };
        opened.map_err(|error| CannotOpen::misconfigured(error.to_string()))
    }

    fn credentials(
        &self,
        company_id: CompanyId,
        project: &Project,
        own_endpoint: Option<&Url>,
    ) -> Result<Credentials, CannotOpen> {
        if let Some(sealed) = &project.credentials_sealed {
            let opened = ProjectCredentials::open(sealed, &self.secrets_key, company_id, project.id)
                .map_err(|error| {
                    CannotOpen::new(SessionErrorCode::CredentialsUnreadable, error.to_string())
                })?;
            return Ok(Credentials::Static {
                access_key_id: opened.access_key_id,
                secret_access_key: opened.secret_access_key,
                session_token: opened.session_token,
            });
        }
        // The operator's own keys are for the operator's own endpoint: a project that names another host must
        // bring keys of its own, or whoever writes projects could have requests signed for any host.
        if own_endpoint.is_some_and(|own| Some(own) != self.defaults.endpoint_url.as_ref()) {
            return Err(CannotOpen::new(
                SessionErrorCode::CredentialsMissing,
                "the project has an endpoint of its own but no credentials",
            ));
        }
        if let Some(profile) = &project.aws_profile {
            return Ok(Credentials::Profile(profile.clone()));
        }
        Ok(match &self.defaults.credentials {
            Some(fixed) => Credentials::Static {
                access_key_id: fixed.access_key_id.clone(),
                secret_access_key: fixed.secret_access_key.clone(),
                session_token: fixed.session_token.clone(),
            },
            None => Credentials::DefaultChain,
        })
    }
}
