//! Receipts on the command line.

use clap::Args;
use std::path::PathBuf;
use uuid::Uuid;

#[derive(Args)]
pub(crate) struct ReceiptArgs {
    /// The upload's id
    pub(crate) session: Uuid,
    /// Write it to this file [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

const VERIFY_HELP: &str = "\
Exit codes: 0 all that was delivered is there and the same, 3 something differs (or the receipt is not genuine), 1
something could not be compared, or nobody vouches for the key that signed the receipt. The last lines say how many files
the receipt calls not delivered (they change no exit code), and what was not compared.

Who vouches: with --key, that key; else your company on the server you are signed in to. Signed in nowhere, give
--key, or --any-key to learn only that the receipt was not changed since somebody signed it.

Examples:
  uploader receipt SESSION -o receipt.json
  uploader verify receipt.json                               # the receipt alone
  uploader verify receipt.json --dir /mnt/restored/run-42
  uploader verify receipt.json --bucket --key company.pem    # with the AWS_* variables or --profile";

#[derive(Args)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct VerifyArgs {
    /// The receipt's file
    pub(crate) receipt: PathBuf,
    /// Compare with this directory, which stands for the upload's source: each file's bytes, and what is too much
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// With --dir: files that are not in the receipt are all right
    #[arg(long, requires = "dir")]
    pub(crate) allow_extra: bool,
    /// Compare with the bucket that the receipt names, or with this one: each object's size and checksum
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) bucket: Option<String>,
    /// With --bucket: read every object instead of asking the store for its checksum
    #[arg(long, requires = "bucket")]
    pub(crate) read: bool,
    /// With --bucket: the store's address [default: the receipt's, where somebody vouches for it]
    #[arg(long, value_name = "URL", requires = "bucket")]
    pub(crate) endpoint_url: Option<String>,
    /// With --bucket: its region [default: the receipt's]
    #[arg(long, value_name = "REGION", requires = "bucket")]
    pub(crate) region: Option<String>,
    /// With --bucket: a profile of the AWS configuration [default: the AWS_* variables, or what the machine offers]
    #[arg(long, value_name = "NAME", requires = "bucket")]
    pub(crate) profile: Option<String>,
    /// The key that must have signed it: a file (PEM, or base64), or the key in base64. Asks no server
    #[arg(long, value_name = "FILE|BASE64")]
    pub(crate) key: Option<String>,
    /// Take the key that the receipt brings along, whoever's it is. Asks no server
    #[arg(long, conflicts_with = "key")]
    pub(crate) any_key: bool,
}
