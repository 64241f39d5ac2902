//! Companies: the tenants. Platform admins manage them; everybody may read their own.

mod create;
mod get;
mod list;

use chrono::{DateTime, Utc};
use domain::CompanyId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(list::list)
        .service(create::create)
        .service(get::get);
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
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<database::companies::Company> for Company {
    fn from(company: database::companies::Company) -> Self {
        Self {
            id: company.id,
            company_name: company.company_name,
            company_code: company.company_code,
            contact_email: company.contact_email,
            is_active: company.is_active,
            created_at: company.created_at,
            updated_at: company.updated_at,
        }
    }
}
