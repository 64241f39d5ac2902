//! Source roots: the directories that uploads may read, as far as this gateway has them mounted.

mod entries;
mod list;

use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list::list).service(entries::entries);
}
