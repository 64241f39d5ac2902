//! Everything a directory may hold arrives, or is reported for what it is.

use crate::fixture::{MIB, Place, pseudo_random, set_mode, shared};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

const PART_BYTES: u64 = 5 * MIB;

/// What is not to arrive: the path in answers, the status, the cause.
type Left = (String, &'static str, &'static str);

#[tokio::test]
async fn whatever_a_directory_holds_arrives_or_is_reported() {
    let mut place = shared().await.place("delivery").await;
    write_sizes(&mut place);
    write_names(&mut place);
    let socket = UnixListener::bind(place.source.dir().join("socket")).unwrap();
    let mut left = write_what_stays(&place);
    left.extend(write_clashing_names(&mut place));
    left.extend(write_unreadable(&mut place));

    let session = place
        .upload(json!({ "part_size_bytes": PART_BYTES }), "completed_with_errors")
        .await;
    unlock(&place);
    assert_eq!(session["scan_complete"], true);
    place.assert_delivered(&session).await;
    assert_left(&place, &session, left).await;
    drop(socket);
}

/// Around the size at which files are sent in parts, and one of forty parts.
fn write_sizes(place: &mut Place) {
    for (name, size_bytes) in [
        ("empty", 0),
        ("one byte", 1),
        ("part less one", PART_BYTES - 1),
        ("part", PART_BYTES),
        ("part and one", PART_BYTES + 1),
        ("two parts", 2 * PART_BYTES),
        ("large", 200 * MIB),
    ] {
        place
            .source
            .write(&format!("sizes/{name}"), pseudo_random(size_bytes, size_bytes));
    }
}

fn write_names(place: &mut Place) {
    let source = &mut place.source;
    for name in [
        "with space",
        " leading and trailing ",
        "per%cent",
        "per%20cent",
        "pl+us",
        "ha#sh",
        "quest?ion",
        "amp&ersand=1",
        "quo\"te's",
        "back\\slash",
        "semi;colon,comma",
        "star*[brackets]{braces}",
        "<less&amp;>",
        "tilde~",
        "@:$!()^|`",
        "-dash",
        "...",
        "ends with dot.",
        "😀 emoji 🚀.bin",
        // The same to a reader, and two names to the system.
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{202e}right to left",
        ".hidden",
        ".hidden folder/.inside",
    ] {
        source.write(&format!("names/{name}"), format!("contents of {name}"));
    }
    source.write(&format!("names/{}", "n".repeat(255)), "255 bytes");
    source.write(
        &format!("names/{}", "ü".repeat(127)),
        "254 bytes in 127 characters",
    );
    source.write(&format!("{}leaf", "deep/".repeat(30)), "thirty folders down");
    // What is no text, and control characters, are written as their bytes; then `%` is, too.
    source.write_odd(b"odd/new\nline", "odd/new%0Aline", "newline");
    source.write_odd(b"odd/tab\there 100%", "odd/tab%09here 100%25", "tab");
    source.write_odd(b"odd/not \xff\xfe utf-8", "odd/not %FF%FE utf-8", "no text");
    source.write_odd(b"odd/cut \xf0\x9f\x98", "odd/cut %F0%9F%98", "cut off");
    source.write_odd(b"odd/folder\r/in%side", "odd/folder%0D/in%25side", "in a folder");
    // The key has 1,024 bytes, which is the most.
    let prefix_bytes = "deliveries/C1/".len();
    let folders = format!("{}/", "k".repeat(249)).repeat(4);
    source.write(
        &format!("{folders}{}", "k".repeat(1024 - prefix_bytes - 1000)),
        "long key",
    );
}

/// What is no regular file, and what has no key.
fn write_what_stays(place: &Place) -> Vec<Left> {
    let dir = place.source.dir();
    mknodat(
        CWD,
        dir.join("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    for (target, name) in [
        ("sizes/one byte", "link inside"),
        ("/etc/hostname", "link outside"),
        ("../../../../etc/hostname", "link up and outside"),
        ("nowhere", "link dangling"),
        ("link loop", "link loop"),
        (".", "link to folder"),
    ] {
        symlink(target, dir.join(name)).unwrap();
    }
    let too_long = format!("{}/", "l".repeat(250)).repeat(4) + "leaf of a key that is too long";
    place.source.write_unexpected(too_long.as_bytes(), "too long");
    let mut left: Vec<Left> = vec![
        (too_long, "failed", "name_not_supported"),
        ("pipe".into(), "skipped", "special_file"),
        ("socket".into(), "skipped", "special_file"),
    ];
    for link in [
        "inside",
        "outside",
        "up and outside",
        "dangling",
        "loop",
        "to folder",
    ] {
        left.push((format!("link {link}"), "skipped", "symlink_not_followed"));
    }
    left
}

/// Two names that are written as one: the earlier arrives.
fn write_clashing_names(place: &mut Place) -> Vec<Left> {
    place.source.write_odd(b"clash/a\n", "clash/a%0A", "the earlier");
    place.source.write_unexpected(b"clash/a%0A", "the later");
    vec![("clash/a%0A".into(), "failed", "name_collision")]
}

/// What the workers' user may not read.
fn write_unreadable(place: &mut Place) -> Vec<Left> {
    place.source.write_unexpected(b"secret file", "secret");
    place.source.write_unexpected(b"locked/inside", "secret");
    place.source.write("after", "what comes after it arrives");
    for name in ["secret file", "locked"] {
        let path = place.source.dir().join(name);
        set_mode(path, 0o000);
    }
    vec![
        ("secret file".into(), "failed", "permission_denied"),
        ("locked/".into(), "failed", "permission_denied"),
    ]
}

/// So that the folder can be removed.
fn unlock(place: &Place) {
    let path = place.source.dir().join("locked");
    set_mode(path, 0o755);
}

async fn assert_left(place: &Place, session: &Value, left: Vec<Left>) {
    let files = place.api.files(session["id"].as_str().unwrap()).await;
    let found: BTreeMap<String, (String, String)> = files
        .iter()
        .filter(|file| file["status"] != "uploaded")
        .map(|file| {
            let text = |field: &str| file[field].as_str().unwrap_or_default().to_owned();
            (text("path"), (text("status"), text("error_code")))
        })
        .collect();
    let left: BTreeMap<String, (String, String)> = left
        .into_iter()
        .map(|(path, status, code)| (path, (status.to_owned(), code.to_owned())))
        .collect();
    assert_eq!(found, left);
    let failed = left.values().filter(|(status, _)| status == "failed").count();
    assert_eq!(session["files"]["failed"], failed);
}
