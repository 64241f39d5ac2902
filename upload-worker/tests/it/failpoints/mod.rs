//! Processes that are killed, stopped or held exactly where it hurts. The places are in `docs/TORTURE.md`.

mod cancelled;
mod frozen;
mod gateways;
mod killed;
mod plans;
mod receipts;
mod withdrawn;

use crate::fixture::{MIB, Place, Testimony, World, pseudo_random};
use dev_stack::StackOptions;
use serde_json::{Value, json};
use std::time::Duration;

const LEASE_S: u32 = 2;
const PART_BYTES: u64 = 5 * MIB;
const SMALL_FILES: usize = 12;

/// A point that a worker passes in a delivery: how often it does so before it is time, and whether it has a job
/// of the session in hand then.
struct Passed {
    point: &'static str,
    before: u32,
    has_job: bool,
}

const fn passed(point: &'static str, before: u32, has_job: bool) -> Passed {
    Passed {
        point,
        before,
        has_job,
    }
}

/// In their order. Later than the first time where that says more: some files are recorded then, others not.
const ON_THE_WAY: [Passed; 19] = [
    passed("take.before_claim", 0, false),
    passed("claim.before_work", 0, true),
    passed("scan.walking", 0, true),
    passed("scan.before_commit", 0, true),
    passed("scan.before_push", 0, true),
    passed("put.before_request", 5, true),
    passed("put.before_record", 5, true),
    passed("multipart.before_request", 0, true),
    passed("multipart.before_record", 0, true),
    passed("multipart.before_parts", 0, true),
    passed("part.before_request", 0, true),
    passed("part.arrived", 0, true),
    passed("complete.before_request", 0, true),
    passed("complete.before_record", 0, true),
    passed("flush.before_write", 0, true),
    passed("flush.before_commit", 0, true),
    passed("flush.after_commit", 0, true),
    // The first is the scan's.
    passed("end.before_commit", 1, true),
    passed("end.before_push", 1, false),
];

impl Passed {
    /// A root that nobody serves but the worker that is to come to this point.
    fn root(&self) -> String {
        self.point.replace(['.', '_'], "-")
    }

    fn schedule(&self, action: &str) -> String {
        format!("{}={}*off->1*{action}", self.point, self.before)
    }
}

/// A stack without workers, in which each of these points has a root of its own.
async fn world_with_roots(lease_s: u32) -> World {
    let add_roots = |options: &mut StackOptions| {
        let roots = options.source_roots.take().unwrap();
        let (_, dir) = roots.split(',').next().unwrap().split_once('=').unwrap();
        let own = ON_THE_WAY
            .iter()
            .map(|passed| format!(",{}={dir}", passed.root()));
        options.source_roots = Some(roots.clone() + &own.collect::<String>());
    };
    World::start_with(0, lease_s, add_roots).await
}

/// Small files, and one in two parts.
async fn place(world: &World, name: &str) -> Place {
    let mut place = world.place(&name.replace(['.', '_'], "-")).await;
    place.source.write_many(SMALL_FILES);
    place
        .source
        .write("in parts", pseudo_random(PART_BYTES + 7, SMALL_FILES as u64));
    place
}

fn settings() -> Value {
    json!({ "part_size_bytes": PART_BYTES, "concurrency": 2 })
}

impl Place {
    /// Starts a session at this root; gives its id.
    async fn start_at(&self, root: &str) -> String {
        let mut request = self.request(&settings());
        request["source"]["root"] = json!(root);
        let session = self.api.post("/api/sessions", request).await;
        session["id"].as_str().unwrap().to_owned()
    }

    /// After a stop: whatever arrived is whole and of the source, what is recorded has arrived, and nothing is
    /// left open.
    async fn assert_whole(&self, session: &Value, testimony: &Testimony) {
        let wrong: Vec<_> = testimony
            .problems
            .iter()
            .filter(|problem| !problem.ends_with("is missing"))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(testimony.open_uploads.is_empty(), "{:?}", testimony.open_uploads);
        let files = self.assert_consistent(session).await;
        for file in files.iter().filter(|file| file["status"] == "uploaded") {
            assert!(
                testimony.objects.contains_key(file["s3_key"].as_str().unwrap()),
                "{file}"
            );
        }
    }
}

/// Waits for a query of the database to give this number.
async fn until_count(world: &World, what: &str, query: &str, wanted: i64) {
    crate::fixture::eventually(what, Duration::from_secs(60), async || {
        (world.count(query).await == wanted).then_some(())
    })
    .await;
}
