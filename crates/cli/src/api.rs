//! The parts of the server's answers that this command shows or decides by. Read leniently: what is absent or
//! null is empty, what is unknown is ignored.

use domain::SessionStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a view of an answer; what does not fit leaves the view empty.
pub(crate) fn view<T: DeserializeOwned + Default>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_default()
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
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
}
