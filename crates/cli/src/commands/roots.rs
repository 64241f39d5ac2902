//! `roots`: the allow-listed directories on the workers' machines.

use super::{App, print};
use crate::args::RootsCommand;
use crate::render::{field, fields_table, table};
use anyhow::Result;
use serde_json::Value;

pub(super) async fn run(app: &App, command: RootsCommand) -> Result<()> {
    match command {
        RootsCommand::List => {
            let items = app.client.list(&["source-roots"], &[], None).await?.items;
            if app.json {
                print(&serde_json::to_string_pretty(&items)?)
            } else if items.is_empty() {
                eprintln!("no source root is given to your company; its operator sets SOURCE_ROOTS");
                Ok(())
            } else {
                print(&fields_table(&items, &["name", "available"]))
            }
        }
        RootsCommand::Ls { root, path, list } => {
            let query: Vec<_> = (!path.is_empty()).then_some(("path", path)).into_iter().collect();
            app.show_list(&["source-roots", &root, "entries"], &query, &list, entries)
                .await
        }
    }
}

fn entries(items: &[Value]) -> String {
    let row = |entry: &Value| {
        let is_directory = entry["kind"] == "directory";
        let name = format!("{}{}", field(entry, "name"), if is_directory { "/" } else { "" });
        let size = if is_directory {
            "-".to_owned()
        } else {
            field(entry, "size_bytes")
        };
        vec![size, field(entry, "modified_at"), name]
    };
    table(&["size", "modified", "name"], items.iter().map(row).collect())
}
