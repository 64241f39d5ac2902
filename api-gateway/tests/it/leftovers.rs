//! Open multipart uploads: what they belong to, and that only those nobody uses are aborted. The store is a real one
//! over HTTP; the test plays the worker.

use crate::fixture::{Client, PASSWORD, Worker, World, free_port, session_in, shared_redis, text};
use database::TenantConn;
use database::jobs::{self, Claim};
use dev_stack::{S3Options, S3Server};
use domain::{ChecksumKind, SessionId, SessionStatus};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;
use storage::{Bucket, BucketConfig, Checksum, Credentials, UploadId, WriteOptions};
use tempfile::TempDir;

const BUCKET: &str = "deliveries";

/// A store, and a gateway whose projects may name it.
struct Shop {
    world: World,
    s3: S3Server,
    bucket: Bucket,
    _dir: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let redis_of_all = shared_redis().await;
        let world = World::with(&redis_of_all, &[("ALLOW_PRIVATE_ENDPOINTS", "1")]).await;
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3Server::start(S3Options::in_folder(dir.path())).await.unwrap();
        s3.create_bucket(BUCKET).unwrap();
        let credentials = Credentials::Static {
            access_key_id: s3.access_key_id().to_owned(),
            secret_access_key: SecretString::from(s3.secret_access_key()),
            session_token: None,
        };
        let mut config = BucketConfig::new(BUCKET, "us-east-1", credentials);
        config.endpoint_url = Some(s3.endpoint_url().parse().unwrap());
        Self {
            world,
            bucket: Bucket::open(config).unwrap(),
            s3,
            _dir: dir,
        }
    }

    /// What a project of the store is made of.
    fn project(&self, name: &str) -> Value {
        json!({
            "name": name, "bucket": BUCKET, "region": "us-east-1", "prefix": "p/", "endpoint_url": self.s3.endpoint_url(),
            "credentials": {
                "access_key_id": self.s3.access_key_id(), "secret_access_key": self.s3.secret_access_key(),
            },
        })
    }

    async fn upload(&self, key: &str) -> UploadId {
        let options = WriteOptions::new(checksum(&[]));
        self.bucket.create_multipart(key, &options).await.unwrap()
    }

    /// The keys that have an open upload.
    async fn open_keys(&self) -> Vec<String> {
        let open = self.bucket.list_multipart_uploads("").await.unwrap();
        open.into_iter().map(|upload| upload.key).collect()
    }
}

fn checksum(bytes: &[u8]) -> Checksum {
    let mut hasher = storage::Hasher::new(ChecksumKind::Crc64nvme);
    hasher.update(bytes);
    hasher.finish()
}

fn path(project: &Value) -> String {
    format!("/api/projects/{}/leftovers", text(project, "id"))
}

async fn list(client: &Client<'_>, project: &Value) -> Vec<Value> {
    client.get(&path(project)).await.ok()["items"]
        .as_array()
        .unwrap()
        .clone()
}

async fn record(client: &Client<'_>, claim: &Claim, number: i64, upload: &UploadId) {
    let (claim, id) = (claim.clone(), upload.to_string());
    client
        .world
        .database
        .tenant(client.company_id(), async move |conn: &mut TenantConn| {
            jobs::multipart_opened(conn, &claim, Duration::from_secs(30), number, &id, 5 << 20).await
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_open_is_told_by_what_it_belongs_to_and_only_what_nobody_uses_is_aborted() {
    let shop = Shop::open().await;
    let world = &shop.world;
    let admin = world.admin().await;
    let project = admin.post("/api/projects", shop.project("P")).await.created();
    assert_eq!(
        list(&admin, &project).await,
        [] as [Value; 0],
        "no cycle, no prefix"
    );
    let cycle = admin.cycle(&project).await;
    let session = admin.post("/api/sessions", session_in(&cycle)).await.created();
    let id: SessionId = text(&session, "id").parse().unwrap();
    let worker = Worker::of(&admin);
    worker.scan(world, id, &[1 << 20, 2]).await;
    let claim = worker.upload(world, id).await;

    let used = shop.upload("p/C1/dir/file 1").await;
    record(&admin, &claim, 1, &used).await;
    let orphan = shop.upload("p/C1/dir/file 2").await;
    let bytes = b"hello".as_slice();
    let part = (&orphan, 1, bytes.into(), &checksum(bytes));
    shop.bucket
        .upload_part("p/C1/dir/file 2", part.0, part.1, part.2, part.3)
        .await
        .unwrap();
    shop.s3.age_uploads(BUCKET, Duration::from_secs(3600)).unwrap();
    // Somebody else's, in the same bucket.
    let foreign = shop.upload("p/C10/dir/file 1").await;
    shop.upload("dir/file 1").await;

    let open = list(&admin, &project).await;
    let of =
        |upload: &Value, fields: &[&str]| -> Value { fields.iter().map(|f| upload[*f].clone()).collect() };
    let fields = [
        "key",
        "upload_id",
        "is_in_use",
        "session_id",
        "session_status",
        "file_id",
        "path",
        "parts",
        "size_bytes",
    ];
    assert_eq!(
        of(&open[0], &fields),
        json!([
            "p/C1/dir/file 1",
            used.as_str(),
            true,
            session["id"],
            "in_progress",
            1,
            "dir/file 1",
            0,
            0
        ])
    );
    assert_eq!(
        of(&open[1], &fields),
        json!([
            "p/C1/dir/file 2",
            orphan.as_str(),
            false,
            null,
            null,
            null,
            null,
            1,
            5
        ])
    );
    assert_eq!((open.len(), &open[1]["project_id"]), (2, &project["id"]));
    let age_ms = open[1]["age_ms"].as_i64().unwrap();
    assert!((3_600_000..4_200_000).contains(&age_ms), "{age_ms}");

    let first = admin.get(&format!("{}?limit=1", path(&project))).await.ok();
    let next = format!(
        "{}?limit=1&cursor={}",
        path(&project),
        text(&first, "next_cursor")
    );
    let second = admin.get(&next).await.ok();
    let ids = |page: &Value| {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["upload_id"].clone())
            .collect()
    };
    let (first_ids, second_ids): (Vec<Value>, Vec<Value>) = (ids(&first), ids(&second));
    assert_eq!(
        (first_ids, second_ids),
        (vec![json!(used.as_str())], vec![json!(orphan.as_str())])
    );
    assert_eq!(second["next_cursor"], Value::Null);

    let abort = format!("{}/abort", path(&project));
    let named = |key: &str, id: &UploadId| json!({"key": key, "upload_id": id.as_str()});
    admin
        .post(&abort, named("p/C1/dir/file 1", &used))
        .await
        .problem(409, "upload_in_use");
    admin
        .post(&abort, named("p/C10/dir/file 1", &foreign))
        .await
        .problem(404, "not_found");
    admin
        .post(&abort, named("p/C1/dir/file 2", &used))
        .await
        .problem(404, "not_found");
    assert_eq!(
        admin.post(&abort, json!({})).await.bad_fields(),
        ["/key", "/upload_id"]
    );
    let both = json!({"all": true, "key": "x"});
    assert_eq!(admin.post(&abort, both).await.bad_fields(), ["/key"]);
    let one = admin.post(&abort, named("p/C1/dir/file 2", &orphan)).await.ok();
    assert_eq!(one, json!({"aborted": 1, "in_use": 0, "failed": 0}));
    admin
        .post(&abort, named("p/C1/dir/file 2", &orphan))
        .await
        .problem(404, "not_found");
    shop.upload("p/C1/elsewhere").await;
    let all = admin.post(&abort, json!({"all": true})).await.ok();
    assert_eq!(all, json!({"aborted": 1, "in_use": 1, "failed": 0}));
    assert_eq!(
        shop.open_keys().await,
        ["dir/file 1", "p/C1/dir/file 1", "p/C10/dir/file 1"]
    );

    // An ended session goes on with nothing.
    worker.record(&claim, 2, 2, None).await;
    assert_eq!(worker.finish(claim).await, SessionStatus::CompletedWithErrors);
    let open = list(&admin, &project).await;
    assert_eq!(
        of(&open[0], &["is_in_use", "session_status"]),
        json!([false, "completed_with_errors"])
    );
    let all = admin.post(&abort, json!({"all": true})).await.ok();
    assert_eq!(all, json!({"aborted": 1, "in_use": 0, "failed": 0}));
    assert_eq!(
        world
            .sql("SELECT count(*) FROM file_uploads WHERE upload_id IS NOT NULL")
            .await,
        "0"
    );
    assert_eq!(shop.open_keys().await, ["dir/file 1", "p/C10/dir/file 1"]);
}

/// Two companies with one bucket and one prefix: neither aborts what the other is sending.
#[tokio::test]
async fn what_another_company_uses_is_seen_and_left_alone() {
    let shop = Shop::open().await;
    let world = &shop.world;
    let admin = world.admin().await;
    let stranger = world.other_company(&admin, "OTHER").await;
    let project = admin.post("/api/projects", shop.project("P")).await.created();
    let cycle = admin.cycle(&project).await;
    let session = admin.post("/api/sessions", session_in(&cycle)).await.created();
    let id: SessionId = text(&session, "id").parse().unwrap();
    let worker = Worker::of(&admin);
    worker.scan(world, id, &[1 << 20]).await;
    let claim = worker.upload(world, id).await;
    let used = shop.upload("p/C1/dir/file 1").await;
    record(&admin, &claim, 1, &used).await;

    let theirs = stranger.post("/api/projects", shop.project("P")).await.created();
    stranger.cycle(&theirs).await;
    let open = list(&stranger, &theirs).await;
    assert_eq!(open[0]["is_in_use"], true);
    for field in ["session_id", "session_status", "file_id", "path"] {
        assert_eq!(open[0][field], Value::Null, "{field}");
    }
    let abort = format!("{}/abort", path(&theirs));
    let named = json!({"key": "p/C1/dir/file 1", "upload_id": used.as_str()});
    stranger.post(&abort, named).await.problem(409, "upload_in_use");
    let all = stranger.post(&abort, json!({"all": true})).await.ok();
    assert_eq!(all, json!({"aborted": 0, "in_use": 1, "failed": 0}));
    assert_eq!(shop.open_keys().await, ["p/C1/dir/file 1"]);
}

#[tokio::test]
async fn only_those_who_may_check_the_storage_see_and_abort() {
    let shop = Shop::open().await;
    let admin = shop.world.admin().await;
    let project = admin.post("/api/projects", shop.project("P")).await.created();
    admin.cycle(&project).await;
    shop.upload("p/C1/x").await;
    let abort = format!("{}/abort", path(&project));
    for role in ["viewer", "member"] {
        let person = shop.world.person(&admin, role, role).await;
        person
            .get(&path(&project))
            .await
            .problem(403, "permission_denied");
        // Bad input is no way around.
        person
            .post(&abort, json!([]))
            .await
            .problem(403, "permission_denied");
        person
            .post(&abort, json!({"all": true}))
            .await
            .problem(403, "permission_denied");
    }
    assert_eq!(shop.open_keys().await, ["p/C1/x"]);
    let adam = shop.world.person(&admin, "adam", "admin").await;
    assert_eq!(list(&adam, &project).await.len(), 1);
    assert_eq!(adam.post(&abort, json!({"all": true})).await.ok()["aborted"], 1);
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_is_named_with_its_cause() {
    let shop = Shop::open().await;
    let admin = shop.world.admin().await;
    let refused = async |name: &str, change: Value, status, code| {
        let mut project = shop.project(name);
        for (field, value) in change.as_object().unwrap() {
            project[field] = value.clone();
        }
        let project = admin.post("/api/projects", project).await.created();
        admin.cycle(&project).await;
        let answer = admin.get(&path(&project)).await;
        let problem = answer.problem(status, code);
        let secret = project["credentials"]["secret_access_key"]
            .as_str()
            .unwrap_or("wrong-secret");
        assert!(
            !answer.text.contains(secret) && !answer.text.contains(PASSWORD),
            "{problem}"
        );
        let abort = format!("{}/abort", path(&project));
        admin
            .post(&abort, json!({"all": true}))
            .await
            .problem(status, code);
    };
    let away = json!({"endpoint_url": format!("http://127.0.0.1:{}", free_port())});
    refused("away", away, 503, "storage_unreachable").await;
    let keys = json!({"credentials": {"access_key_id": shop.s3.access_key_id(), "secret_access_key": "wrong-secret"}});
    refused("wrong key", keys, 409, "access_denied").await;
    refused("no bucket", json!({"bucket": "elsewhere"}), 409, "no_such_bucket").await;
    refused("no key", json!({"credentials": null}), 409, "credentials_missing").await;
}
