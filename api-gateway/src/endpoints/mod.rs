//! The endpoints, one file for each verb: request, response, description and handler. What is registered here is
//! what `openapi.yaml` describes.

pub(crate) mod auth;
pub(crate) mod companies;
pub(crate) mod cycles;
pub(crate) mod health;
pub(crate) mod jwks;
pub(crate) mod leftovers;
pub(crate) mod projects;
pub(crate) mod queue;
pub(crate) mod sessions;
pub(crate) mod sources;
pub(crate) mod users;

use utoipa_actix_web::service_config::ServiceConfig;

/// Registers every endpoint.
pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    auth::register(config);
    companies::register(config);
    users::register(config);
    projects::register(config);
    cycles::register(config);
    sources::register(config);
    sessions::register(config);
    queue::register(config);
    leftovers::register(config);
    config
        .service(jwks::jwks)
        .service(health::live)
        .service(health::ready);
}
