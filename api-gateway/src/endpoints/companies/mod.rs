//! Companies: the tenants. Platform admins manage them; everybody may read their own.

mod create;
mod get;
mod list;
mod receipt_keys;
mod update;

use chrono::{DateTime, Utc};
use domain::CompanyId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(list::list)
        .service(create::create)
        .service(get::get)
        .service(update::update)
        .service(receipt_keys::receipt_keys);
}

/// A tenant.
#[derive(Serialize, ToSchema)]
struct Company {
    id: CompanyId,
    company_name: String,
    /// Unique; source roots name it.
    company_code: String,
    contact_email: Option<String>,
    /// Whether its people may sign in.
    is_active: bool,
    quota: Quota,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What a company may use.
#[derive(Serialize, ToSchema)]
struct Quota {
    /// How many of its upload jobs run at once; null: no limit.
    max_concurrent_jobs: Option<i32>,
}

impl From<database::companies::Company> for Company {
    fn from(company: database::companies::Company) -> Self {
        Self {
            id: company.id,
            company_name: company.company_name,
            company_code: company.company_code,
            contact_email: company.contact_email,
            is_active: company.is_active,
            quota: Quota {
                max_concurrent_jobs: company.max_concurrent_jobs,
            },
            created_at: company.created_at,
            updated_at: company.updated_at,
        }
    }
}
