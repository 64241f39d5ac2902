//! The explained queue: a company's own numbers, its place in line, and why it waits.

use crate::fixture::{Client, Worker, World, session_in, text};
use dev_stack::Redis;
use domain::SessionId;
use queue::{Live, Pace, Queue, RunningJobs, WorkerInfo};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Redis with no other test's workers and lines in it.
struct OwnRedis {
    redis: Redis,
    queue: Queue,
    _dir: TempDir,
}

impl OwnRedis {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redis = Redis::start(dir.path()).await.unwrap();
        let queue = Queue::connect(&redis.url()).await.unwrap();
        Self {
            redis,
            queue,
            _dir: dir,
        }
    }

    /// What `client` hears while these workers, by their locations, are alive. They tell so just before: a
    /// registration does not hold for as long as a slow machine may take.
    async fn queue_of(&self, client: &Client<'_>, workers: &[&[&str]]) -> Value {
        for (number, locations) in workers.iter().enumerate() {
            self.tell_worker(&format!("worker-{number}"), locations).await;
        }
        queue_of(client).await
    }

    async fn tell_worker(&self, id: &str, locations: &[&str]) {
        let worker = WorkerInfo {
            id: id.to_owned(),
            locations: locations.iter().map(|location| (*location).to_owned()).collect(),
            slots: 8,
            running: RunningJobs::default(),
            // Every twenty seconds a job ends, whoever's.
            pace: Pace {
                jobs_per_min: 3,
                ..Pace::default()
            },
            version: "1.2.3".to_owned(),
            started_at: chrono::Utc::now(),
        };
        self.queue.tell_worker(&worker).await.unwrap();
    }
}

fn id(session: &Value) -> SessionId {
    text(session, "id").parse().unwrap()
}

async fn queue_of(client: &Client<'_>) -> Value {
    client.get("/api/queue").await.ok()
}

/// Some fields, in this order.
fn of(value: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| value[*field].clone()).collect()
}

/// What a queue says of one root, in these fields.
fn at(queue: &Value, root: &str, fields: &[&str]) -> Value {
    let roots = queue["roots"].as_array().unwrap();
    let of_name: Vec<&Value> = roots.iter().filter(|entry| entry["root"] == root).collect();
    assert_eq!(of_name.len(), 1, "{queue:#}");
    of(of_name[0], fields)
}

#[tokio::test]
async fn what_waits_is_explained_from_no_worker_to_the_end() {
    let own = OwnRedis::start().await;
    let world = World::with(&own.redis.url(), &[]).await;
    let admin = world.admin().await;
    let alive: &[&[&str]] = &[&["away"], &["samples", "away"]];
    let empty = queue_of(&admin).await;
    let fields = ["state", "waiting_jobs", "workers_alive"];
    assert_eq!(at(&empty, "samples", &fields), json!(["idle", 0, 0]));
    assert_eq!(
        of(
            &empty,
            &["queue_available", "workers_alive", "max_concurrent_jobs"]
        ),
        json!([true, 0, null])
    );

    let session = admin.session("P").await;
    let fields = [
        "state",
        "waiting_jobs",
        "running_jobs",
        "place_in_line",
        "companies_in_line",
        "workers_alive",
    ];
    let unserved = json!(["no_worker", 1, 0, 1, 1, 0]);
    assert_eq!(at(&queue_of(&admin).await, "samples", &fields), unserved);
    let elsewhere = own.queue_of(&admin, &alive[..1]).await;
    assert_eq!(at(&elsewhere, "samples", &fields), unserved);
    assert_eq!(
        at(&elsewhere, "away", &["state", "workers_alive"]),
        json!(["idle", 1])
    );
    let served = own.queue_of(&admin, alive).await;
    assert_eq!(at(&served, "samples", &fields), json!(["in_line", 1, 0, 1, 1, 1]));
    assert_eq!(of(&served, &["workers_alive", "waiting_jobs"]), json!([2, 1]));

    // How long the rest takes is known once something travels.
    let worker = Worker::of(&admin);
    worker.scan(&world, id(&session), &[600, 400]).await;
    let upload = worker.upload(&world, id(&session)).await;
    let fields = ["state", "running_jobs", "files_left", "bytes_left", "eta_s"];
    let still = own.queue_of(&admin, alive).await;
    assert_eq!(
        at(&still, "samples", &fields),
        json!(["running", 1, 2, 1000, null])
    );
    let live = Live {
        bytes_in_flight: 100,
        rate_bytes_per_s: 50,
        active_files: Vec::new(),
    };
    own.queue.set_live(id(&session), "worker-1", &live).await.unwrap();
    let moving = queue_of(&admin).await;
    assert_eq!(
        at(&moving, "samples", &fields),
        json!(["running", 1, 2, 1000, 18])
    );

    // One upload job runs, and no more may.
    let quota = json!({"quota": {"max_concurrent_jobs": 1}});
    admin
        .patch(&format!("/api/companies/{}", admin.company_id()), quota)
        .await
        .ok();
    let second = admin.session("Q").await;
    worker.scan(&world, id(&second), &[5]).await;
    let limited = own.queue_of(&admin, alive).await;
    let fields = ["state", "waiting_jobs", "running_jobs"];
    assert_eq!(at(&limited, "samples", &fields), json!(["limit_reached", 1, 1]));
    assert_eq!(
        of(&limited, &["max_concurrent_jobs", "running_upload_jobs"]),
        json!([1, 1])
    );

    // A pause parks what waits; what is left of a paused session is not counted.
    let second = format!("/api/sessions/{}", text(&second, "id"));
    admin.act(&format!("{second}/pause")).await;
    let fields = ["state", "waiting_jobs", "paused_jobs", "files_left"];
    let paused = own.queue_of(&admin, alive).await;
    assert_eq!(at(&paused, "samples", &fields), json!(["running", 0, 1, 2]));
    worker.record(&upload, 1, 600, None).await;
    worker.record(&upload, 2, 400, None).await;
    worker.finish(upload).await;
    let paused = own.queue_of(&admin, alive).await;
    assert_eq!(at(&paused, "samples", &fields), json!(["paused", 0, 1, 0]));
    admin.act(&format!("{second}/cancel")).await;
    world
        .sql("UPDATE jobs SET run_after = now() + interval '1 hour' WHERE state = 'ready'")
        .await;
    let delayed = own.queue_of(&admin, alive).await;
    assert_eq!(
        at(&delayed, "samples", &["state", "delayed_jobs"]),
        json!(["delayed", 1])
    );
}

#[tokio::test]
async fn a_company_sees_its_place_and_nothing_of_others() {
    let own = OwnRedis::start().await;
    let world = World::with(&own.redis.url(), &[]).await;
    let admin = world.admin().await;
    let acme = world.other_company(&admin, "ACME").await;
    let alive: &[&[&str]] = &[&["samples", "acme@ACME"]];
    for name in ["P", "Q", "R"] {
        admin.session(name).await;
    }
    let bystander = own.queue_of(&acme, alive).await;
    let fields = ["state", "waiting_jobs", "place_in_line", "companies_in_line"];
    assert_eq!(at(&bystander, "samples", &fields), json!(["idle", 0, null, 1]));
    assert_eq!(
        (&bystander["waiting_jobs"], &bystander["running_jobs"]),
        (&json!(0), &json!(0))
    );

    acme.session("P").await;
    let fields = [&fields[..], &["begins_in_s", "eta_s"]].concat();
    assert_eq!(
        at(&own.queue_of(&acme, alive).await, "samples", &fields),
        json!(["in_line", 1, 2, 2, 40, null])
    );
    assert_eq!(
        at(&own.queue_of(&admin, alive).await, "samples", &fields),
        json!(["in_line", 3, 1, 2, 20, null])
    );
    let hidden = [
        admin.company_id().to_string(),
        "DEFAULT".into(),
        "worker-0".into(),
    ];
    let seen = own.queue_of(&acme, alive).await.to_string();
    assert!(hidden.iter().all(|word| !seen.contains(word)), "{seen}");

    // A company's own root is a place of its own, and shown by its plain name.
    let cycle = acme.cycle(&acme.project("own").await).await;
    let mut request = session_in(&cycle);
    request["source"]["root"] = json!("acme");
    let session = acme.post("/api/sessions", request).await.created();
    assert_eq!(session["source"]["root"], "acme");
    let location = format!(
        "SELECT DISTINCT location FROM jobs WHERE session_id = '{}'",
        text(&session, "id")
    );
    assert_eq!(world.sql(&location).await, "acme@ACME");
    assert_eq!(
        at(&own.queue_of(&acme, alive).await, "acme", &fields),
        json!(["in_line", 1, 1, 1, 20, null])
    );
    let roots = |queue: Value| -> Vec<String> {
        let roots = queue["roots"].as_array().unwrap();
        roots.iter().map(|root| text(root, "root").to_owned()).collect()
    };
    assert_eq!(
        roots(own.queue_of(&acme, alive).await),
        ["acme", "away", "samples"]
    );
    assert_eq!(roots(own.queue_of(&admin, alive).await), ["away", "samples"]);
}

#[tokio::test]
async fn everybody_in_the_company_may_look_and_nobody_else() {
    let world = World::new().await;
    let admin = world.admin().await;
    for role in ["viewer", "member"] {
        let person = world.person(&admin, role, role).await;
        assert_eq!(queue_of(&person).await["waiting_jobs"], 0);
    }
    world
        .anonymous()
        .get("/api/queue")
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn without_redis_the_numbers_are_there_and_the_rest_is_null() {
    let mut own = OwnRedis::start().await;
    let world = World::with(&own.redis.url(), &[]).await;
    let admin = world.admin().await;
    own.redis.stop().await;
    admin.session("P").await;
    let queue = queue_of(&admin).await;
    assert_eq!(
        (&queue["queue_available"], &queue["workers_alive"]),
        (&json!(false), &json!(null))
    );
    let fields = [
        "state",
        "waiting_jobs",
        "place_in_line",
        "companies_in_line",
        "workers_alive",
        "begins_in_s",
        "eta_s",
    ];
    assert_eq!(
        at(&queue, "samples", &fields),
        json!(["queue_unavailable", 1, null, null, null, null, null])
    );
    own.redis.start_again().await.unwrap();
    assert_eq!(at(&queue_of(&admin).await, "samples", &fields)[0], "no_worker");
}
