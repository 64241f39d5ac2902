//! From a session to what its jobs work on: the opened source root and the bucket.

use crate::worker::JobFailure;
use anyhow::Context;
use buckets::Buckets;
use database::jobs::WorkOrder;
use domain::{OnExisting, SessionErrorCode, SessionSettings};
use identity::sealing::SecretsKey;
use settings::{SourceRoots, root_name};
use std::sync::Arc;
use storage::Bucket;
use transfer::{Filter, ScanOptions, SourceRoot};

/// Opens source roots and buckets.
pub struct Targets {
    roots: SourceRoots,
    /// The buckets of projects.
    pub buckets: Buckets,
}

impl Targets {
    /// What the settings say.
    ///
    /// # Errors
    /// When the sealing key is unusable.
    pub fn new(settings: &settings::Worker) -> anyhow::Result<Self> {
        let secrets_key = SecretsKey::from_base64(&settings.secrets_key).context("SECRETS_KEY")?;
        Ok(Self {
            roots: settings.source_roots.clone(),
            buckets: Buckets::new(settings.storage.clone(), Arc::new(secrets_key)),
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
            in_key_order: settings.on_existing != OnExisting::Overwrite,
        })
    }

    /// The bucket of a session's project, as the session's settings have it.
    ///
    /// # Errors
    /// When there are no credentials, they cannot be opened, or project and settings make no usable configuration.
    pub fn bucket(&self, order: &WorkOrder) -> Result<Bucket, JobFailure> {
        let unusable = |code, detail| JobFailure::Session {
            code,
            detail,
            may_pass: false,
        };
        let bucket = self
            .buckets
            .of(order.session.company_id, &order.project)
            .map_err(|error| unusable(error.code, error.detail))?;
        match &order.session.settings.storage_class {
            Some(class) => bucket
                .with_storage_class(class)
                .map_err(|error| unusable(SessionErrorCode::StorageMisconfigured, error.to_string())),
            None => Ok(bucket),
        }
    }
}
