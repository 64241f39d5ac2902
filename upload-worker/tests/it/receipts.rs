//! A receipt from the upload to the check, with the command line.

use crate::command_line::Shell;
use crate::fixture::{MIB, PREFIX, Place, World, pseudo_random, shared};
use domain::ChecksumKind;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use storage::{Hasher, WriteOptions};

const PART_BYTES: u64 = 5 * MIB;

/// A delivery with each kind of file, and its receipt in a file.
async fn delivered(world: &World, shell: &Shell, name: &str, checksum: &str) -> (Place, PathBuf) {
    let mut place = world.place(name).await;
    place.source.write("small", "small");
    place.source.write("empty", "");
    place.source.write("sub/in parts", pseudo_random(11 * MIB + 3, 5));
    place.source.write_odd(b"odd\n%41", "odd%0A%2541", "odd");
    let settings = json!({ "checksum": checksum, "part_size_bytes": PART_BYTES });
    let session = place.upload(settings, "completed").await;
    place.assert_delivered(&session).await;
    let file = world.folder().join(format!("{name}-receipt.json"));
    let id = session["id"].as_str().unwrap();
    shell
        .run(&["receipt", id, "--output", file.to_str().unwrap()])
        .await
        .succeeded();
    let printed = shell.run(&["receipt", id]).await.succeeded();
    assert_eq!(printed.stdout, std::fs::read_to_string(&file).unwrap());
    (place, file)
}

async fn verify(shell: &Shell, file: &Path, more: &[&str], code: i32) -> Value {
    let arguments = [&["verify", "--json", file.to_str().unwrap()], more].concat();
    let ended = shell.run(&arguments).await;
    assert_eq!(ended.code, code, "{more:?}: {ended:#?}");
    ended.json()
}

fn counts(report: &Value) -> [u64; 5] {
    let comparison = &report["comparisons"][0];
    ["same", "missing", "different", "extra", "unchecked"].map(|name| comparison[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_delivery_is_checked_against_its_source_and_its_bucket() {
    let world = shared().await;
    for checksum in ["crc64nvme", "crc32c", "sha256"] {
        let shell = Shell::new(world, &format!("receipts-{checksum}"));
        shell.sign_in(world).await;
        let (place, file) = delivered(world, &shell, &format!("receipt-{checksum}"), checksum).await;
        let report = verify(&shell, &file, &[], 0).await;
        assert_eq!(report["signature"]["vouched_by"], "company");
        let dir = place.source.dir().to_str().unwrap();
        let report = verify(&shell, &file, &["--dir", dir], 0).await;
        assert_eq!(counts(&report), [4, 0, 0, 0, 0], "{report:#}");

        let store = shell.with(&[
            ("AWS_ACCESS_KEY_ID", place.s3.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", place.s3.secret_access_key()),
        ]);
        let report = verify(&store, &file, &["--bucket"], 0).await;
        assert_eq!(counts(&report), [4, 0, 0, 0, 0], "{report:#}");
        let report = verify(&store, &file, &["--bucket", "--read"], 0).await;
        assert_eq!(counts(&report), [4, 0, 0, 0, 0], "{report:#}");
        place.s3.create_bucket("empty-bucket").unwrap();
        let report = verify(&store, &file, &["--bucket=empty-bucket"], 3).await;
        assert_eq!(counts(&report), [0, 4, 0, 0, 0], "{report:#}");
        let nowhere = ["verify", file.to_str().unwrap(), "--bucket=not-there"];
        assert_eq!(store.run(&nowhere).await.code, 1);

        // The store is not asked by anybody for a receipt that nobody vouches for.
        let stranger = Shell::new(world, &format!("stranger-{checksum}"));
        let ended = stranger
            .run(&["verify", file.to_str().unwrap(), "--bucket"])
            .await;
        assert_eq!(ended.code, 2, "{ended:#?}");
        let report = verify(&stranger, &file, &[], 1).await;
        assert_eq!(report["signature"]["is_genuine"], true);
        assert_eq!(report["signature"]["vouched_by"], Value::Null);

        std::fs::write(place.source.dir().join("small"), "SMALL").unwrap();
        std::fs::remove_file(place.source.dir().join("empty")).unwrap();
        std::fs::write(place.source.dir().join("sub/more"), "more").unwrap();
        let report = verify(&shell, &file, &["--dir", dir], 3).await;
        assert_eq!(counts(&report), [2, 1, 1, 1, 0], "{report:#}");
        let mut parts = std::fs::read(place.source.dir().join("sub/in parts")).unwrap();
        parts[6 * 1024 * 1024] ^= 1;
        std::fs::write(place.source.dir().join("sub/in parts"), parts).unwrap();
        let report = verify(&shell, &file, &["--dir", dir, "--allow-extra"], 3).await;
        // Of a hash of hashes nobody can tell whether the bytes are others or the parts.
        let expected = if checksum == "sha256" {
            [1, 1, 1, 0, 1]
        } else {
            [1, 1, 2, 0, 0]
        };
        assert_eq!(counts(&report), expected, "{report:#}");
    }
}

#[tokio::test]
async fn what_was_there_already_is_checked_like_what_was_sent() {
    let world = shared().await;
    let shell = Shell::new(world, "receipts-unchanged");
    shell.sign_in(world).await;
    let (mut place, file) = delivered(world, &shell, "receipt-unchanged", "crc64nvme").await;
    place.source.write("new", "new");
    let settings = json!({ "on_existing": "skip_unchanged", "part_size_bytes": PART_BYTES });
    let session = place.upload(settings, "completed").await;
    assert_eq!(session["files"]["skipped"], 4, "{session:#}");
    let id = session["id"].as_str().unwrap();
    std::fs::remove_file(&file).unwrap();
    let output = ["receipt", id, "--output", file.to_str().unwrap()];
    shell.run(&output).await.succeeded();
    let dir = place.source.dir().to_str().unwrap();
    let report = verify(&shell, &file, &["--dir", dir], 0).await;
    assert_eq!(counts(&report), [5, 0, 0, 0, 0], "{report:#}");
}

/// Of objects that others put there no checksum is recorded: their ETag tells, as far as it can.
#[tokio::test]
async fn what_others_had_put_there_is_compared_by_what_is_known() {
    let world = shared().await;
    let shell = Shell::new(world, "receipts-foreign");
    shell.sign_in(world).await;
    let mut place = world.place("receipt-foreign").await;
    place.source.write("theirs", "their bytes");
    let options = WriteOptions::new(Hasher::of(ChecksumKind::Crc64nvme, b"their bytes"));
    let key = format!("{PREFIX}theirs");
    let put = place.raw_bucket();
    put.put(&key, "their bytes".into(), &options).await.unwrap();
    let settings = json!({ "on_existing": "skip_unchanged" });
    let session = place.upload(settings, "completed").await;
    assert_eq!(session["files"]["skipped"], 1, "{session:#}");
    let file = world.folder().join("foreign-receipt.json");
    let output = [
        "receipt",
        session["id"].as_str().unwrap(),
        "--output",
        file.to_str().unwrap(),
    ];
    shell.run(&output).await.succeeded();
    let dir = place.source.dir().to_str().unwrap();
    let report = verify(&shell, &file, &["--dir", dir], 0).await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 0], "{report:#}");
    let store = shell.with(&[
        ("AWS_ACCESS_KEY_ID", place.s3.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", place.s3.secret_access_key()),
    ]);
    for how in [&["--bucket"][..], &["--bucket", "--read"]] {
        let report = verify(&store, &file, how, 0).await;
        assert_eq!(counts(&report), [1, 0, 0, 0, 0], "{report:#}");
    }
    std::fs::write(place.source.dir().join("theirs"), "OTHER BYTES").unwrap();
    let report = verify(&shell, &file, &["--dir", dir], 1).await;
    assert_eq!(counts(&report), [0, 0, 0, 0, 1], "{report:#}");
}

#[tokio::test]
async fn a_file_that_would_pass_for_a_receipt_is_not_sent() {
    let world = shared().await;
    let mut place = world.place("receipt-name").await;
    place.source.write("a", "a");
    place.source.write(".receipts/notes.txt", "no receipt");
    let id = "0197f000-0000-7000-8000-000000000001";
    place
        .source
        .write_unexpected(format!(".receipts/{id}.json").as_bytes(), "{}");
    let session = place.upload(json!({}), "completed_with_errors").await;
    place.assert_delivered(&session).await;
    let failed = format!("/api/sessions/{}/failures", session["id"].as_str().unwrap());
    let failed = place.api.get(&failed).await;
    assert_eq!(
        failed["items"][0]["error_code"], "name_not_supported",
        "{failed:#}"
    );
    let session = place
        .upload(json!({ "exclude": [".receipts/*.json"] }), "completed")
        .await;
    place.assert_delivered(&session).await;
}

#[tokio::test]
async fn a_key_is_given_or_asked_for_and_a_wrong_one_is_no_use() {
    let world = shared().await;
    let shell = Shell::new(world, "receipt-keys");
    shell.sign_in(world).await;
    let (place, file) = delivered(world, &shell, "receipt-key", "crc64nvme").await;
    let text = std::fs::read_to_string(&file).unwrap();
    let receipt: Value = serde_json::from_str(&text).unwrap();
    let key = receipt["signature"]["public_key"].as_str().unwrap();
    let keys = place
        .api
        .get(&format!(
            "/api/companies/{}/receipt-keys",
            receipt["company"]["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(keys["items"][0]["public_key"], key);
    let pem = world.folder().join("company.pem");
    std::fs::write(&pem, keys["items"][0]["public_key_pem"].as_str().unwrap()).unwrap();
    let offline = Shell::new(world, "receipt-offline");
    for given in [key, pem.to_str().unwrap()] {
        let report = verify(&offline, &file, &["--key", given], 0).await;
        assert_eq!(report["signature"]["vouched_by"], "key");
    }
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let report = verify(&offline, &file, &["--key", other], 3).await;
    assert_eq!(report["verdict"], "differs");
    verify(&offline, &file, &["--any-key"], 0).await;
    assert_eq!(
        offline
            .run(&["verify", file.to_str().unwrap(), "--key", "no key"])
            .await
            .code,
        2
    );

    let tampered = world.folder().join("tampered.json");
    std::fs::write(
        &tampered,
        text.replacen("\"size_bytes\":5", "\"size_bytes\":6", 1),
    )
    .unwrap();
    let report = verify(&shell, &tampered, &[], 3).await;
    assert_eq!(report["signature"]["is_genuine"], false, "{report:#}");
    std::fs::write(&tampered, &text[..text.len() / 2]).unwrap();
    let ended = shell.run(&["verify", tampered.to_str().unwrap()]).await;
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(ended.stderr.contains("cut off"), "{ended:#?}");

    // Of another company the server does not vouch.
    let stranger = place.api.of_company(&world.stack, "RECEIPTS").await;
    let (status, _) = stranger.receipt(receipt["session"]["id"].as_str().unwrap()).await;
    assert_eq!(status, 404);
}
