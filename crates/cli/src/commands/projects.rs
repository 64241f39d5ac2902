//! `projects`: delivery targets.

use super::{App, put, read_secret};
use crate::args::{ProjectFields, ProjectsCommand};
use crate::problem::Failure;
use crate::render::{details, field, fields_table, printable};
use anyhow::Result;
use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const LISTED: [&str; 6] = ["id", "name", "bucket", "prefix", "region", "created_at"];
const SHOWN: [&str; 12] = [
    "id",
    "name",
    "description",
    "bucket",
    "region",
    "endpoint_url",
    "prefix",
    "storage_class",
    "aws_profile",
    "visibility",
    "is_active",
    "created_at",
];

pub(super) async fn run(app: &App, command: ProjectsCommand) -> Result<()> {
    match command {
        ProjectsCommand::List(list) => {
            app.show_list(&["projects"], &[], &list, |items| fields_table(items, &LISTED))
                .await
        }
        ProjectsCommand::Show { project } => {
            let id = resolve(app, &project).await?;
            let project = app.client.get(&["projects", &id]).await?;
            app.show(&project, |project| details(project, &SHOWN))
        }
        ProjectsCommand::Create { name, bucket, fields } => {
            let mut body = body_of(fields)?;
            put(&mut body, "name", Some(name));
            put(&mut body, "bucket", Some(bucket));
            let project = app.client.send(Method::POST, &["projects"], body.into()).await?;
            eprintln!("project {} created", field(&project, "name"));
            app.show(&project, |project| details(project, &SHOWN))
        }
        ProjectsCommand::Update {
            project,
            name,
            bucket,
            active,
            clear_credentials,
            fields,
        } => {
            let mut body = body_of(fields)?;
            put(&mut body, "name", name);
            put(&mut body, "bucket", bucket);
            put(&mut body, "is_active", active);
            put(&mut body, "credentials", clear_credentials.then_some(Value::Null));
            if body.is_empty() {
                return Err(Failure::usage(
                    "nothing to change was given; see `uploader projects update --help`",
                ));
            }
            let id = resolve(app, &project).await?;
            let project = app
                .client
                .send(Method::PATCH, &["projects", &id], body.into())
                .await?;
            app.show(&project, |project| details(project, &SHOWN))
        }
        ProjectsCommand::Delete { project, cascade } => {
            let id = resolve(app, &project).await?;
            let query = if cascade {
                vec![("cascade", "true".to_owned())]
            } else {
                Vec::new()
            };
            app.client.delete(&["projects", &id], &query).await?;
            eprintln!("project {} deleted", printable(&project));
            Ok(())
        }
    }
}

/// The id of the project that a person named by id or name.
pub(super) async fn resolve(app: &App, id_or_name: &str) -> Result<String> {
    if let Ok(id) = id_or_name.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let projects = app.client.list(&["projects"], &[], None).await?.items;
    pick(&projects, id_or_name)
}

/// The project of that name: exactly so, else the only one that differs in case alone.
fn pick(projects: &[Value], wanted: &str) -> Result<String> {
    let named = |same: &dyn Fn(&str) -> bool| -> Vec<&str> {
        let matching = projects
            .iter()
            .filter(|project| project["name"].as_str().is_some_and(same));
        matching.filter_map(|project| project["id"].as_str()).collect()
    };
    let mut found = named(&|name| name == wanted);
    if found.is_empty() {
        found = named(&|name| name.to_lowercase() == wanted.to_lowercase());
    }
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => anyhow::bail!(
            "there is no project {wanted:?}\nhint: `uploader projects list` shows those you can see"
        ),
        several => anyhow::bail!(
            "several projects are called {wanted:?}; give an id: {}",
            several.join(", ")
        ),
    }
}

/// The fields given; an empty text clears its field.
fn body_of(fields: ProjectFields) -> Result<Map<String, Value>> {
    let mut body = Map::new();
    let texts = [
        ("region", fields.region),
        ("endpoint_url", fields.endpoint_url),
        ("prefix", fields.prefix),
        ("description", fields.description),
        ("storage_class", fields.storage_class),
        ("aws_profile", fields.aws_profile),
        ("visibility", fields.visibility),
    ];
    for (name, text) in texts {
        put(
            &mut body,
            name,
            text.map(|text| if text.is_empty() { Value::Null } else { text.into() }),
        );
    }
    if let Some(access_key_id) = fields.access_key_id {
        let secret = read_secret("Secret access key: ", fields.secret_access_key_stdin)?;
        if secret.is_empty() {
            return Err(Failure::usage("the secret access key is empty"));
        }
        let credentials = json!({ "access_key_id": access_key_id, "secret_access_key": secret });
        put(&mut body, "credentials", Some(credentials));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_found_by_its_exact_name_first() {
        let projects = [
            json!({"id": "1", "name": "Scans"}),
            json!({"id": "2", "name": "scans"}),
            json!({"id": "3", "name": "Other"}),
        ];
        assert_eq!(pick(&projects, "scans").unwrap(), "2");
        assert_eq!(pick(&projects, "OTHER").unwrap(), "3");
        assert!(
            pick(&projects, "SCANS")
                .unwrap_err()
                .to_string()
                .contains("several")
        );
        assert!(
            pick(&projects, "none")
                .unwrap_err()
                .to_string()
                .contains("no project")
        );
    }
}
