//! `sessions`, `files`, `failures`: the record of uploads.

use super::{App, cycles, print, projects};
use crate::api::{FailureGroup, File, Session, view};
use crate::args::{FilesArgs, SessionArg, SessionsCommand};
use crate::render::{field, files as files_text, printable, progress_line, size, table};
use crate::summary::{failure_groups, summary};
use anyhow::Result;
use serde_json::Value;

pub(super) async fn run(app: &App, command: SessionsCommand) -> Result<()> {
    match command {
        SessionsCommand::List {
            project,
            cycle,
            status,
            q,
            list,
        } => {
            let mut query = vec![("sort", "-created_at".to_owned())];
            match (cycle, &project) {
                (Some(cycle), _) => {
                    query.push((
                        "cycle_id",
                        cycles::resolve(app, &cycle, project.as_deref()).await?,
                    ));
                }
                (None, Some(project)) => query.push(("project_id", projects::resolve(app, project).await?)),
                (None, None) => {}
            }
            query.extend(status.map(|status| ("status", status)));
            query.extend(q.map(|q| ("q", q)));
            app.show_list(&["sessions"], &query, &list, sessions_table).await
        }
        SessionsCommand::Show(SessionArg { session }) => {
            let session = app.client.get(&["sessions", &session.to_string()]).await?;
            if app.json {
                return app.show(&session, |_| String::new());
            }
            print(&outcome(app, &session).await)
        }
        SessionsCommand::Delete(SessionArg { session }) => {
            app.client
                .delete(&["sessions", &session.to_string()], &[])
                .await?;
            eprintln!("session {session} deleted");
            Ok(())
        }
    }
}

/// `files`: one line per file.
pub(super) async fn files(app: &App, args: FilesArgs) -> Result<()> {
    let mut query = Vec::new();
    query.extend(args.status.map(|status| ("status", status)));
    query.extend(args.error_code.map(|code| ("error_code", code)));
    query.extend(args.q.map(|q| ("q", q)));
    app.show_list(
        &["sessions", &args.session.to_string(), "files"],
        &query,
        &args.list,
        files_table,
    )
    .await
}

/// `failures`: by cause.
pub(super) async fn failures(app: &App, args: &SessionArg) -> Result<()> {
    let items = read_failures(app, &args.session.to_string()).await?;
    if app.json {
        return print(&serde_json::to_string_pretty(&items)?);
    }
    if items.is_empty() {
        eprintln!("no file failed");
        return Ok(());
    }
    print(&failure_groups(&items.iter().map(view).collect::<Vec<_>>()))
}

/// What came of a session, for a person. The causes are left out where they cannot be had.
pub(super) async fn outcome(app: &App, value: &Value) -> String {
    let session: Session = view(value);
    let mut groups: Vec<FailureGroup> = Vec::new();
    if session.files.failed > 0 && session.files_dropped_at.is_none() {
        match read_failures(app, &session.id).await {
            Ok(items) => groups = items.iter().map(view).collect(),
            Err(error) => eprintln!("the causes of the failures could not be read: {error:#}"),
        }
    }
    let mut text = summary(&session, &groups);
    if !session.is_ended() {
        text.push_str("\n\n");
        text.push_str(&progress_line(&session));
    }
    text
}

async fn read_failures(app: &App, session: &str) -> Result<Vec<Value>> {
    let answer = app.client.get(&["sessions", session, "failures"]).await?;
    Ok(answer["items"]
        .as_array()
        .or(answer.as_array())
        .cloned()
        .unwrap_or_default())
}

fn sessions_table(items: &[Value]) -> String {
    let row = |item: &Value| {
        let session: Session = view(item);
        vec![
            printable(&session.id),
            printable(&session.status),
            printable(&format!("{}:/{}", session.source.root, session.source.path)),
            files_text(session.files.total),
            size(session.bytes.total),
            session.files.failed.to_string(),
            field(item, "created_at"),
        ]
    };
    table(
        &["id", "status", "source", "files", "size", "failed", "created at"],
        items.iter().map(row).collect(),
    )
}

fn files_table(items: &[Value]) -> String {
    let row = |item: &Value| {
        let file: File = view(item);
        let cause = match (&file.error_code, &file.error_detail, &file.planned) {
            (Some(code), Some(detail), _) => format!("{code}: {detail}"),
            (Some(code), None, _) => code.clone(),
            (None, _, Some(planned)) => format!("dry run: {planned}"),
            _ => String::new(),
        };
        vec![
            printable(&file.status),
            size(file.size_bytes),
            file.attempts.to_string(),
            printable(&file.path),
            printable(&cause),
        ]
    };
    table(
        &["status", "size", "attempts", "path", "cause"],
        items.iter().map(row).collect(),
    )
}
