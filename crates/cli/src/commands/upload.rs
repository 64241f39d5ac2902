//! `upload`, `watch`, `pause`, `resume`, `cancel`, `retry`: running an upload and following it to its end.

use super::{App, cycles, plan, print, put, sessions};
use crate::Exit;
use crate::api::{Session, view};
use crate::args::{ResumeArgs, RetryArgs, SessionArg, SettingsArgs, UploadArgs, WatchArgs};
use crate::follow::{Followed, Follower};
use crate::problem::Failure;
use crate::progress::Progress;
use crate::render::{printable, progress_line};
use anyhow::Result;
use domain::SessionSettings;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Starts a session, and follows it unless told to leave it.
pub(super) async fn upload(app: &App, args: UploadArgs) -> Result<Exit> {
    let body = match (args.plan, args.cycle, args.root) {
        (Some(dry_run), ..) => plan::request(app, dry_run).await?,
        (None, Some(cycle), Some(root)) => {
            let settings = settings_body(args.settings)?;
            let cycle = cycles::resolve(app, &cycle, args.project.as_deref()).await?;
            json!({
                "cycle_id": cycle,
                "source": { "root": root, "path": args.path },
                "settings": settings,
            })
        }
        (None, ..) => return Err(Failure::usage("give --cycle and --root, or --plan")),
    };
    let key = args.idempotency_key.unwrap_or_else(|| Uuid::new_v4().to_string());
    let session = app.client.create_session(body, &key).await?;
    if args.detach {
        return detached(app, &session);
    }
    eprintln!("upload {} started", id_of(&session));
    follow(app, &session, args.patience.give_up_after_s).await
}

/// Follows a session that runs already.
pub(super) async fn watch(app: &App, args: &WatchArgs) -> Result<Exit> {
    let session = app.client.get(&["sessions", &args.session.to_string()]).await?;
    follow(app, &session, args.patience.give_up_after_s).await
}

/// Runs a session again for the files that failed.
pub(super) async fn retry(app: &App, args: RetryArgs) -> Result<Exit> {
    let mut body = Map::new();
    put(&mut body, "error_code", args.error_code);
    let id = args.session.to_string();
    let session = app
        .client
        .send(Method::POST, &["sessions", &id, "retry"], body.into())
        .await?;
    if args.watch {
        follow(app, &session, args.patience.give_up_after_s).await
    } else {
        detached(app, &session)
    }
}

/// Lets a session rest.
pub(super) async fn pause(app: &App, args: &SessionArg) -> Result<()> {
    let session = act(app, args.session, "pause").await?;
    let id = id_of(&session);
    eprintln!("upload {id} is paused; `uploader resume {id}` lets it go on");
    app.show(&session, |session| progress_line(&view(session)))
}

/// Lets a paused session go on.
pub(super) async fn resume(app: &App, args: &ResumeArgs) -> Result<Exit> {
    let session = act(app, args.session, "resume").await?;
    if args.watch {
        follow(app, &session, args.patience.give_up_after_s).await
    } else {
        detached(app, &session)
    }
}

/// Stops a session for good.
pub(super) async fn cancel(app: &App, args: &SessionArg) -> Result<()> {
    let session = act(app, args.session, "cancel").await?;
    eprintln!("upload {} is being cancelled", id_of(&session));
    app.show(&session, |session| progress_line(&view(session)))
}

/// Does to a session what takes no further word.
async fn act(app: &App, id: Uuid, action: &str) -> Result<Value> {
    let segments = ["sessions", &id.to_string(), action];
    app.client.send(Method::POST, &segments, json!({})).await
}

/// Leaves a session to the workers; stdout has its id alone, for scripts.
fn detached(app: &App, session: &Value) -> Result<Exit> {
    let id = id_of(session);
    app.show(session, |_| id.clone())?;
    eprintln!("the upload runs on the workers; watch it with `uploader watch {id}`");
    Ok(Exit::Success)
}

async fn follow(app: &App, session: &Value, give_up_after_s: u64) -> Result<Exit> {
    let id = id_of(session);
    let mut progress = Progress::new(app.json);
    if !view::<Session>(session).is_ended() {
        progress.session(session)?;
    }
    let follower = Follower::new(
        &app.client,
        session,
        Duration::from_secs(give_up_after_s),
        progress,
    );
    match follower.run().await? {
        Followed::Ended(last) => {
            if !app.json {
                print(&sessions::outcome(app, &last).await)?;
            }
            let last: Session = view(&last);
            if last.dry_run {
                plan::show_at_end(app, &last).await?;
            }
            Ok(Exit::of(last.known_status()))
        }
        Followed::Interrupted => {
            eprintln!(
                "\nstopped watching; the upload goes on on the workers\n  watch it again: uploader watch {id}\n  \
                 let it rest: uploader pause {id}\n  stop it for good: uploader cancel {id}"
            );
            Ok(Exit::Interrupted)
        }
    }
}

fn id_of(session: &Value) -> String {
    printable(session["id"].as_str().unwrap_or_default())
}

/// The settings that were given; the server knows the others' defaults. What no server takes is refused here.
fn settings_body(args: SettingsArgs) -> Result<Value> {
    let mut body = Map::new();
    put(
        &mut body,
        "include",
        (!args.include.is_empty()).then_some(args.include),
    );
    put(
        &mut body,
        "exclude",
        (!args.exclude.is_empty()).then_some(args.exclude),
    );
    put(&mut body, "concurrency", args.concurrency);
    put(&mut body, "max_attempts", args.max_attempts);
    put(&mut body, "part_size_bytes", args.part_size);
    put(&mut body, "on_existing", args.on_existing);
    put(&mut body, "compare", args.compare);
    put(&mut body, "checksum", args.checksum);
    put(&mut body, "symlinks", args.symlinks);
    put(&mut body, "bandwidth_limit_bytes_per_s", args.bandwidth_limit);
    put(&mut body, "storage_class", args.storage_class);
    put(&mut body, "target_prefix", args.target_prefix);
    put(&mut body, "dry_run", args.dry_run.then_some(true));
    let body = Value::Object(body);
    let settings: SessionSettings = serde_json::from_value(body.clone())?;
    let problems: Vec<String> = settings
        .problems()
        .into_iter()
        .map(|problem| format!("{} {}", problem.field, problem.detail))
        .collect();
    if problems.is_empty() {
        Ok(body)
    } else {
        Err(Failure::usage(problems.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut SettingsArgs)) -> Result<Value> {
        let mut args = SettingsArgs {
            include: Vec::new(),
            exclude: Vec::new(),
            concurrency: None,
            max_attempts: None,
            part_size: None,
            on_existing: None,
            compare: None,
            checksum: None,
            symlinks: None,
            bandwidth_limit: None,
            storage_class: None,
            target_prefix: None,
            dry_run: false,
        };
        change(&mut args);
        settings_body(args)
    }

    #[test]
    fn only_what_was_given_is_sent() {
        assert_eq!(settings(|_| {}).unwrap(), json!({}));
        let given = settings(|args| {
            args.include = vec!["*.tif".into()];
            args.part_size = Some(16 << 20);
            args.symlinks = Some("follow_inside".into());
            args.checksum = Some("sha256".into());
            args.dry_run = true;
        });
        let expected = json!({
            "include": ["*.tif"], "part_size_bytes": 16 << 20, "symlinks": "follow_inside", "checksum": "sha256",
            "dry_run": true
        });
        assert_eq!(given.unwrap(), expected);
    }

    #[test]
    fn settings_out_of_range_are_wrong_usage() {
        let error = settings(|args| {
            args.part_size = Some(1);
            args.concurrency = Some(0);
        })
        .unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::Usage(_))));
        assert!(error.to_string().contains("part_size_bytes") && error.to_string().contains("concurrency"));
    }
}
