//! How one session uploads. All optional, defaults first; what is valid is decided here, once.

use crate::object_key::check_prefix;
use crate::status::text_enum;
use crate::storage_class::check_storage_class;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest object S3 takes, in bytes (5 TiB).
pub const MAX_OBJECT_BYTES: u64 = 5 << 40;
/// The most parts a multipart upload takes.
pub const MAX_PARTS: u64 = 10_000;
/// The smallest part S3 takes (but for the last), in bytes.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// The largest part S3 takes, in bytes.
pub const MAX_PART_BYTES: u64 = 5 << 30;
/// How many include, and how many exclude patterns a session takes.
pub const MAX_PATTERNS: usize = 100;

/// What to do where the key exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExisting {
    /// Send every file.
    #[default]
    Overwrite,
    /// Leave out what is there unchanged.
    SkipUnchanged,
    /// Leave out what is there.
    SkipExisting,
    /// Fail the files that are there.
    Fail,
}

/// How `skip_unchanged` tells that a file is unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// By size and time.
    #[default]
    SizeMtime,
    /// By checksum.
    Checksum,
}

/// The checksum that travels with each object and that the store confirms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumKind {
    /// CRC-64/NVME.
    #[default]
    Crc64nvme,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// SHA-256.
    Sha256,
}
text_enum!(ChecksumKind { Crc64nvme => "crc64nvme", Crc32c => "crc32c", Sha256 => "sha256" });

/// What to do with symbolic links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Symlinks {
    /// Record them as skipped.
    #[default]
    Skip,
    /// Follow those that stay inside the source root; the others are skipped with a cause.
    FollowInside,
}

/// The settings of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Files and parts in flight in each worker, 1 to 256; absent or null: all the worker has.
    #[schema(minimum = 1, maximum = 256)]
    pub concurrency: Option<u16>,
    /// How often one request to the store is tried, 1 to 20.
    #[schema(minimum = 1, maximum = 20)]
    pub max_attempts: u8,
    /// Files up to this size go in one request; larger ones in parts of it. 5 MiB to 5 GiB.
    #[schema(minimum = 5_242_880, maximum = 5_368_709_120_u64)]
    pub part_size_bytes: u64,
    /// Globs over the path below the source; when there are any, only files that match one are uploaded.
    #[schema(max_items = 100)]
    pub include: Vec<String>,
    /// Globs over the path below the source; files and folders that match one are left out.
    #[schema(max_items = 100)]
    pub exclude: Vec<String>,
    /// What to do where the key exists already.
    pub on_existing: OnExisting,
    /// How `skip_unchanged` compares.
    pub compare: Compare,
    /// The checksum sent and confirmed.
    pub checksum: ChecksumKind,
    /// What to do with symbolic links.
    pub symlinks: Symlinks,
    /// Put between the cycle's prefix and the path.
    #[schema(max_length = 512)]
    pub target_prefix: String,
    /// The most bytes a second, over all workers; null: no limit.
    pub bandwidth_limit_bytes_per_s: Option<u64>,
    /// The storage class of what it writes; null: the project's.
    pub storage_class: Option<String>,
    /// Scan and record, but send nothing.
    pub dry_run: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            concurrency: None,
            max_attempts: 5,
            part_size_bytes: 8 << 20,
            include: Vec::new(),
            exclude: Vec::new(),
            on_existing: OnExisting::default(),
            compare: Compare::default(),
            checksum: ChecksumKind::default(),
            symlinks: Symlinks::default(),
            target_prefix: String::new(),
            bandwidth_limit_bytes_per_s: None,
            storage_class: None,
            dry_run: false,
        }
    }
}

/// One setting that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The setting's name (for a pattern, with its index: `include/0`).
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub detail: String,
}

impl SessionSettings {
    /// Every setting that is out of its range; empty when all are good. Patterns are checked for length and
    /// number here, and for syntax where they are compiled.
    #[must_use]
    pub fn problems(&self) -> Vec<InvalidSetting> {
        let mut problems = Vec::new();
        let mut problem = |field: &str, detail: String| {
            problems.push(InvalidSetting {
                field: field.to_owned(),
                detail,
            });
        };
        if self.concurrency.is_some_and(|n| !(1..=256).contains(&n)) {
            problem("concurrency", "must be 1 to 256, or null".into());
        }
        if !(1..=20).contains(&self.max_attempts) {
            problem("max_attempts", "must be 1 to 20".into());
        }
        if !(MIN_PART_BYTES..=MAX_PART_BYTES).contains(&self.part_size_bytes) {
            problem(
                "part_size_bytes",
                format!("must be {MIN_PART_BYTES} (5 MiB) to {MAX_PART_BYTES} (5 GiB)"),
            );
        }
        if let Err(error) = check_prefix(&self.target_prefix) {
            problem("target_prefix", error.to_string());
        }
        if self.bandwidth_limit_bytes_per_s == Some(0) {
            problem(
                "bandwidth_limit_bytes_per_s",
                "must be at least 1, or null for no limit".into(),
            );
        }
        if let Some(Err(detail)) = self.storage_class.as_deref().map(check_storage_class) {
            problem("storage_class", detail);
        }
        for (name, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            if patterns.len() > MAX_PATTERNS {
                problem(name, format!("takes at most {MAX_PATTERNS} patterns"));
            }
            for (index, pattern) in patterns.iter().enumerate() {
                if pattern.is_empty() || pattern.len() > 1024 {
                    problem(&format!("{name}/{index}"), "must have 1 to 1,024 bytes".into());
                }
            }
        }
        problems
    }

    /// The size of this session's parts for a file of `size_bytes`: `part_size_bytes`, grown in steps of 1 MiB
    /// where [`MAX_PARTS`] parts of it would not suffice.
    #[must_use]
    pub fn part_size_for(&self, size_bytes: u64) -> u64 {
        let needed = size_bytes.div_ceil(MAX_PARTS);
        self.part_size_bytes.max(needed.next_multiple_of(1 << 20))
    }

    /// How many parts a file of `size_bytes` is sent in; `None`: it goes whole, in one request.
    #[must_use]
    pub fn parts_for(&self, size_bytes: u64) -> Option<u64> {
        (size_bytes > self.part_size_bytes).then(|| size_bytes.div_ceil(self.part_size_for(size_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_settings_are_the_defaults() {
        let settings: SessionSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(settings, SessionSettings::default());
        assert!(settings.problems().is_empty());
    }

    #[test]
    fn an_unknown_setting_is_an_error() {
        let error = serde_json::from_str::<SessionSettings>(r#"{"concurency": 3}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `concurency`"),
            "{error}"
        );
    }

    #[test]
    fn each_bad_setting_is_named() {
        let settings = SessionSettings {
            concurrency: Some(0),
            max_attempts: 21,
            part_size_bytes: 1,
            target_prefix: "/x".into(),
            bandwidth_limit_bytes_per_s: Some(0),
            storage_class: Some("COLD".into()),
            include: vec![String::new()],
            ..SessionSettings::default()
        };
        let fields: Vec<String> = settings.problems().into_iter().map(|p| p.field).collect();
        assert_eq!(
            fields,
            [
                "concurrency",
                "max_attempts",
                "part_size_bytes",
                "target_prefix",
                "bandwidth_limit_bytes_per_s",
                "storage_class",
                "include/0"
            ]
        );
    }

    #[test]
    fn parts_grow_so_that_ten_thousand_suffice() {
        let settings = SessionSettings::default();
        assert_eq!(settings.part_size_for(0), 8 << 20);
        assert_eq!(settings.part_size_for((8 << 20) * MAX_PARTS), 8 << 20);
        let grown = settings.part_size_for((8 << 20) * MAX_PARTS + 1);
        assert_eq!(grown, 9 << 20);
        let largest = settings.part_size_for(MAX_OBJECT_BYTES);
        assert!(MAX_OBJECT_BYTES.div_ceil(largest) <= MAX_PARTS && largest <= MAX_PART_BYTES);
    }
}
