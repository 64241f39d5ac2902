//! `cycles`: delivery rounds of a project.

use super::{App, projects, put};
use crate::args::{CycleArg, CyclesCommand};
use crate::problem::Failure;
use crate::render::{details, field, fields_table};
use anyhow::Result;
use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const LISTED: [&str; 5] = ["id", "cycle_name", "status", "s3_prefix", "created_at"];
const SHOWN: [&str; 7] = [
    "id",
    "project_id",
    "cycle_name",
    "status",
    "s3_prefix",
    "description",
    "created_at",
];

pub(super) async fn run(app: &App, command: CyclesCommand) -> Result<()> {
    match command {
        CyclesCommand::List { project, list } => {
            let id = projects::resolve(app, &project).await?;
            app.show_list(&["projects", &id, "cycles"], &[], &list, |items| {
                fields_table(items, &LISTED)
            })
            .await
        }
        CyclesCommand::Show(cycle) => {
            let id = resolve_arg(app, &cycle).await?;
            let cycle = app.client.get(&["cycles", &id]).await?;
            app.show(&cycle, |cycle| details(cycle, &SHOWN))
        }
        CyclesCommand::Create {
            project,
            number,
            prefix,
            description,
        } => {
            let id = projects::resolve(app, &project).await?;
            let mut body = Map::new();
            put(&mut body, "cycle_number", number);
            put(&mut body, "s3_prefix", prefix);
            put(&mut body, "description", description);
            let cycle = app
                .client
                .send(Method::POST, &["projects", &id, "cycles"], body.into())
                .await?;
            eprintln!("cycle {} created", field(&cycle, "cycle_name"));
            app.show(&cycle, |cycle| details(cycle, &SHOWN))
        }
        CyclesCommand::Complete(cycle) => change(app, &cycle, "complete").await,
        CyclesCommand::Reopen(cycle) => change(app, &cycle, "reopen").await,
        CyclesCommand::Delete(cycle) => {
            let id = resolve_arg(app, &cycle).await?;
            app.client.delete(&["cycles", &id], &[]).await?;
            eprintln!("cycle {} deleted", cycle.cycle);
            Ok(())
        }
    }
}

async fn change(app: &App, cycle: &CycleArg, verb: &str) -> Result<()> {
    let id = resolve_arg(app, cycle).await?;
    let cycle = app
        .client
        .send(Method::POST, &["cycles", &id, verb], json!({}))
        .await?;
    app.show(&cycle, |cycle| details(cycle, &SHOWN))
}

async fn resolve_arg(app: &App, cycle: &CycleArg) -> Result<String> {
    resolve(app, &cycle.cycle, cycle.project.as_deref()).await
}

/// The id of the cycle that a person named by id, or by name or number within a project.
pub(super) async fn resolve(app: &App, cycle: &str, project: Option<&str>) -> Result<String> {
    if let Ok(id) = cycle.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let Some(project) = project else {
        return Err(Failure::usage(format!(
            "{cycle:?} is no cycle id; with its name, give --project too"
        )));
    };
    let project_id = projects::resolve(app, project).await?;
    let cycles = app
        .client
        .list(&["projects", &project_id, "cycles"], &[], None)
        .await?
        .items;
    pick(&cycles, cycle).ok_or_else(|| {
        anyhow::anyhow!("project {project:?} has no cycle {cycle:?}\nhint: see `uploader cycles list`")
    })
}

/// The cycle of that name (`C2`, in either case) or number (`2`).
fn pick(cycles: &[Value], wanted: &str) -> Option<String> {
    let is_wanted = |cycle: &&Value| {
        cycle["cycle_name"]
            .as_str()
            .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
            || cycle["cycle_number"]
                .as_u64()
                .is_some_and(|number| wanted.parse() == Ok(number))
    };
    cycles.iter().find(is_wanted)?["id"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_by_name_or_number() {
        let cycles = [
            json!({"id": "x", "cycle_name": "C1", "cycle_number": 1}),
            json!({"id": "y", "cycle_name": "C12", "cycle_number": 12}),
        ];
        let found = ["C1", "c12", "12", "2", "C"].map(|wanted| pick(&cycles, wanted));
        assert_eq!(
            found,
            [Some("x".into()), Some("y".into()), Some("y".into()), None, None]
        );
    }
}
