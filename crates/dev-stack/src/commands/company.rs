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

/// A target for one session.
pub(super) struct Target {
    pub(super) cycle_id: String,
    /// What all its keys begin with.
    pub(super) prefix: String,
}

impl Company {
    /// Enters a company, as the platform's admin, and makes its project, as its owner.
    pub(super) async fn enter(
        stack: &Stack,
        admin: &Api,
        gateways: Arc<[String]>,
        number: usize,
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
        let bucket = format!("company-{number}");
        let s3 = stack.s3().context("the S3 server is down")?;
        s3.create_bucket(&bucket)?;
        let api = Api::new(gateways, &username, &password);
        let project = api
            .post(
                "/api/projects",
                json!({
                    "name": bucket,
                    "bucket": bucket,
                    "region": "us-east-1",
                    "prefix": PREFIX,
                    "endpoint_url": s3.endpoint_url(),
                    "credentials": {
                        "access_key_id": s3.access_key_id(),
                        "secret_access_key": s3.secret_access_key(),
                    },
                }),
            )
            .await?;
        Ok(Self {
            api: Arc::new(api),
            bucket,
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
