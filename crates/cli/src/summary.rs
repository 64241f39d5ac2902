//! What came of an upload, told to a person: counts, time, failures by cause, and what to do next.

use crate::api::{FailureGroup, Session};
use crate::render::{duration, files, printable, rate, size, table, time};
use indicatif::HumanCount;
use std::fmt::Write as _;

/// What came of a session: counts, time, causes, and what to do next.
pub(crate) fn summary(session: &Session, failures: &[FailureGroup]) -> String {
    let mut text = format!(
        "Upload {}: {}",
        printable(&session.id),
        session.status.replace('_', " ")
    );
    if session.dry_run {
        text.push_str(" (dry run: nothing was sent)");
    }
    if let Some(code) = &session.error_code {
        // Of what has arrived there is no cause to tell.
        let name = match code.as_str() {
            "receipt_missing" => {
                "the receipt in the bucket is not as it should be (`uploader receipt` gets it)"
            }
            _ => "cause",
        };
        let _ = write!(text, "\n  {name}: {}", printable(code));
        if let Some(detail) = &session.error_detail {
            let _ = write!(text, ": {}", printable(detail));
        }
    }
    let (counts, bytes) = (&session.files, &session.bytes);
    let mut rows = vec![row("uploaded", counts.uploaded, bytes.uploaded)];
    for (name, count, bytes) in [
        ("skipped", counts.skipped, bytes.skipped),
        ("failed", counts.failed, bytes.failed),
    ] {
        if count > 0 {
            rows.push(row(name, count, bytes));
        }
    }
    let open = counts.total.saturating_sub(counts.done());
    if open > 0 {
        rows.push(row("not done", open, bytes.total.saturating_sub(bytes.done())));
    }
    for line in table(&[], rows).lines() {
        let _ = write!(text, "\n  {line}");
    }
    if let Some(ms) = session.duration_ms {
        let _ = write!(text, "\n  in {}", duration(ms));
        // After a retry the time is the last run's, the bytes are all runs'.
        if ms > 0 && bytes.uploaded > 0 && session.run <= 1 {
            let _ = write!(text, ", {}", rate(bytes.uploaded as f64 * 1000.0 / ms as f64));
        }
    }
    if let Some(dropped_at) = &session.files_dropped_at {
        let _ = write!(text, "\n  files no longer recorded since {}", time(dropped_at));
    }
    if !failures.is_empty() {
        let _ = write!(text, "\n\n{}", failure_groups(failures));
    }
    let id = printable(&session.id);
    let next = match session.status.as_str() {
        _ if session.files_dropped_at.is_some() => None,
        "completed_with_errors" | "failed" => Some(format!(
            "`uploader retry {id} --watch` uploads again what did not arrive"
        )),
        "paused" => Some(format!("`uploader resume {id} --watch` lets it go on")),
        // Its files were given up: there is nothing left to retry.
        "cancelled" => Some("start a new upload for what did not arrive (`uploader upload`)".to_owned()),
        _ => None,
    };
    if let Some(next) = next {
        let _ = write!(text, "\n\nNext: {next}");
        if counts.failed > 0 {
            let _ = write!(text, "; `uploader files {id} --status failed` lists the files");
        }
        text.push('.');
    }
    text
}

fn row(name: &str, count: u64, bytes: u64) -> Vec<String> {
    vec![name.to_owned(), files(count), size(bytes)]
}

/// Failures by cause, each with what to do about it.
pub(crate) fn failure_groups(groups: &[FailureGroup]) -> String {
    let mut text = "Failures by cause:".to_owned();
    for group in groups {
        let _ = write!(
            text,
            "\n  {}: {}, {}",
            printable(&group.error_code),
            files(group.count),
            size(group.size_bytes)
        );
        for path in group.example_paths.iter().take(3) {
            let _ = write!(text, "\n    {}", printable(path));
        }
        let more = group
            .count
            .saturating_sub(group.example_paths.len().min(3) as u64);
        if more > 0 && !group.example_paths.is_empty() {
            let _ = write!(text, "\n    and {} more", HumanCount(more));
        }
        if !group.advice.is_empty() {
            let _ = write!(text, "\n    -> {}", printable(&group.advice));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view;
    use serde_json::json;

    #[test]
    fn the_summary_names_causes_advice_and_the_next_step() {
        let session: Session = view(&json!({
            "id": "s1", "status": "completed_with_errors", "duration_ms": 2000,
            "files": {"total": 4, "uploaded": 2, "skipped": 1, "failed": 1},
            "bytes": {"total": 3072, "uploaded": 2048, "skipped": 0, "failed": 1024}
        }));
        let group: FailureGroup = view(&json!({
            "error_code": "read_error", "count": 1, "size_bytes": 1024, "example_paths": ["a/b"], "advice": "Check it."
        }));
        assert_eq!(
            summary(&session, &[group]),
            "Upload s1: completed with errors\n  uploaded  2 files  2.00 KiB\n  skipped   1 file   0 B\n  \
             failed    1 file   1.00 KiB\n  in 2.0 s, 1.00 KiB/s\n\nFailures by cause:\n  read_error: 1 file, 1.00 KiB\n    \
             a/b\n    -> Check it.\n\nNext: `uploader retry s1 --watch` uploads again what did not arrive; \
             `uploader files s1 --status failed` lists the files."
        );
    }

    #[test]
    fn an_upload_whose_files_are_no_longer_recorded_says_so_and_is_not_retried() {
        let session: Session = view(&json!({
            "id": "s1", "status": "completed_with_errors", "files_dropped_at": "2027-03-01T00:00:00Z",
            "files": {"total": 2, "uploaded": 1, "failed": 1}, "bytes": {}
        }));
        let text = summary(&session, &[]);
        assert!(
            text.contains("\n  files no longer recorded since 2027-0"),
            "{text}"
        );
        assert!(!text.contains("Next:"), "{text}");
    }

    #[test]
    fn a_paused_upload_is_resumed() {
        let session: Session =
            view(&json!({"id": "s1", "status": "paused", "files": {"total": 2, "uploaded": 1}}));
        let text = summary(&session, &[]);
        assert!(
            text.starts_with("Upload s1: paused\n") && text.contains("Next: `uploader resume s1 --watch`"),
            "{text}"
        );
    }

    #[test]
    fn a_cancelled_upload_is_begun_anew() {
        let session: Session = view(&json!({
            "id": "s1", "status": "cancelled", "files": {"total": 2, "uploaded": 1}, "bytes": {"total": 2, "uploaded": 1}
        }));
        let text = summary(&session, &[]);
        assert!(
            text.contains("Next: start a new upload") && !text.contains("retry"),
            "{text}"
        );
    }
}
