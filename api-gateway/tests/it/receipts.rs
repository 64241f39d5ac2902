//! Receipts as the gateway gives them: made anew from the rows, to the byte as they were signed.

use crate::fixture::{Client, Worker, World, text};
use database::jobs::{self, Claim, Settled};
use database::receipts::{self as stored, Seal};
use database::{TenantConn, files};
use domain::FileErrorCode;
use receipts::{
    ByteCounts, Company, Counts, FORMAT, FileCounts, Header, Named, SessionPart, SigningKey, Source, Tool,
    Writer, signed_message,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// More files than the gateway reads in one go.
const FILES: usize = 1_100;

fn key() -> SigningKey {
    SigningKey::from_seed(&[9; 32]).unwrap()
}

/// A session that ended with one failure, by hand as a worker does it; and its receipt.
async fn delivered(world: &World, client: &Client<'_>) -> (Value, Vec<u8>) {
    let session = client.session("Receipts").await;
    let id: domain::SessionId = text(&session, "id").parse().unwrap();
    let worker = Worker::of(client);
    worker.scan(world, id, &[7; FILES]).await;
    let claim = worker.upload(world, id).await;
    for number in 1..=3 {
        let error = (number == 2).then_some(FileErrorCode::FileVanished);
        worker.record(&claim, number, 7, error).await;
    }
    world
        .sql(&format!(
            "UPDATE file_uploads SET status = 'uploaded', checksum = 'crc64nvme:rosUhgp5mIg=', path = path || ' \"ü\"'
             WHERE session_id = '{id}' AND number > 3"
        ))
        .await;
    let finish = worker.claim_finish(claim).await;
    let bytes = write_receipt(world, client, finish).await;
    (client.get(&format!("/api/sessions/{id}")).await.ok(), bytes)
}

async fn write_receipt(world: &World, client: &Client<'_>, claim: Claim) -> Vec<u8> {
    let lease = std::time::Duration::from_secs(30);
    let work = async move |conn: &mut TenantConn| {
        let Some(Settled::Now(session, ended_at)) = jobs::settle(conn, &claim, lease).await? else {
            panic!("there is a receipt to write");
        };
        let count = |n: i64| u64::try_from(n).unwrap();
        let header = Header {
            format: FORMAT.into(),
            tool: Tool {
                name: "test".into(),
                version: "1".into(),
            },
            company: Company {
                id: session.company_id,
                code: "DEFAULT".into(),
            },
            project: Named {
                id: session.project_id,
                name: "Receipts".into(),
            },
            cycle: Named {
                id: session.cycle_id,
                name: "C1".into(),
            },
            session: SessionPart {
                id: session.id,
                run: session.run,
                status: session.status,
                created_at: session.created_at.to_rfc3339(),
                started_at: None,
                ended_at: ended_at.to_rfc3339(),
            },
            source: Source {
                root: "samples".into(),
                path: String::new(),
            },
            bucket: "deliveries".into(),
            region: "us-east-1".into(),
            endpoint_url: None,
            key_prefix: session.key_prefix.clone(),
            settings: json!({}),
            counts: Counts {
                files: FileCounts {
                    total: count(session.files.total),
                    uploaded: count(session.files.uploaded),
                    failed: count(session.files.failed),
                    ..FileCounts::default()
                },
                bytes: ByteCounts {
                    total: count(session.bytes.total),
                    uploaded: count(session.bytes.uploaded),
                    failed: count(session.bytes.failed),
                    ..ByteCounts::default()
                },
            },
        }
        .to_canonical();
        stored::begin(conn, &claim, session.status, &header).await?;
        let public_key = key().public_key();
        let key_id = stored::add_key(conn, Uuid::now_v7(), public_key.as_bytes(), b"sealed")
            .await?
            .unwrap()
            .id;
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&header, &mut bytes);
        for file in files::list(conn, session.id, &files::FileFilter::default(), None, 10_000).await? {
            writer.entry(&buckets::receipts::entry(file, &session.key_prefix), &mut bytes);
        }
        let root = writer.finish();
        let signature = key().sign(&signed_message(&header, root));
        Writer::tail(root, &public_key, &signature, &mut bytes);
        jobs::finish_session(conn, &claim, lease).await?;
        let seal = Seal {
            key_id,
            root: root.0,
            signature,
            size_bytes: i64::try_from(bytes.len()).unwrap(),
        };
        stored::seal(conn, &claim, &seal).await?;
        Ok::<_, jobs::JobError>(bytes)
    };
    world.database.tenant(client.company_id(), work).await.unwrap()
}

/// Where it breaks off early, the connection may end before the head of the answer has left.
async fn is_given_to_its_end(client: &Client<'_>, path: &str) -> bool {
    match client.request(reqwest::Method::GET, path).send().await {
        Ok(response) => response.text().await.is_ok(),
        Err(error) => {
            assert!(error.is_request(), "{error:?}");
            false
        }
    }
}

#[tokio::test]
async fn a_receipt_is_given_to_the_byte_and_breaks_off_where_the_rows_are_others() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (session, bytes) = delivered(&world, &admin).await;
    assert_eq!(session["status"], "completed_with_errors");
    let path = format!("/api/sessions/{}/receipt", text(&session, "id"));
    let viewer = world.person(&admin, "vera", "viewer").await;
    let answer = viewer.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.as_bytes() == bytes, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("content-length"), bytes.len().to_string());
    let name = format!("attachment; filename=\"receipt-{}.json\"", text(&session, "id"));
    assert_eq!(answer.header("content-disposition"), name);
    let receipt = receipts::read(bytes.as_slice(), |_| true).unwrap();
    assert_eq!(receipt.check(), Ok(key().public_key()));

    let company = format!("/api/companies/{}/receipt-keys", admin.company_id());
    let keys = viewer.get(&company).await.ok();
    assert_eq!(keys["items"][0]["id"], key().public_key().id());
    assert_eq!(keys["items"][0]["public_key"], key().public_key().to_base64());
    assert_eq!(keys["items"][0]["public_key_pem"], key().public_key().to_pem());
    assert!(!keys.to_string().contains("sealed"), "{keys}");
    let stranger = world.other_company(&admin, "OTHER").await;
    stranger.get(&path).await.problem(404, "not_found");
    stranger.get(&company).await.problem(404, "not_found");
    let theirs = format!("/api/companies/{}/receipt-keys", stranger.company_id());
    assert_eq!(stranger.get(&theirs).await.ok()["items"], json!([]));

    world
        .sql(&format!(
            "UPDATE file_uploads SET size_bytes = 8 WHERE session_id = '{}' AND number = 1000",
            text(&session, "id")
        ))
        .await;
    assert!(
        !is_given_to_its_end(&admin, &path).await,
        "a receipt that was not signed"
    );
    assert!(world.log().contains("its files are not those that were signed"));

    // More bytes than were signed: cut off at the length that was told, it would look whole.
    for longer in ["number < 1000", "number = 1100"] {
        world
            .sql(&format!(
                "UPDATE file_uploads SET path = path || repeat('x', 400) WHERE session_id = '{}' AND {longer}",
                text(&session, "id")
            ))
            .await;
        assert!(!is_given_to_its_end(&admin, &path).await, "{longer}");
    }
}

#[tokio::test]
async fn what_has_no_receipt_says_why() {
    let world = World::new().await;
    let admin = world.admin().await;
    let receipt = async |session: &Value| {
        admin
            .get(&format!("/api/sessions/{}/receipt", text(session, "id")))
            .await
    };

    let session = admin.session("Running").await;
    receipt(&session).await.problem(409, "session_running");
    admin
        .act(&format!("/api/sessions/{}/cancel", text(&session, "id")))
        .await;
    let worker = Worker::of(&admin);
    let problem = receipt(&session).await.problem(409, "no_receipt");
    assert_eq!(problem["detail"], "The session was cancelled.");

    // One that ended before there were receipts.
    let session = admin.session("Old").await;
    let id = text(&session, "id").parse().unwrap();
    worker.scan(&world, id, &[1]).await;
    let claim = worker.upload(&world, id).await;
    worker.record(&claim, 1, 1, None).await;
    worker.finish(claim).await;
    let problem = receipt(&session).await.problem(409, "no_receipt");
    assert!(text(&problem, "detail").contains("before there were receipts"));

    // A retry makes the receipt of the run before one of the past.
    let (session, _) = delivered(&world, &admin).await;
    assert_eq!(
        admin
            .act(&format!("/api/sessions/{}/retry", text(&session, "id")))
            .await
            .status,
        202
    );
    receipt(&session).await.problem(409, "session_running");
}

#[tokio::test]
async fn files_that_are_no_longer_recorded_are_in_the_receipt_where_there_is_one() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (session, _) = delivered(&world, &admin).await;
    let id = text(&session, "id");
    let detail = async || {
        for what in ["files", "files/1", "failures"] {
            let answer = admin.get(&format!("/api/sessions/{id}/{what}")).await;
            answer.problem(409, "files_dropped");
        }
        let answer = admin.get(&format!("/api/sessions/{id}/files")).await;
        text(&answer.problem(409, "files_dropped"), "detail").to_owned()
    };
    let change = async |set: &str| {
        world
            .sql(&format!("UPDATE sync_sessions SET {set} WHERE id = '{id}'"))
            .await;
    };
    change("files_dropped_at = '2027-03-01'").await;
    let there = detail().await;
    let key = format!(".receipts/{id}.json.");
    assert!(
        there.starts_with(
            "The files of this session have not been recorded since 2027-03-01; its counts are."
        )
    );
    assert!(
        there.contains("is in the bucket deliveries, at ") && there.ends_with(&key),
        "{there}"
    );
    change("error_code = 'receipt_missing'").await;
    assert!(detail().await.ends_with("Its receipt did not reach the bucket."));
    world.sql("DELETE FROM receipts").await;
    assert!(detail().await.ends_with("It has no receipt."));
    let retried = admin.act(&format!("/api/sessions/{id}/retry")).await;
    retried.problem(409, "files_dropped");
}
