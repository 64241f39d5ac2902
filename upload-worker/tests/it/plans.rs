//! What a dry run tells that an upload would do, and what an upload then does.

use crate::command_line::Shell;
use crate::fixture::{MIB, PREFIX, Place, pseudo_random, set_mode, shared};
use reqwest::Method;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

impl Place {
    /// The plan of a dry run, without what depends on the time.
    pub(crate) async fn plan(&self, session: &Value) -> Value {
        let id = session["id"].as_str().unwrap();
        let mut plan = self.api.get(&format!("/api/sessions/{id}/plan")).await;
        assert_eq!(
            (&plan["session_id"], &plan["run"]),
            (&session["id"], &session["run"])
        );
        for field in ["session_id", "run", "estimate", "no_estimate"] {
            plan.as_object_mut().unwrap().remove(field).unwrap();
        }
        plan
    }
}

fn settings(more: &Value) -> Value {
    let mut settings = json!({
        "on_existing": "skip_unchanged", "part_size_bytes": 5 * MIB, "exclude": ["*.tmp", "cache/"],
        "storage_class": "STANDARD_IA",
    });
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    settings
}

/// Some of everything: one file delivered and left as it was, one changed since, new ones, and what is not sent.
async fn place(name: &str) -> Place {
    let mut place = shared().await.place(name).await;
    place.source.write("changed", "as it was");
    place.source.write("same", "as it is");
    let session = place.upload(json!({}), "completed").await;
    place.assert_delivered(&session).await;
    place.source.write("changed", "as it is now");
    place.source.write("new/a", "123");
    place.source.write("new/empty", "");
    place.source.write("large", pseudo_random(11 * MIB, 6));
    // Two names with one text: the later one cannot be sent.
    place.source.write_odd(b"odd\n", "odd%0A", "odd");
    place.source.write_unexpected(b"odd%0A", "as odd");
    for path in ["x.tmp", "new/y.tmp", "cache/one", "cache/two", "closed/file"] {
        place.source.write_unexpected(path.as_bytes(), "left out");
    }
    let dir = place.source.dir();
    set_mode(dir.join("closed"), 0);
    symlink("same", dir.join("link")).unwrap();
    mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::from(0o644), 0).unwrap();
    place
}

fn expected_plan() -> Value {
    let not_sent = |error_code: &str, size_bytes: usize, path: &str| json!([{ "error_code": error_code, "count": 1, "size_bytes": size_bytes, "example_paths": [path] }]);
    let skipped = |error_code: &str, path: &str| not_sent(error_code, 0, path)[0].clone();
    json!({
        "send": { "files": 5, "size_bytes": 11 * MIB + 12 + 3 + 3 },
        "overwrite": { "files": 1, "size_bytes": 12 },
        "compare": { "files": 0, "size_bytes": 0 },
        "left_alone": not_sent("unchanged", 8, "same"),
        "skipped": [skipped("special_file", "pipe"), skipped("symlink_not_followed", "link")],
        "conflicts": not_sent("name_collision", 6, "odd%0A"),
        "unreadable": not_sent("permission_denied", 0, "closed/"),
        "excluded": { "files": 2, "directories": 1 },
        "largest": [
            { "path": "large", "size_bytes": 11 * MIB },
            { "path": "changed", "size_bytes": 12 },
            { "path": "new/a", "size_bytes": 3 },
            { "path": "odd%0A", "size_bytes": 3 },
            { "path": "new/empty", "size_bytes": 0 },
        ],
        "requests": {
            "put_object": 4, "create_multipart_upload": 1, "upload_part": 3, "complete_multipart_upload": 1,
            "list_objects": 1,
        },
        "compare_requests": {
            "put_object": 0, "create_multipart_upload": 0, "upload_part": 0, "complete_multipart_upload": 0,
            "list_objects": 0,
        },
    })
}

#[tokio::test]
async fn a_dry_run_leaves_a_plan_and_the_upload_does_just_that() {
    let world = shared().await;
    let place = place("planned").await;
    let shell = Shell::new(world, "planned");
    shell.sign_in(world).await;
    let received = place.s3.received_bytes();
    let dry = place
        .upload(settings(&json!({ "dry_run": true })), "completed_with_errors")
        .await;
    assert_eq!(place.s3.received_bytes(), received, "nothing is sent");
    let plan = place.plan(&dry).await;
    assert_eq!(plan, expected_plan());
    let id = dry["id"].as_str().unwrap();
    let planned: BTreeMap<String, Value> = place
        .assert_consistent(&dry)
        .await
        .into_iter()
        .filter(|file| !file["planned"].is_null())
        .map(|file| (file["path"].as_str().unwrap().to_owned(), file["planned"].clone()))
        .collect();
    let text: Vec<(&str, &str)> = planned
        .iter()
        .map(|(path, planned)| (path.as_str(), planned.as_str().unwrap()))
        .collect();
    assert_eq!(
        text,
        [
            ("changed", "overwrite"),
            ("large", "send"),
            ("new/a", "send"),
            ("new/empty", "send"),
            ("odd%0A", "send")
        ]
    );
    let answer = place.api.get(&format!("/api/sessions/{id}/plan")).await;
    // Two small files tell nothing of eleven megabytes.
    assert_eq!(
        (&answer["estimate"], &answer["no_estimate"]),
        (&json!(null), &json!("too_little_known"))
    );
    let shown = shell.run(&["plan", id]).await.succeeded();
    let said = "to send     5 files   11.00 MiB  of which 1 file, 12 B replace objects";
    assert!(shown.stdout.contains(said), "{}", shown.stdout);
    let as_json = shell.run(&["plan", id, "--json"]).await.succeeded();
    assert_eq!(as_json.json(), answer);

    let before = place.s3.operations();
    let ran = shell.run(&["upload", "--plan", id, "--json"]).await;
    assert_eq!(ran.code, 3, "{ran:#?}");
    let session = ran.json_lines().pop().unwrap();
    let after = place.s3.operations();
    let count = |name: &str| {
        after.get(name).copied().unwrap_or_default() - before.get(name).copied().unwrap_or_default()
    };
    // The receipt is one more upload of a single part.
    for (name, field, of_receipt) in [
        ("PutObject", "put_object", 0),
        ("CreateMultipartUpload", "create_multipart_upload", 1),
        ("UploadPart", "upload_part", 1),
        ("CompleteMultipartUpload", "complete_multipart_upload", 1),
        ("ListObjectsV2", "list_objects", 0),
    ] {
        assert_eq!(json!(count(name) - of_receipt), plan["requests"][field], "{name}");
    }
    assert_eq!(session["repeats"], dry["id"]);
    assert_eq!(session["source"], dry["source"]);
    assert_eq!(session["settings"], {
        let mut settings = dry["settings"].clone();
        settings["dry_run"] = json!(false);
        settings
    });
    assert_eq!(session["files"]["uploaded"], plan["send"]["files"]);
    assert_eq!(session["bytes"]["uploaded"], plan["send"]["size_bytes"]);
    let testimony = place.testimony(&place.objects_below(PREFIX)).await;
    testimony.assert_good();
    for (path, class) in [
        ("same", "STANDARD"),
        ("changed", "STANDARD_IA"),
        ("large", "STANDARD_IA"),
    ] {
        assert_eq!(
            testimony.objects[&format!("{PREFIX}{path}")].storage_class,
            class,
            "{path}"
        );
    }

    let answer = place.api.get(&format!("/api/sessions/{id}/plan")).await;
    assert_eq!(answer["no_estimate"], json!(null));
    assert_eq!(
        (&answer["estimate"]["basis"], &answer["estimate"]["sessions"]),
        (&json!("project_sessions"), &json!(2))
    );
    let no_dry_run = session["id"].as_str().unwrap();
    let refused = shell.run(&["upload", "--plan", no_dry_run]).await;
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(refused.stderr.contains("It is no dry run"), "{refused:#?}");
}

#[tokio::test]
async fn a_dry_run_that_is_followed_ends_with_its_plan() {
    let world = shared().await;
    let mut place = world.place("plan-told").await;
    place.source.write("a", "1234567");
    place.source.expected.clear();
    let shell = Shell::new(world, "plan-told");
    shell.sign_in(world).await;
    let path = place.source_path().to_owned();
    let arguments = [
        "upload",
        "--cycle",
        &place.cycle_id,
        "--root",
        crate::fixture::ROOT,
        &path,
        "--dry-run",
    ];
    let told = shell.run(&arguments).await.succeeded().stdout;
    for expected in [
        "completed (dry run: nothing was sent)",
        "to send  1 file  7 B  those whose key has an object replace it",
        "Requests: 1 PutObject",
        "Next: `uploader upload --plan ",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    let lines = shell
        .run(&[&arguments[..], &["--json"]].concat())
        .await
        .succeeded()
        .json_lines();
    let [.., session, plan] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(session["status"], "completed");
    assert_eq!(
        (&plan["session_id"], &plan["overwrite"]),
        (&session["id"], &json!(null))
    );
}

/// By checksum, the files whose objects have their size are neither sent nor left alone: nobody read them.
#[tokio::test]
async fn a_plan_tells_what_was_not_compared() {
    let place = place("uncompared").await;
    let dry = settings(&json!({ "compare": "checksum", "dry_run": true }));
    let session = place.upload(dry, "completed_with_errors").await;
    let mut expected = expected_plan();
    expected["left_alone"] = json!([]);
    expected["compare"] = json!({ "files": 1, "size_bytes": 8 });
    expected["compare_requests"]["put_object"] = json!(1);
    let largest = expected["largest"].as_array_mut().unwrap();
    largest.insert(2, json!({ "path": "same", "size_bytes": 8 }));
    assert_eq!(place.plan(&session).await, expected);
}

#[tokio::test]
async fn what_may_not_be_overwritten_is_a_conflict_and_a_retry_plans_anew() {
    let place = place("conflicts").await;
    let dry = settings(&json!({ "on_existing": "fail", "dry_run": true }));
    let session = place.upload(dry, "completed_with_errors").await;
    let plan = place.plan(&session).await;
    assert_eq!(plan["send"]["files"], 4);
    assert_eq!(plan["overwrite"], json!({ "files": 0, "size_bytes": 0 }));
    assert_eq!(
        plan["conflicts"],
        json!([
            { "error_code": "already_exists", "count": 2, "size_bytes": 20, "example_paths": ["changed", "same"] },
            { "error_code": "name_collision", "count": 1, "size_bytes": 6, "example_paths": ["odd%0A"] },
        ])
    );
    set_mode(place.source.dir().join("closed"), 0o755);
    place.source.write_unexpected(b"new/z.tmp", "left out, too");
    let id = session["id"].as_str().unwrap();
    place
        .api
        .post(&format!("/api/sessions/{id}/retry"), json!({}))
        .await;
    let session = place.api.ended_as(id, "completed_with_errors").await;
    assert_eq!(session["run"], 2);
    let plan = place.plan(&session).await;
    assert_eq!(plan["unreadable"], json!([]));
    assert_eq!(plan["send"]["files"], 5);
    assert_eq!(plan["excluded"], json!({ "files": 3, "directories": 1 }));
    let conflicts = plan["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 2, "{conflicts:?}");
}

#[tokio::test]
async fn a_plan_is_its_companys() {
    let world = shared().await;
    let mut place = world.place("plan-of").await;
    place.source.write("a", "1");
    let session = place.upload(json!({ "dry_run": true }), "completed").await;
    let path = format!("/api/sessions/{}/plan", session["id"].as_str().unwrap());
    assert_eq!(place.api.get(&path).await["send"]["files"], 1);
    let stranger = place.api.of_company(&world.stack, "PLANLESS").await;
    let (status, problem) = stranger.call(Method::GET, &path, None).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")));
}
