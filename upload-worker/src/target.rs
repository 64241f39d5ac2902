//! From a session to what its jobs work on: the opened source root and the bucket.

use crate::worker::JobFailure;
use anyhow::Context;
use database::jobs::WorkOrder;
use database::projects::Project;
use domain::{CompanyId, ProjectId, SessionErrorCode, SessionSettings};
use identity::sealing::{ProjectCredentials, SecretsKey};
use settings::{SourceRoots, StorageDefaults, root_name};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use storage::{Bucket, BucketConfig, Credentials};
use transfer::{Filter, ScanOptions, SourceRoot};
use url::Url;

/// Opens source roots and buckets. Buckets are kept open, so that jobs of a project share connections and the
/// budget of retries.
pub struct Targets {
    roots: SourceRoots,
    storage: StorageDefaults,
    secrets_key: SecretsKey,
    buckets: Mutex<HashMap<ProjectId, (chrono::DateTime<chrono::Utc>, Bucket)>>,
}

impl Targets {
    /// What the settings say.
    ///
    /// # Errors
    /// When the sealing key is unusable.
    pub fn new(settings: &settings::Worker) -> anyhow::Result<Self> {
        Ok(Self {
            roots: settings.source_roots.clone(),
            storage: settings.storage.clone(),
            secrets_key: SecretsKey::from_base64(&settings.secrets_key).context("SECRETS_KEY")?,
            buckets: Mutex::default(),
        })
    }

    /// Opens the source root of a session. A share that hangs holds up a thread for blocking work, and no other.
    ///
    /// # Errors
    /// When this worker has no such root for the company, or cannot open it.
    pub async fn source_root(&self, order: &WorkOrder) -> Result<SourceRoot, JobFailure> {
        let location = &order.session.source_root;
        let name = root_name(location);
        let root = self
            .roots
            .at(location, &order.company_code)
            .ok_or_else(|| JobFailure::Session {
                code: SessionErrorCode::UnknownRoot,
                detail: format!("this company has no source root {name:?} on the worker"),
                may_pass: false,
            })?;
        let path = root.path.clone();
        let opened = tokio::task::spawn_blocking(move || SourceRoot::open(&path)).await;
        let opened = opened.map_err(|error| JobFailure::Session {
            code: SessionErrorCode::Internal,
            detail: format!("opening the source root {name:?}: {error}"),
            may_pass: true,
        })?;
        opened.map_err(|error| {
            tracing::warn!(root = name, "{error:?}");
            JobFailure::Session {
                code: SessionErrorCode::SourceUnreadable,
                detail: format!("{name}: {error}"),
                may_pass: false,
            }
        })
    }

    /// What to walk for a session.
    ///
    /// # Errors
    /// When its patterns cannot be compiled.
    pub fn scan_options(order: &WorkOrder) -> Result<ScanOptions, JobFailure> {
        let settings: &SessionSettings = &order.session.settings;
        let filter =
            Filter::compile(&settings.include, &settings.exclude).map_err(|error| JobFailure::Session {
                code: SessionErrorCode::InvalidSettings,
                detail: error.to_string(),
                may_pass: false,
            })?;
        Ok(ScanOptions {
            source_path: order.session.source_path.clone(),
            filter,
            symlinks: settings.symlinks,
        })
    }

    /// The bucket of a session's project.
    ///
    /// # Errors
    /// When there are no credentials, they cannot be opened, or the project makes no usable configuration.
    pub fn bucket(&self, order: &WorkOrder) -> Result<Bucket, JobFailure> {
        let project = &order.project;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((updated_at, bucket)) = buckets.get(&project.id)
            && *updated_at == project.updated_at
        {
            return Ok(bucket.clone());
        }
        let bucket = self.open(order.session.company_id, project)?;
        buckets.insert(project.id, (project.updated_at, bucket.clone()));
        Ok(bucket)
    }

    fn open(&self, company_id: CompanyId, project: &Project) -> Result<Bucket, JobFailure> {
        let misconfigured = |detail: String| JobFailure::Session {
            code: SessionErrorCode::StorageMisconfigured,
            detail,
            may_pass: false,
        };
        let own_endpoint = project
            .endpoint_url
            .as_deref()
            .map(|url| {
                Url::parse(url).map_err(|error| misconfigured(format!("endpoint_url {url:?}: {error}")))
            })
            .transpose()?;
        let credentials = self.credentials(company_id, project, own_endpoint.as_ref())?;
        let mut config = BucketConfig::new(&project.bucket, &project.region, credentials);
        // Who writes projects must not reach the inner network through the worker; the operator's endpoint may.
        let anywhere = own_endpoint.is_none() || self.storage.allow_private_endpoints;
        config.endpoint_url = own_endpoint.or_else(|| self.storage.endpoint_url.clone());
        config.storage_class = project.storage_class.clone();
        config.extra_root_certificates_pem = self.storage.extra_ca_pem.clone().map(String::into_bytes);
        let opened = if anywhere {
            Bucket::open(config)
        } else {
            Bucket::open_public(config)
        };
        opened.map_err(|error| misconfigured(error.to_string()))
    }

    fn credentials(
        &self,
        company_id: CompanyId,
        project: &Project,
        own_endpoint: Option<&Url>,
    ) -> Result<Credentials, JobFailure> {
        if let Some(sealed) = &project.credentials_sealed {
            let opened = ProjectCredentials::open(sealed, &self.secrets_key, company_id, project.id)
                .map_err(|error| JobFailure::Session {
                    code: SessionErrorCode::CredentialsUnreadable,
                    detail: error.to_string(),
                    may_pass: false,
                })?;
            return Ok(Credentials::Static {
                access_key_id: opened.access_key_id,
                secret_access_key: opened.secret_access_key,
                session_token: opened.session_token,
            });
        }
        // The operator's own keys are for the operator's own endpoint: a project that names another host must
        // bring keys of its own, or whoever writes projects could have requests signed for any host.
        if own_endpoint.is_some_and(|own| Some(own) != self.storage.endpoint_url.as_ref()) {
            return Err(JobFailure::Session {
                code: SessionErrorCode::CredentialsMissing,
                detail: "the project has an endpoint of its own but no credentials".into(),
                may_pass: false,
            });
        }
        if let Some(profile) = &project.aws_profile {
            return Ok(Credentials::Profile(profile.clone()));
        }
        Ok(match &self.storage.credentials {
            Some(fixed) => Credentials::Static {
                access_key_id: fixed.access_key_id.clone(),
                secret_access_key: fixed.secret_access_key.clone(),
                session_token: fixed.session_token.clone(),
            },
            None => Credentials::DefaultChain,
        })
    }
}
