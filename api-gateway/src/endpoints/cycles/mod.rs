//! Cycles: the delivery rounds of a project.

mod complete;
mod create;
mod delete;
mod get;
mod list;
mod reopen;
mod status;
mod update;

use crate::error::Problems;
use chrono::{DateTime, Utc};
use database::cycles::default_prefix;
use domain::object_key::check_prefix;
use domain::{CycleId, CycleStatus, ProjectId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config
        .service(list::list)
        .service(create::create)
        .service(get::get)
        .service(update::update)
        .service(delete::delete)
        .service(complete::complete)
        .service(reopen::reopen);
}

/// A delivery round of a project.
#[derive(Serialize, ToSchema)]
struct Cycle {
    id: CycleId,
    project_id: ProjectId,
    /// Unique in the project.
    cycle_number: i32,
    /// `C` and the number, unless another one was given.
    cycle_name: String,
    /// Follows the project's prefix in every key.
    s3_prefix: String,
    description: String,
    /// Its first session moves it from `pending` to `in_progress`; people declare it `completed`.
    status: CycleStatus,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl From<database::cycles::Cycle> for Cycle {
    fn from(cycle: database::cycles::Cycle) -> Self {
        Self {
            id: cycle.id,
            project_id: cycle.project_id,
            cycle_number: cycle.cycle_number,
            cycle_name: cycle.cycle_name,
            s3_prefix: cycle.s3_prefix,
            description: cycle.description,
            status: cycle.status,
            created_at: cycle.created_at,
            updated_at: cycle.updated_at,
            completed_at: cycle.completed_at,
        }
    }
}

fn check_fields(
    cycle_name: Option<&String>,
    s3_prefix: Option<&String>,
    description: Option<&String>,
    problems: &mut Problems,
) {
    if let Some(name) = cycle_name {
        check_name(name, problems);
    }
    if let Some(Err(problem)) = s3_prefix.map(|prefix| check_prefix(prefix)) {
        problems.add("/s3_prefix", "invalid", problem);
    }
    if description.is_some_and(|text| text.chars().count() > 2000) {
        problems.add("/description", "too_long", "may have 2,000 characters");
    }
}

/// A name is also a folder's in the default prefix.
fn check_name(name: &str, problems: &mut Problems) {
    let count = name.chars().count();
    if !(1..=64).contains(&count) || name.trim().is_empty() {
        problems.add("/cycle_name", "invalid_length", "must have 1 to 64 characters");
    } else if name.contains('/') {
        problems.add("/cycle_name", "invalid", "has a \"/\"");
    } else if let Err(problem) = check_prefix(&default_prefix(name)) {
        problems.add("/cycle_name", "invalid", problem);
    }
}
