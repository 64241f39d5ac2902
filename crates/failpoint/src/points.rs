//! The list of all points. `docs/TORTURE.md` shows it, and a test compares the two.

/// A place in the product where a test can let the process die, freeze or wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// As in [`crate::at!`], and in `FAILPOINTS`.
    pub name: &'static str,
    /// Where that is.
    pub place: &'static str,
}

const fn point(name: &'static str, place: &'static str) -> Point {
    Point { name, place }
}

/// Every point there is: those of the gateway begin with `gateway.`, the others are the worker's.
#[rustfmt::skip]
pub const POINTS: &[Point] = &[
    point("gateway.create.before_push", "a session is committed, its scan job not pushed"),
    point("gateway.start.before_push", "a start is committed, the scan job not pushed"),
    point("gateway.retry.before_push", "a retry is committed, its jobs not pushed"),
    point("gateway.resume.before_push", "the end of a pause is committed, the jobs not pushed"),
    point("gateway.pause.before_hint", "a pause is committed, the workers not told"),
    point("gateway.cancel.before_hint", "a cancellation is committed, the workers not told"),
    point("take.before_claim", "an id was taken from its list, the job not claimed"),
    point("claim.before_work", "a job is claimed, nothing done"),
    point("scan.walking", "in the middle of a walk: files were found, not recorded"),
    point("scan.before_commit", "a batch and its upload job are written, not committed"),
    point("scan.before_push", "a batch and its upload job are committed, the job not pushed"),
    point("put.before_request", "a small file was read, its PUT not sent"),
    point("put.before_record", "the store confirmed a small file, which is not recorded"),
    point("multipart.before_request", "a large file was opened, its multipart upload not"),
    point("multipart.before_record", "the store opened a multipart upload, whose id is not recorded"),
    point("multipart.before_parts", "the id of a multipart upload is recorded, no part sent"),
    point("part.before_request", "a part was read and not sent"),
    point("part.arrived", "the store confirmed a part; others may be missing"),
    point("complete.before_request", "all parts arrived, the upload not completed"),
    point("complete.before_record", "the store completed an upload, whose file is not recorded"),
    point("flush.before_write", "outcomes are about to be flushed"),
    point("flush.before_commit", "a flush of outcomes is written, not committed"),
    point("flush.after_commit", "a flush of outcomes is committed, the job goes on"),
    point("suspect.named", "the one file that an isolated job begins with is named"),
    point("end.before_commit", "the end of a job is written, not committed"),
    point("end.before_push", "the end of a job is committed, the finish job not pushed"),
    point("finish.before_look", "a finish job begins: nothing was looked at"),
    point("finish.aborted", "a multipart upload was aborted, its row not cleared"),
    point("finish.before_receipt", "every file has its outcome and the receipt is begun, not written"),
    point("receipt.before_abort", "uploads that earlier holders left open on the receipt's key were seen, not aborted"),
    point("receipt.before_complete", "the receipt is sent but for its last part, and makes no object yet"),
    point("finish.after_receipt", "the receipt is in the bucket, the final status not written"),
    point("finish.before_commit", "the final status is written, not committed"),
    point("finish.after_commit", "the final status is committed, nobody told"),
    point("release.before_commit", "the giving back of a job is written, not committed"),
    point("release.after_commit", "a job is given back, this worker goes on"),
    point("fail.before_push", "the failure of a session is committed, the finish job not pushed"),
    point("sweep.expired", "an abandoned job was taken from its worker, and not pushed"),
];

/// Whether there is a point of this name; for the check in [`crate::at!`].
#[must_use]
pub const fn is_known(name: &str) -> bool {
    let mut index = 0;
    while index < POINTS.len() {
        if is_same(POINTS[index].name.as_bytes(), name.as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

/// `==` is not for constants yet.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_known_once_each() {
        let names: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
        assert_eq!(names.len(), POINTS.len());
        assert!(names.iter().all(|name| is_known(name)));
        assert!(!is_known("put.before") && !is_known("put.before_requests") && !is_known(""));
    }

    #[test]
    fn the_document_shows_this_list() {
        let document = include_str!("../../../docs/TORTURE.md");
        let rows: Vec<String> = POINTS
            .iter()
            .map(|point| format!("| `{}` | {} |", point.name, point.place))
            .collect();
        let rows = rows.join("\n");
        assert!(document.contains(&rows), "docs/TORTURE.md should have:\n{rows}");
    }

    #[test]
    fn each_point_is_somewhere() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut sources = String::new();
        for folder in ["api-gateway/src", "upload-worker/src", "crates/transfer/src"] {
            read_all(&root.join(folder), &mut sources);
        }
        for Point { name, .. } in POINTS {
            assert!(sources.contains(&format!("at!(\"{name}\")")), "{name} is nowhere");
        }
    }

    fn read_all(folder: &std::path::Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read_all(&path, into);
            } else {
                *into += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
}
