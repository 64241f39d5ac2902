//! `leftovers`: multipart uploads that are open in the buckets of projects, and what they belong to.

use super::{App, print, projects};
use crate::Exit;
use crate::args::{AbortArgs, LeftoversArgs, LeftoversCommand};
use crate::problem::Failure;
use crate::render::{duration, field, printable, size, table};
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};

pub(super) async fn run(app: &App, args: LeftoversArgs) -> Result<Exit> {
    match args.command {
        None => list(app, args.project.as_deref(), args.list.limit()).await,
        Some(LeftoversCommand::Abort(abort)) if abort.all => abort_all(app, &abort).await,
        Some(LeftoversCommand::Abort(abort)) => abort_one(app, &abort).await,
    }
}

/// A project to be asked.
struct Asked {
    id: String,
    name: String,
}

/// The project that was named, or all of them.
async fn asked(app: &App, project: Option<&str>) -> Result<Vec<Asked>> {
    if let Some(project) = project {
        return Ok(vec![Asked {
            id: projects::resolve(app, project).await?,
            name: project.to_owned(),
        }]);
    }
    let all = app.client.list(&["projects"], &[], None).await?.items;
    Ok(all
        .iter()
        .map(|project| Asked {
            id: field(project, "id"),
            name: field(project, "name"),
        })
        .collect())
}

/// What is open in the buckets of these projects.
struct Found {
    /// Each with the name of its project.
    uploads: Vec<(String, Value)>,
    /// Whether there are more than were asked for.
    more: bool,
    /// Whether every project could be asked.
    complete: bool,
}

/// Reads up to `limit` uploads. A project that cannot be asked is said on stderr, and the others are asked all the
/// same.
async fn read(app: &App, projects: &[Asked], limit: Option<usize>) -> Result<Found> {
    let mut found = Found {
        uploads: Vec::new(),
        more: false,
        complete: true,
    };
    for project in projects {
        let rest = limit.map(|limit| limit - found.uploads.len());
        // Enough are shown, but whether there are more is to be told.
        let wanted = rest.map(|rest| rest.max(1));
        match app
            .client
            .list(&["projects", &project.id, "leftovers"], &[], wanted)
            .await
        {
            Ok(page) => {
                found.more |= page.more || rest == Some(0) && !page.items.is_empty();
                let kept = page.items.into_iter().take(rest.unwrap_or(usize::MAX));
                found
                    .uploads
                    .extend(kept.map(|upload| (project.name.clone(), upload)));
            }
            Err(error) if projects.len() > 1 && is_of_one_project(&error) => {
                found.complete = false;
                eprintln!("project {}: {error:#}", printable(&project.name));
            }
            Err(error) => return Err(error),
        }
        if found.more {
            break;
        }
    }
    Ok(found)
}

/// Whether other projects may fare better: the server answered, and knows who asks.
fn is_of_one_project(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Problem(problem)) if !matches!(problem.status, 401 | 403))
}

async fn list(app: &App, project: Option<&str>, limit: Option<usize>) -> Result<Exit> {
    let found = read(app, &asked(app, project).await?, limit).await?;
    if app.json {
        let items: Vec<&Value> = found.uploads.iter().map(|(_, upload)| upload).collect();
        print(&serde_json::to_string_pretty(&items)?)?;
    } else if !found.uploads.is_empty() {
        print(&uploads_table(&found.uploads))?;
    } else if found.complete {
        eprintln!("no multipart upload is open");
    }
    if found.more {
        eprintln!(
            "these are the first {}; more with --limit N or --all",
            found.uploads.len()
        );
    }
    Ok(if found.complete {
        Exit::Success
    } else {
        Exit::Failed
    })
}

fn uploads_table(uploads: &[(String, Value)]) -> String {
    let row = |(project, upload): &(String, Value)| {
        vec![
            printable(project),
            upload["age_ms"].as_u64().map_or("-".to_owned(), duration),
            field(upload, "parts"),
            field(upload, "size_bytes"),
            user_of(upload),
            field(upload, "upload_id"),
            field(upload, "key"),
        ]
    };
    table(
        &["project", "age", "parts", "size", "in use by", "upload id", "key"],
        uploads.iter().map(row).collect(),
    )
}

/// Who will go on with it.
fn user_of(upload: &Value) -> String {
    match (upload["is_in_use"] == true, upload["session_id"].is_string()) {
        (true, true) => field(upload, "session_id"),
        (true, false) => "another company".to_owned(),
        (false, true) => format!(
            "nobody ({} session)",
            field(upload, "session_status").replace('_', " ")
        ),
        (false, false) => "nobody".to_owned(),
    }
}

async fn abort_one(app: &App, args: &AbortArgs) -> Result<Exit> {
    let project = projects::resolve(app, args.project.as_deref().unwrap_or_default()).await?;
    let body = json!({ "key": args.key, "upload_id": args.upload_id });
    let answer = send(app, &project, body).await?;
    if app.json {
        app.show(&answer, |_| String::new())?;
    } else {
        eprintln!("aborted");
    }
    Ok(Exit::Success)
}

async fn abort_all(app: &App, args: &AbortArgs) -> Result<Exit> {
    let projects = asked(app, args.project.as_deref()).await?;
    let found = read(app, &projects, None).await?;
    let unused: Vec<&Value> = found
        .uploads
        .iter()
        .map(|(_, upload)| upload)
        .filter(|upload| upload["is_in_use"] == false)
        .collect();
    if !unused.is_empty() && !args.yes && !is_wanted(&unused)? {
        eprintln!("nothing was aborted");
        return Ok(Exit::Failed);
    }
    let mut sums = [("aborted", 0), ("in_use", 0), ("failed", 0)];
    for project in &projects {
        if !unused
            .iter()
            .any(|upload| upload["project_id"] == project.id.as_str())
        {
            continue;
        }
        let answer = send(app, &project.id, json!({ "all": true })).await?;
        for (name, sum) in &mut sums {
            *sum += answer[*name].as_u64().unwrap_or(0);
        }
    }
    let [(_, aborted), _, (_, failed)] = sums;
    if app.json {
        let sums: serde_json::Map<String, Value> = sums
            .iter()
            .map(|(name, sum)| ((*name).to_owned(), (*sum).into()))
            .collect();
        print(&serde_json::to_string_pretty(&sums)?)?;
    } else if unused.is_empty() {
        eprintln!("nothing is left over");
    } else {
        eprintln!("{aborted} aborted");
    }
    if failed > 0 {
        eprintln!("{failed} stay open: the store did not confirm their abort; try again later");
    }
    let is_done = failed == 0 && found.complete;
    Ok(if is_done { Exit::Success } else { Exit::Failed })
}

async fn send(app: &App, project: &str, body: Value) -> Result<Value> {
    app.client
        .send(Method::POST, &["projects", project, "leftovers", "abort"], body)
        .await
}

/// Asks on the terminal whether to abort these.
fn is_wanted(unused: &[&Value]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask on; give --yes to abort without being asked",
        ));
    }
    let bytes = unused
        .iter()
        .filter_map(|upload| upload["size_bytes"].as_u64())
        .sum();
    eprint!(
        "abort {} multipart uploads ({})? [y/N] ",
        unused.len(),
        size(bytes)
    );
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read stdin")?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
