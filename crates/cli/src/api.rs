//! The parts of the server's answers that this command shows or decides by. Read leniently: what is absent or
//! null is empty, what is unknown is ignored.

use crate::render::roughly;
use domain::SessionStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a view of an answer; what does not fit leaves the view empty.
pub(crate) fn view<T: DeserializeOwned + Default>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_default()
}

pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Counts of a session's files.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FileCounts {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) total: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) uploaded: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) skipped: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) failed: u64,
}

/// Sums of a session's bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ByteCounts {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) total: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) uploaded: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) skipped: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) failed: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) in_flight: u64,
}

impl ByteCounts {
    /// Bytes that nothing more happens to, and what has arrived of the others.
    pub(crate) fn done(&self) -> u64 {
        (self.uploaded + self.skipped + self.failed + self.in_flight).min(self.total)
    }
}

impl FileCounts {
    /// Files that nothing more happens to.
    pub(crate) fn done(&self) -> u64 {
        self.uploaded + self.skipped + self.failed
    }
}

/// Where a session reads from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Source {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) root: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) path: String,
}

/// An upload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Session {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) id: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) source: Source,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) status: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) phase: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) dry_run: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) files: FileCounts,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) bytes: ByteCounts,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) scan_complete: bool,
    pub(crate) rate_bytes_per_s: Option<f64>,
    pub(crate) eta_s: Option<f64>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_detail: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) run: u64,
    pub(crate) created_at: Option<String>,
    pub(crate) files_dropped_at: Option<String>,
    pub(crate) duration_ms: Option<u64>,
}

impl Session {
    /// The status, where it is one this command knows.
    pub(crate) fn known_status(&self) -> Option<SessionStatus> {
        self.status.parse().ok()
    }

    /// Whether nothing more happens to it.
    pub(crate) fn is_ended(&self) -> bool {
        self.known_status().is_some_and(SessionStatus::is_ended)
    }
}

/// One file of a session.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct File {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) path: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) size_bytes: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) status: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) attempts: u64,
    pub(crate) error_code: Option<String>,
    pub(crate) error_detail: Option<String>,
    pub(crate) planned: Option<String>,
}

/// The failures of one cause.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FailureGroup {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) error_code: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) count: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) size_bytes: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) example_paths: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) advice: String,
}

/// What a company has waiting and running.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Queue {
    pub(crate) max_concurrent_jobs: Option<u64>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) running_upload_jobs: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) roots: Vec<QueueRoot>,
}

/// The same at one source root.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct QueueRoot {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) root: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) state: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) waiting_jobs: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) delayed_jobs: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) paused_jobs: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) running_jobs: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) files_left: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) bytes_left: u64,
    pub(crate) place_in_line: Option<u64>,
    pub(crate) companies_in_line: Option<u64>,
    pub(crate) workers_alive: Option<u64>,
    pub(crate) begins_in_s: Option<u64>,
    pub(crate) eta_s: Option<u64>,
}

impl Queue {
    /// Why nothing begins at the source root of this name; None where it does, or where nobody knows.
    pub(crate) fn reason(&self, root: &str) -> Option<String> {
        let named = self.roots.iter().filter(|entry| entry.root == root);
        named.filter_map(|entry| self.reason_at(entry)).next()
    }

    /// As [`Queue::reason`], of one of the entries here.
    pub(crate) fn reason_at(&self, root: &QueueRoot) -> Option<String> {
        match root.state.as_str() {
            "no_worker" => Some(format!(
                "no running worker serves the source root {:?}",
                root.root
            )),
            "queue_unavailable" => Some("the queue is away; what waits begins when it is back".to_owned()),
            "limit_reached" => Some(match self.max_concurrent_jobs {
                Some(limit) => format!(
                    "your company already runs {} of at most {limit} upload jobs",
                    self.running_upload_jobs
                ),
                None => "your company runs as many upload jobs as it may".to_owned(),
            }),
            "in_line" => {
                let place = match root.place_in_line? {
                    0 | 1 => "your company is next, as soon as a worker has room".to_owned(),
                    2 => "1 company before yours".to_owned(),
                    place => format!("{} companies before yours", place - 1),
                };
                let about = root.begins_in_s.map(|s| format!(", {}", roughly(s)));
                Some(place + &about.unwrap_or_default())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_is_read_whatever_is_absent_null_or_new() {
        let session: Session = view(&json!({
            "id": "s", "status": "completed_with_errors", "files": {"total": 3, "failed": 1, "odd": 9},
            "bytes": null, "eta_s": null, "rate_bytes_per_s": 12, "brand_new": {"x": 1}
        }));
        assert_eq!(
            (session.files.total, session.files.failed, session.bytes.total),
            (3, 1, 0)
        );
        assert_eq!(session.known_status(), Some(SessionStatus::CompletedWithErrors));
        assert!(session.is_ended());
        let later: Session = view(&json!({"status": "a_later_invention"}));
        assert!(!later.is_ended());
    }

    #[test]
    fn each_cause_to_wait_is_said() {
        let reason = |root: Value| {
            let queue: Queue = view(&json!({
                "max_concurrent_jobs": 2, "running_upload_jobs": 2, "workers_alive": null, "roots": [{"root": "x"}, root]
            }));
            queue.reason("lab")
        };
        for (state, place, said) in [
            (
                "no_worker",
                json!(1),
                Some("no running worker serves the source root \"lab\""),
            ),
            (
                "limit_reached",
                json!(null),
                Some("your company already runs 2 of at most 2 upload jobs"),
            ),
            (
                "queue_unavailable",
                json!(null),
                Some("the queue is away; what waits begins when it is back"),
            ),
            (
                "in_line",
                json!(1),
                Some("your company is next, as soon as a worker has room"),
            ),
            ("in_line", json!(2), Some("1 company before yours")),
            ("in_line", json!(4), Some("3 companies before yours")),
            ("in_line", json!(null), None),
            ("running", json!(1), None),
            ("a_later_invention", json!(1), None),
        ] {
            let root = json!({"root": "lab", "state": state, "place_in_line": place});
            assert_eq!(reason(root).as_deref(), said, "{state}");
        }
        let third = json!({"root": "lab", "state": "in_line", "place_in_line": 3, "begins_in_s": 700});
        assert_eq!(
            reason(third).as_deref(),
            Some("2 companies before yours, about 12 minutes")
        );
        assert_eq!(reason(json!({"root": "other", "state": "no_worker"})), None);
    }
}
