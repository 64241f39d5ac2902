//! `plan`, and what `upload` has to do with plans: what a dry run found, and the upload that does it.

use super::{App, print};
use crate::api::{Session, view};
use crate::args::SessionArg;
use crate::plan::{Plan, text};
use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

/// `plan`: shows the plan of a dry run.
pub(super) async fn show(app: &App, args: &SessionArg) -> Result<()> {
    let plan = get(app, &args.session.to_string()).await?;
    app.show(&plan, |plan| text(&args.session.to_string(), &view::<Plan>(plan)))
}

/// Shows the plan of a dry run that was followed to its end, if it has one: with `--json` as one line more.
pub(super) async fn show_at_end(app: &App, session: &Session) -> Result<()> {
    match get(app, &session.id).await {
        Ok(plan) if app.json => print(&plan.to_string()),
        Ok(plan) => print(&format!("\n{}", text(&session.id, &view::<Plan>(&plan)))),
        Err(error) => {
            eprintln!("there is no plan: {error:#}");
            Ok(())
        }
    }
}

/// What starts the upload that a dry run planned.
pub(super) async fn request(app: &App, dry_run: Uuid) -> Result<Value> {
    let id = dry_run.to_string();
    // Where there is no plan, this tells why.
    get(app, &id).await?;
    let session = app.client.get(&["sessions", &id]).await?;
    let mut settings = session["settings"].clone();
    settings["dry_run"] = false.into();
    Ok(json!({
        "cycle_id": session["cycle_id"],
        "source": session["source"],
        "settings": settings,
        "repeats": session["id"],
    }))
}

async fn get(app: &App, session: &str) -> Result<Value> {
    app.client.get(&["sessions", session, "plan"]).await
}
