//! What the benchmark asks the sink, below `/-/`, which is no name of a bucket.

use std::fmt::Write as _;

use super::answer::Answer;
use super::head::Head;
use super::store::{Store, range};

pub(super) fn answer(store: &Store, head: &Head, question: &str) -> Answer {
    match (head.method.as_str(), question) {
        ("GET", "ready") => Answer::text("ready\n".to_owned()),
        ("POST", "begin") => {
            store.begin(head.parameter("verify").as_deref() == Some("1"));
            Answer::text("begun\n".to_owned())
        }
        ("GET", "totals") => {
            let objects = store.objects();
            let files = || objects.iter().filter(|(path, _)| !is_receipt(path));
            let size_bytes: u64 = files().map(|(_, object)| object.size_bytes).sum();
            Answer::text(format!(
                "{}\t{size_bytes}\t{}\n",
                files().count(),
                store.uploads().len()
            ))
        }
        ("GET", "objects") => {
            let prefix = head.parameter("prefix").unwrap_or_default();
            Answer::text(lines(store, &prefix))
        }
        _ => Answer::error(404, "NoSuchKey", "the sink knows no such question"),
    }
}

/// What the service writes besides the files.
fn is_receipt(path: &str) -> bool {
    path.contains("/.receipts/")
}

fn lines(store: &Store, prefix: &str) -> String {
    let mut lines = String::new();
    let objects = store.objects();
    for (path, object) in range(&objects, prefix, "").filter(|(path, _)| !is_receipt(path)) {
        let crc = object
            .crc64nvme
            .map_or("-".to_owned(), |crc| format!("{crc:016x}"));
        let claim = object.claim.as_ref().map_or("-".to_owned(), |claim| {
            format!("{}:{}", claim.algorithm.name(), claim.value)
        });
        // Writing to a text does not fail.
        let _ = writeln!(lines, "{}\t{crc}\t{claim}\t{path}", object.size_bytes);
    }
    lines
}
