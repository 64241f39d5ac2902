//! Uploads and their record on the command line.

use super::ListArgs;
use crate::render::size;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use domain::{ChecksumKind, FileStatus, SessionStatus};
use uuid::Uuid;

#[derive(Args)]
pub(crate) struct UploadArgs {
    /// The cycle's id; with --project also its name or number (C2, 2)
    #[arg(long, required_unless_present = "plan")]
    pub(crate) cycle: Option<String>,
    /// The project's id or name
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// The source root's name (see `uploader roots list`)
    #[arg(long, required_unless_present = "plan")]
    pub(crate) root: Option<String>,
    /// The directory below the root [default: all of it]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) path: String,
    /// Upload what this dry run planned: its source into its cycle, with its settings
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["cycle", "project", "root", "path", "SettingsArgs"])]
    pub(crate) plan: Option<Uuid>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Start it and return; prints the session's id
    #[arg(long)]
    pub(crate) detach: bool,
    /// The same key gives the same session, however often it is sent [default: a fresh one]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args)]
pub(crate) struct SettingsArgs {
    /// Upload only files whose path matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Leave out files and folders whose path matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Files and parts in flight in each worker, 1 to 256 [default: all the worker has]
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<u16>,
    /// How often a request to the store is tried, 1 to 20 [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u8>,
    /// Larger files go in parts of this size, 5MiB to 5GiB [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) part_size: Option<u64>,
    /// What to do with files that the bucket has already [default: overwrite]
    #[arg(long, value_name = "WHAT", value_parser = ["overwrite", "skip_unchanged", "skip_existing", "fail"])]
    pub(crate) on_existing: Option<String>,
    /// How skip_unchanged tells: by size and time, or by reading the file [default: size_mtime]
    #[arg(long, value_name = "HOW", value_parser = ["size_mtime", "checksum"])]
    pub(crate) compare: Option<String>,
    /// The checksum that the store confirms [default: crc64nvme]
    #[arg(long, value_name = "KIND", value_parser = checksum_parser())]
    pub(crate) checksum: Option<String>,
    /// What to do with symbolic links [default: skip]
    #[arg(long, value_name = "WHAT", value_parser = ["skip", "follow_inside"])]
    pub(crate) symlinks: Option<String>,
    /// The most that all workers together send in a second, such as 20MiB [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) bandwidth_limit: Option<u64>,
    /// The storage class of what is written, such as STANDARD_IA [default: the project's]
    #[arg(long, value_name = "CLASS")]
    pub(crate) storage_class: Option<String>,
    /// Put between the cycle's prefix and the path
    #[arg(long, value_name = "PREFIX")]
    pub(crate) target_prefix: Option<String>,
    /// Look at everything, send nothing, and tell what an upload would do
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Patience {
    /// Stop watching after this long without any answer; the upload goes on all the same
    #[arg(long = "give-up-after-s", value_name = "SECONDS", default_value_t = 120)]
    pub(crate) give_up_after_s: u64,
}

#[derive(Args)]
pub(crate) struct SessionArg {
    /// The upload's id
    pub(crate) session: Uuid,
}

#[derive(Args)]
pub(crate) struct WatchArgs {
    /// The upload's id
    pub(crate) session: Uuid,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args)]
pub(crate) struct ResumeArgs {
    /// The upload's id
    pub(crate) session: Uuid,
    /// Watch it to its end, with the exit codes of `upload`
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args)]
pub(crate) struct RetryArgs {
    /// The upload's id
    pub(crate) session: Uuid,
    /// Only the files that failed for this cause
    #[arg(long, value_name = "CODE")]
    pub(crate) error_code: Option<String>,
    /// Watch it to its end, with the exit codes of `upload`
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Subcommand)]
pub(crate) enum SessionsCommand {
    /// List uploads, the newest first
    List {
        /// Only of this project (id or name)
        #[arg(long)]
        project: Option<String>,
        /// Only of this cycle (id; with --project also name or number)
        #[arg(long)]
        cycle: Option<String>,
        /// Only in this status
        #[arg(long, value_parser = status_parser())]
        status: Option<String>,
        /// Only where this text occurs
        #[arg(short, value_name = "TEXT")]
        q: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show an upload as it stands
    Show(SessionArg),
    /// Delete the record of an ended upload (nothing in the bucket is touched)
    Delete(SessionArg),
}

#[derive(Args)]
pub(crate) struct FilesArgs {
    /// The upload's id
    pub(crate) session: Uuid,
    /// Only in this status
    #[arg(long, value_parser = file_status_parser())]
    pub(crate) status: Option<String>,
    /// Only with this cause
    #[arg(long, value_name = "CODE")]
    pub(crate) error_code: Option<String>,
    /// Only where this text occurs in the path
    #[arg(short, value_name = "TEXT")]
    pub(crate) q: Option<String>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

fn checksum_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(ChecksumKind::ALL.iter().map(|kind| kind.as_str()))
}

fn status_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(SessionStatus::ALL.iter().map(|status| status.as_str()))
}

fn file_status_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(FileStatus::ALL.iter().map(|status| status.as_str()))
}

/// Reads a size: `16MiB`, `16M` (the same), `16MB` (powers of ten), `16777216` bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("give a whole number of B, KiB, MiB, GiB (or KB, MB, GB), such as 16MiB".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "give a size such as 16MiB".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("that is more than {}", size(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let sizes = ["0", "5242880", "16MiB", "16 mib", "16M", "16MB", "5g", "7b"]
            .map(|text| parse_size(text).unwrap());
        assert_eq!(
            sizes,
            [0, 5 << 20, 16 << 20, 16 << 20, 16 << 20, 16_000_000, 5 << 30, 7]
        );
        for bad in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "16MiBs",
            "99999999999999999999",
            "18446744073709551615K",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?} was taken");
        }
    }
}
