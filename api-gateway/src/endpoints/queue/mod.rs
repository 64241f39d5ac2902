//! The explained queue: what waits, how long the line is, and why.

mod get;
mod view;

use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config.service(get::get);
}
