//! The plan of a dry run, and why there is none.

use crate::fixture::{Client, LEASE, Worker, World, files, session_in, text};
use database::jobs::{self, Ending};
use database::{TenantConn, plans, sessions};
use domain::plan::Excluded;
use domain::{FileStatus, Planned, SessionId};
use serde_json::{Value, json};

impl Worker<'_> {
    /// A dry run over files with these sizes, whose filters left out three files and a directory, to its end.
    async fn dry_run(&self, world: &World, session: SessionId, sizes: &[i64]) {
        let claim = self.claim(session, "scan", world).await;
        let mut files = files(sizes);
        for file in &mut files {
            (file.status, file.planned) = (FileStatus::Skipped, Some(Planned::Send));
        }
        let excluded = Excluded {
            files: 3,
            directories: 1,
        };
        let finish = self
            .database
            .tenant(self.company, async move |conn: &mut TenantConn| {
                jobs::emit_batch(conn, &claim, LEASE, "samples", &files).await?;
                plans::note_walk(conn, &claim, LEASE, excluded, 0).await?;
                jobs::end(conn, &claim, Ending::ScanComplete).await
            })
            .await
            .unwrap();
        let claim = self.claim_job(finish.expect("nothing else is open").id).await;
        self.database
            .tenant(self.company, async move |conn: &mut TenantConn| {
                jobs::finish_session(conn, &claim, LEASE).await?;
                let settings = sessions::get(conn, session).await?.settings;
                Ok::<_, jobs::JobError>(plans::save(conn, &claim, &settings).await?)
            })
            .await
            .unwrap();
    }
}

async fn dry_run(client: &Client<'_>, project: &str) -> (Value, SessionId) {
    let project = client.project(project).await;
    let mut body = session_in(&client.cycle(&project).await);
    body["settings"] = json!({ "dry_run": true, "exclude": ["*.tmp"] });
    let session = client.post("/api/sessions", body).await.created();
    let id = text(&session, "id").parse().unwrap();
    (session, id)
}

#[tokio::test]
async fn a_plan_is_there_once_the_dry_run_has_ended() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (_, id) = dry_run(&admin, "Plans").await;
    let path = format!("/api/sessions/{id}/plan");
    let refused = admin.get(&path).await.problem(409, "session_running");
    assert!(text(&refused, "detail").contains("has not ended"), "{refused}");
    let worker = Worker::of(&admin);
    worker.dry_run(&world, id, &[7, 9 << 20]).await;
    let plan = admin.get(&path).await.ok();
    assert_eq!(plan["session_id"], json!(id));
    assert_eq!(plan["send"], json!({ "files": 2, "size_bytes": 7 + (9 << 20) }));
    assert_eq!(plan["overwrite"], json!(null));
    assert_eq!(plan["excluded"], json!({ "files": 3, "directories": 1 }));
    assert_eq!(plan["requests"]["upload_part"], 2);
    assert_eq!(
        (&plan["estimate"], &plan["no_estimate"]),
        (&json!(null), &json!("nothing_known"))
    );
    let file = admin.get(&format!("/api/sessions/{id}/files/1")).await.ok();
    assert_eq!(
        (&file["planned"], &file["status"]),
        (&json!("send"), &json!("skipped"))
    );
    let viewer = world.person(&admin, "viewer", "viewer").await;
    assert_eq!(viewer.get(&path).await.ok(), plan);

    // What another project's upload took is better than nothing.
    let other = admin.session("Done").await;
    let ended = |session: &Value, seconds: u32| {
        format!(
            "UPDATE sync_sessions SET status = 'completed', files_uploaded = 4, bytes_uploaded = {},
                    started_at = now() - interval '{seconds} seconds', finished_at = now() WHERE id = '{}'",
            2 * (7 + (9 << 20)),
            text(session, "id")
        )
    };
    world.sql(&ended(&other, 20)).await;
    let expected =
        |low_s: u32, basis: &str| json!({ "low_s": low_s, "high_s": low_s, "basis": basis, "sessions": 1 });
    let plan = admin.get(&path).await.ok();
    assert_eq!(plan["estimate"], expected(10, "company_sessions"));
    let mut own =
        session_in(&json!({ "id": admin.get(&format!("/api/sessions/{id}")).await.ok()["cycle_id"] }));
    own["start"] = json!(false);
    let own = admin.post("/api/sessions", own).await.created();
    world.sql(&ended(&own, 40)).await;
    let plan = admin.get(&path).await.ok();
    assert_eq!(plan["estimate"], expected(20, "project_sessions"));
    assert_eq!(plan["no_estimate"], json!(null));
}

#[tokio::test]
async fn what_leaves_no_plan_says_why() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("Real").await;
    let path = |id: &str| format!("/api/sessions/{id}/plan");
    let refused = admin
        .get(&path(text(&session, "id")))
        .await
        .problem(409, "no_plan");
    assert!(text(&refused, "detail").contains("no dry run"), "{refused}");
    let (session, _) = dry_run(&admin, "Cancelled").await;
    let id = text(&session, "id");
    admin.act(&format!("/api/sessions/{id}/cancel")).await;
    let refused = admin.get(&path(id)).await.problem(409, "no_plan");
    assert!(text(&refused, "detail").contains("cancelled"), "{refused}");
    for (status, said) in [("failed", "failed"), ("completed", "before there were plans")] {
        world
            .sql(&format!(
                "UPDATE sync_sessions SET status = '{status}' WHERE id = '{id}'"
            ))
            .await;
        let refused = admin.get(&path(id)).await.problem(409, "no_plan");
        assert!(text(&refused, "detail").contains(said), "{refused}");
    }
}
