//! Companies to deliver for: each with an owner, a bucket and a project.

use std::sync::Arc;

use anyhow::Context as _;
use dev_stack::{Stack, secrets};
use serde_json::json;

use super::api::{Api, text};

/// What all keys of a project begin with.
const PREFIX: &str = "deliveries/";

/// A company with a project.
pub(super) struct Company {
    pub(super) api: Arc<Api>,
    pub(super) bucket: String,
    project_id: String,
}

/// Where the objects of a project go.
pub(super) struct Store {
    pub(super) bucket: String,
    pub(super) endpoint_url: String,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
}

/// A target for one session.
pub(super) struct Target {
    pub(super) cycle_id: String,
    /// What all its keys begin with.
    pub(super) prefix: String,
}

impl Company {
    /// Enters a company, as the platform's admin, and makes its project, as its owner, with a bucket of the stack's S3
    /// server.
    pub(super) async fn enter(
        stack: &Stack,
        admin: &Api,
        gateways: Arc<[String]>,
        number: usize,
    ) -> anyhow::Result<Self> {
        let s3 = stack.s3().context("the S3 server is down")?;
        let store = Store {
            bucket: format!("company-{number}"),
            endpoint_url: s3.endpoint_url(),
            access_key_id: s3.access_key_id().to_owned(),
            secret_access_key: s3.secret_access_key().to_owned(),
        };
        s3.create_bucket(&store.bucket)?;
        Self::enter_with(admin, gateways, number, &store).await
    }

    /// The same with a bucket that is there.
    pub(super) async fn enter_with(
        admin: &Api,
        gateways: Arc<[String]>,
        number: usize,
        store: &Store,
    ) -> anyhow::Result<Self> {
        let body =
            json!({ "company_name": format!("Company {number}"), "company_code": format!("CO{number}") });
        let company = admin.post("/api/companies", body).await?;
        let (username, password) = (format!("owner{number}"), secrets::password());
        let body = json!({
            "username": username,
            "email": format!("{username}@example.com"),
            "full_name": username,
            "role": "owner",
            "password": password,
            "company_id": text(&company, "id")?,
        });
        admin.post("/api/users", body).await?;
        let api = Api::new(gateways, &username, &password);
        let project = api
            .post(
                "/api/projects",
                json!({
                    "name": store.bucket,
                    "bucket": store.bucket,
                    "region": "us-east-1",
                    "prefix": PREFIX,
                    "endpoint_url": store.endpoint_url,
                    "credentials": {
                        "access_key_id": store.access_key_id,
                        "secret_access_key": store.secret_access_key,
                    },
                }),
            )
            .await?;
        Ok(Self {
            api: Arc::new(api),
            bucket: store.bucket.clone(),
            project_id: text(&project, "id")?,
        })
    }

    /// A new cycle.
    pub(super) async fn target(&self) -> anyhow::Result<Target> {
        let path = format!("/api/projects/{}/cycles", self.project_id);
        let cycle = self.api.post(&path, json!({})).await?;
        Ok(Target {
            cycle_id: text(&cycle, "id")?,
            prefix: format!("{PREFIX}{}", text(&cycle, "s3_prefix")?),
        })
    }
}
