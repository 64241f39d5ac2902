//! What a dry run found that an upload would do.

use crate::status::text_enum;
use crate::{FileErrorCode, FileStatus, SessionSettings};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an upload would do with a file that a dry run only recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Planned {
    /// Send it. Whether its key has an object is known only where the bucket was listed: then it has none.
    Send,
    /// Send it in place of the object that its key has.
    Overwrite,
    /// Read it, and send it unless its key's object, which has the same size, has the same bytes. A dry run reads nothing.
    Compare,
}
text_enum!(Planned { Send => "send", Overwrite => "overwrite", Compare => "compare" });

/// A number of files, and their bytes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Amount {
    /// How many files.
    pub files: u64,
    /// How many bytes they have.
    pub size_bytes: u64,
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            size_bytes: self.size_bytes + other.size_bytes,
        }
    }
}

/// Files that an upload would not send for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotSent {
    /// The cause.
    pub error_code: FileErrorCode,
    /// How many files.
    pub count: u64,
    /// How many bytes they have, as far as that is known.
    pub size_bytes: u64,
    /// At most five.
    pub example_paths: Vec<String>,
}

/// What the filters left out. They decide before anything is asked of a file, so that nobody knows its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excluded {
    /// Files, links and special files in directories that were entered.
    pub files: u64,
    /// Directories that were not entered; what is in them is not counted.
    pub directories: u64,
}

/// A file with its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SizedFile {
    /// Below the source.
    pub path: String,
    /// In bytes.
    pub size_bytes: u64,
}

/// Requests to the store, by operation, each counted once: what has to be tried again comes on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Requests {
    /// Files that go whole.
    pub put_object: u64,
    /// Files that go in parts.
    pub create_multipart_upload: u64,
    /// Their parts.
    pub upload_part: u64,
    /// The same files again, at their end.
    pub complete_multipart_upload: u64,
    /// Pages of the bucket's listing.
    pub list_objects: u64,
}

impl Requests {
    /// Adds what so many files of a size take.
    pub fn add_files(&mut self, settings: &SessionSettings, size_bytes: u64, count: u64) {
        match settings.parts_for(size_bytes) {
            None => self.put_object += count,
            Some(parts) => {
                self.create_multipart_upload += count;
                self.upload_part += parts * count;
                self.complete_multipart_upload += count;
            }
        }
    }
}

/// What a dry run found that an upload with its settings would do, if nothing changes meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Files that would be sent.
    pub send: Amount,
    /// Those of them that would replace an object; null: the bucket was not listed (`on_existing: overwrite`), and any
    /// of them may.
    pub overwrite: Option<Amount>,
    /// With `compare: checksum`: files whose object has the same size. They were not compared: each would be read, and
    /// sent unless it has the same bytes. They are not in `send`.
    pub compare: Amount,
    /// Files that the bucket has already.
    pub left_alone: Vec<NotSent>,
    /// Links and special files.
    pub skipped: Vec<NotSent>,
    /// Files that would fail for their name, or for the object that is there already (`on_existing: fail`).
    pub conflicts: Vec<NotSent>,
    /// Files and directories that cannot be read.
    pub unreadable: Vec<NotSent>,
    /// What the filters left out.
    pub excluded: Excluded,
    /// The largest files that would be sent or compared, at most 20.
    pub largest: Vec<SizedFile>,
    /// What `send` and the listing take. A session makes some more: for its receipt, and to look for what was left open.
    pub requests: Requests,
    /// What `compare` takes on top, should all of it have to be sent.
    pub compare_requests: Requests,
}

impl Plan {
    /// Adds files that would not be sent, by the status and the cause that they were recorded with.
    pub fn add_not_sent(&mut self, status: FileStatus, not_sent: NotSent) {
        use FileErrorCode::{AlreadyExists, NameCollision, NameNotSupported, Unchanged};
        let list = match (status, not_sent.error_code) {
            (FileStatus::Skipped, Unchanged | AlreadyExists) => &mut self.left_alone,
            (FileStatus::Skipped, _) => &mut self.skipped,
            (_, AlreadyExists | NameCollision | NameNotSupported) => &mut self.conflicts,
            _ => &mut self.unreadable,
        };
        list.push(not_sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_one_request_or_those_of_its_parts() {
        let settings = SessionSettings {
            part_size_bytes: 5 << 20,
            ..SessionSettings::default()
        };
        let mut requests = Requests::default();
        requests.add_files(&settings, 0, 2);
        requests.add_files(&settings, 5 << 20, 1);
        requests.add_files(&settings, (5 << 20) + 1, 3);
        // Parts grow so that ten thousand suffice.
        requests.add_files(&settings, crate::session_settings::MAX_OBJECT_BYTES, 1);
        let large = settings
            .parts_for(crate::session_settings::MAX_OBJECT_BYTES)
            .unwrap();
        assert!((9_900..=10_000).contains(&large), "{large}");
        let expected = Requests {
            put_object: 3,
            create_multipart_upload: 4,
            upload_part: 3 * 2 + large,
            complete_multipart_upload: 4,
            list_objects: 0,
        };
        assert_eq!(requests, expected);
    }

    #[test]
    fn each_cause_has_its_place() {
        let mut plan = Plan::default();
        for (status, error_code) in [
            (FileStatus::Skipped, FileErrorCode::Unchanged),
            (FileStatus::Skipped, FileErrorCode::AlreadyExists),
            (FileStatus::Skipped, FileErrorCode::SpecialFile),
            (FileStatus::Failed, FileErrorCode::AlreadyExists),
            (FileStatus::Failed, FileErrorCode::NameCollision),
            (FileStatus::Failed, FileErrorCode::NameNotSupported),
            (FileStatus::Failed, FileErrorCode::PermissionDenied),
        ] {
            let not_sent = NotSent {
                error_code,
                count: 1,
                size_bytes: 0,
                example_paths: Vec::new(),
            };
            plan.add_not_sent(status, not_sent);
        }
        let lists = [&plan.left_alone, &plan.skipped, &plan.conflicts, &plan.unreadable];
        assert_eq!(lists.map(Vec::len), [2, 1, 3, 1]);
    }
}
