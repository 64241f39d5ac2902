//! `receipt` and `verify` against a server that is played, and directories that are there.

use crate::server::{Answer, Asked, FakeApi, problem};
use crate::{SESSION, User};
use domain::{FileStatus, SessionStatus};
use receipts::{
    ByteCounts, Company, Counts, Entry, FORMAT, FileCounts, Header, Named, SessionPart, SigningKey, Source,
    Tool, Writer, signed_message,
};
use serde_json::json;
use std::path::{Path, PathBuf};

const COMPANY: &str = "0197f000-0000-7000-8000-0000000000a1";

/// Three files of nine bytes, "123456789": one for each way that a checksum is recorded; and one that failed.
fn entries() -> Vec<Entry> {
    let entry = |number: i64, name: &str, checksum: &str| Entry {
        checksum: Some(checksum.into()),
        error_code: None,
        etag: None,
        key: format!("C1/{name}"),
        number,
        path_is_encoded: false,
        size_bytes: 9,
        status: FileStatus::Uploaded,
    };
    vec![
        entry(1, "a", "crc64nvme:rosUhgp5mIg="),
        entry(2, "sub/b", "crc32c:4waSgw=="),
        Entry {
            path_is_encoded: true,
            ..entry(3, "c%0A", "sha256:KSsNAHVmgy25S/rmic1w0at3KBH9RLn0nYVQ7p6mpJQ=-1")
        },
        Entry {
            checksum: None,
            error_code: Some("file_vanished".into()),
            status: FileStatus::Failed,
            ..entry(9, "gone", "")
        },
    ]
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[3; 32]).unwrap()
}

fn receipt(entries: &[Entry]) -> String {
    let of = |status| entries.iter().filter(|entry| entry.status == status).count() as u64;
    let (uploaded, skipped) = (of(FileStatus::Uploaded), of(FileStatus::Skipped));
    let (failed, total) = (of(FileStatus::Failed), entries.len() as u64);
    let header = Header {
        format: FORMAT.into(),
        tool: Tool {
            name: "test".into(),
            version: "1".into(),
        },
        company: Company {
            id: COMPANY.parse().unwrap(),
            code: "ACME\u{1b}".into(),
        },
        project: Named {
            id: crate::PROJECT.parse().unwrap(),
            name: "Scans".into(),
        },
        cycle: Named {
            id: crate::CYCLE.parse().unwrap(),
            name: "C1".into(),
        },
        session: SessionPart {
            id: SESSION.parse().unwrap(),
            run: 1,
            status: SessionStatus::CompletedWithErrors,
            created_at: "2026-11-28T10:00:00Z".into(),
            started_at: None,
            ended_at: "2026-11-28T10:00:02Z".into(),
        },
        source: Source {
            root: "media".into(),
            path: "run".into(),
        },
        bucket: "lab-scans".into(),
        region: "us-east-1".into(),
        endpoint_url: Some("http://127.0.0.1:1".into()),
        key_prefix: "C1/".into(),
        settings: json!({"part_size_bytes": 5 << 20, "exclude": ["*.tmp"], "later": "unknown here"}),
        counts: Counts {
            files: FileCounts {
                total,
                uploaded,
                skipped,
                failed,
                ..FileCounts::default()
            },
            bytes: ByteCounts {
                total: 9 * total,
                uploaded: 9 * uploaded,
                skipped: 9 * skipped,
                failed: 9 * failed,
            },
        },
    }
    .to_canonical();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&header, &mut bytes);
    entries.iter().for_each(|entry| writer.entry(entry, &mut bytes));
    let root = writer.finish();
    Writer::tail(
        root,
        &key().public_key(),
        &key().sign(&signed_message(&header, root)),
        &mut bytes,
    );
    String::from_utf8(bytes).unwrap()
}

/// A folder with the receipt, and the directory that it is about.
fn delivered(user: &User) -> (PathBuf, PathBuf) {
    let folder = user.folder.path();
    let dir = folder.join("delivered");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    for name in ["a", "sub/b", "c\n"] {
        std::fs::write(dir.join(name), "123456789").unwrap();
    }
    std::fs::write(dir.join("left out.tmp"), "by the patterns of the session").unwrap();
    let file = folder.join("receipt.json");
    std::fs::write(&file, receipt(&entries())).unwrap();
    (file, dir)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server that knows this key for the company.
async fn server(public_key: String) -> FakeApi {
    FakeApi::start(move |asked: &Asked| {
        if asked
            .line
            .starts_with(&format!("GET /api/companies/{COMPANY}/receipt-keys"))
        {
            return Answer::Json(
                200,
                json!({"items": [{"public_key": public_key}], "next_cursor": null}),
            );
        }
        if asked.line.contains("/receipt") {
            return Answer::Json(200, serde_json::from_str(&receipt(&entries())).unwrap());
        }
        problem(404, "not_found", "Not found")
    })
    .await
}

#[tokio::test]
async fn what_is_right_is_said_to_be_right_and_by_whose_key() {
    let api = server(key().public_key().to_base64()).await;
    let user = User::signed_in(&api);
    let (file, dir) = delivered(&user);
    let ran = user
        .run(&["verify", text(&file), "--dir", text(&dir)])
        .await
        .exits(0);
    assert!(ran.stdout.contains("3 files the same\n"), "{ran:#?}");
    assert!(ran.stdout.contains("genuine, by key"), "{ran:#?}");
    let last = ran.stdout.lines().last().unwrap();
    assert!(last.starts_with("NOT DELIVERED  1 file"), "{ran:#?}");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
    let report = user
        .run(&["verify", "--json", text(&file), "--dir", text(&dir)])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&report["verdict"], &report["signature"]["vouched_by"]),
        (&json!("right"), &json!("company"))
    );
    assert_eq!(report["comparisons"][0]["not_delivered"], 1);
    assert_eq!(report["not_delivered"], 1);
    assert_eq!(report["receipt"]["session"]["id"], SESSION);
}

#[tokio::test]
async fn what_is_other_missing_or_too_much_is_named() {
    let api = server(key().public_key().to_base64()).await;
    let user = User::signed_in(&api);
    let (file, dir) = delivered(&user);
    std::fs::write(dir.join("a"), "12345678!").unwrap();
    std::fs::write(dir.join("sub/b"), "1234567890").unwrap();
    std::fs::remove_file(dir.join("c\n")).unwrap();
    std::fs::write(dir.join("sub/more"), "more").unwrap();
    let arguments = [
        "verify",
        text(&file),
        "--dir",
        text(&dir),
        "--key",
        &key().public_key().to_base64(),
    ];
    let ran = user.run(&arguments).await.exits(3);
    for line in [
        "different  C1/a: it has other bytes",
        "different  C1/sub/b: it has 10 bytes, and 9 were delivered",
        "missing    C1/c%0A",
        "extra      sub/more",
        "0 files the same, 1 missing, 2 different, 1 too much",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {ran:#?}");
    }
    // A key that was given asks nobody.
    assert!(api.asked().is_empty(), "{:?}", api.asked());
    let nowhere = user
        .run(&["verify", text(&file), "--dir", "/not/there", "--any-key"])
        .await
        .exits(1);
    assert!(nowhere.stdout.contains("INCOMPLETE"), "{nowhere:#?}");
    assert!(nowhere.stdout.contains("/not/there"), "{nowhere:#?}");
}

#[tokio::test]
async fn what_could_not_be_compared_is_said_last_and_what_was_found_is_kept() {
    let api = server(key().public_key().to_base64()).await;
    let user = User::signed_in(&api);
    let (file, dir) = delivered(&user);
    let unchanged = |number: i64, name: &str, etag: &str| Entry {
        checksum: None,
        error_code: Some("unchanged".into()),
        etag: Some(etag.into()),
        key: format!("C1/{name}"),
        status: FileStatus::Skipped,
        number,
        ..entries()[0].clone()
    };
    // The MD5 of what is there; one that is none; and one whose size alone tells.
    let more = [
        unchanged(10, "md5", "25f9e794323b453885f5181f1b624d0b"),
        unchanged(11, "other", "00000000000000000000000000000000"),
        unchanged(12, "parts", "25f9e794323b453885f5181f1b624d0b-2"),
    ];
    for name in ["md5", "other", "parts"] {
        std::fs::write(dir.join(name), "123456789").unwrap();
    }
    std::fs::write(&file, receipt(&[entries(), more.to_vec()].concat())).unwrap();
    let compare = ["verify", text(&file), "--dir", text(&dir), "--any-key"];
    let ran = user.run(&compare).await.exits(1);
    assert!(ran.stdout.contains("4 files the same, 2 not checked"), "{ran:#?}");
    let last: Vec<&str> = ran.stdout.lines().rev().take(2).collect();
    assert!(
        last[0].starts_with("NOT COMPARED   2 files with the directory"),
        "{last:?}"
    );
    assert!(last[1].starts_with("NOT DELIVERED  1 file"), "{last:?}");

    // The store is not there: the directory was compared all the same.
    let and_bucket = [
        &compare[..],
        &["--bucket", "--endpoint-url", "http://127.0.0.1:1"],
    ]
    .concat();
    let ran = user.run(&and_bucket).await.exits(1);
    assert!(ran.stdout.contains("4 files the same, 2 not checked"), "{ran:#?}");
    let last = ran.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("INCOMPLETE     the bucket was not compared"),
        "{ran:#?}"
    );
    std::fs::write(dir.join("parts"), "1234567890").unwrap();
    let report = user
        .run(&[&and_bucket[..], &["--json"]].concat())
        .await
        .exits(3)
        .json();
    assert_eq!(report["comparisons"][0]["different"], 1);
    assert!(report["comparisons"][1]["incomplete"].is_string(), "{report:#}");

    // A copy of a bucket may have receipts in it.
    std::fs::create_dir(dir.join(".receipts")).unwrap();
    std::fs::write(dir.join(format!(".receipts/{SESSION}.json")), "{}").unwrap();
    let ran = user.run(&compare).await.exits(3);
    assert!(!ran.stdout.contains("too much"), "{ran:#?}");
}

#[tokio::test]
async fn a_receipt_that_is_not_the_companys_is_not_believed() {
    let other = SigningKey::from_seed(&[4; 32]).unwrap().public_key();
    let api = server(other.to_base64()).await;
    let user = User::signed_in(&api);
    let (file, dir) = delivered(&user);
    let ran = user
        .run(&["verify", text(&file), "--dir", text(&dir)])
        .await
        .exits(3);
    assert!(
        ran.stdout
            .contains("NOT GENUINE: it was not signed with a key of its company"),
        "{ran:#?}"
    );
    assert!(!ran.stdout.contains("the same"), "nothing is compared: {ran:#?}");
    user.run(&["verify", text(&file), "--key", &other.to_base64()])
        .await
        .exits(3);

    // Nobody vouches: said, and no success.
    let stranger = User::of(&api);
    let ran = stranger
        .run(&["verify", text(&file), "--dir", text(&dir)])
        .await
        .exits(1);
    assert!(
        ran.stdout
            .contains("NOBODY VOUCHES FOR THAT KEY: you are not signed in"),
        "{ran:#?}"
    );
    assert!(ran.stdout.contains("3 files the same"), "{ran:#?}");
    stranger.run(&["verify", text(&file), "--any-key"]).await.exits(0);
    let ran = stranger
        .run(&["verify", text(&file), "--bucket", "--any-key"])
        .await
        .exits(2);
    assert!(ran.stderr.contains("--endpoint-url"), "{ran:#?}");
}

#[tokio::test]
async fn what_was_changed_or_cut_off_is_no_receipt() {
    let api = server(key().public_key().to_base64()).await;
    let user = User::signed_in(&api);
    let (file, _) = delivered(&user);
    let whole = receipt(&entries());
    for (from, to) in [
        ("lab-scans", "lab-scams"),
        ("C1/sub/b", "C1/sub/x"),
        ("\"number\":1,", "\"number\":2,"),
    ] {
        std::fs::write(&file, whole.replacen(from, to, 1)).unwrap();
        let ran = user.run(&["verify", text(&file)]).await;
        assert!(matches!(ran.code, Some(1 | 3)), "{from}: {ran:#?}");
    }
    std::fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    let ran = user.run(&["verify", text(&file)]).await.exits(1);
    assert!(ran.stderr.contains("it is cut off"), "{ran:#?}");
    std::fs::write(&file, "{}").unwrap();
    user.run(&["verify", text(&file)]).await.exits(1);
    user.run(&["verify", "/not/there"]).await.exits(1);
    user.run(&["verify", text(&file), "--read"]).await.exits(2);
}

#[tokio::test]
async fn a_receipt_is_downloaded_whole_or_not_at_all() {
    let api = server(String::new()).await;
    let user = User::signed_in(&api);
    let path = user.folder.path().join("downloaded.json");
    let ran = user.run(&["receipt", SESSION, "-o", text(&path)]).await.exits(0);
    assert!(ran.stdout.is_empty(), "{ran:#?}");
    user.run(&["verify", text(&path), "--key", &key().public_key().to_base64()])
        .await
        .exits(0);
    let printed = user.run(&["receipt", SESSION]).await.exits(0);
    assert_eq!(printed.stdout, std::fs::read_to_string(&path).unwrap());

    // A retry began meanwhile, so that other files came than were signed; or the connection broke.
    for (from, to) in [("C1/sub/b", "C1/sub/x"), ("\"signature\"", "\"signatur\"")] {
        let api = FakeApi::start(move |_: &Asked| {
            let other = receipt(&entries()).replacen(from, to, 1);
            Answer::Json(200, serde_json::from_str(&other).unwrap())
        })
        .await;
        let user = User::signed_in(&api);
        let path = user.folder.path().join("other.json");
        let ran = user.run(&["receipt", SESSION, "-o", text(&path)]).await.exits(1);
        assert!(ran.stderr.contains("not the receipt that was signed"), "{ran:#?}");
        assert!(!path.exists());
        let ran = user.run(&["receipt", SESSION]).await.exits(1);
        assert!(ran.stdout.is_empty(), "{ran:#?}");
    }

    let api = FakeApi::start(|_: &Asked| problem(409, "no_receipt", "The session has no receipt")).await;
    let user = User::signed_in(&api);
    let path = user.folder.path().join("nothing.json");
    user.run(&["receipt", SESSION, "-o", text(&path)]).await.exits(1);
    assert!(!path.exists());
}
