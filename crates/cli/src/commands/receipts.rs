//! `receipt` and `verify`: what was delivered, signed, and whether it is there.

use super::{App, print};
use crate::Exit;
use crate::args::{ReceiptArgs, VerifyArgs};
use crate::problem::Failure;
use crate::render::printable;
use crate::verify::{Report, Target, Voucher, ask_company, compare, given_key, read};
use anyhow::{Context as _, Result, bail};
use receipts::{PublicKey, Receipt};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::NamedTempFile;
use transfer::check::BucketAddress;

/// `receipt`: to stdout, or into a file; in both it is there only when it is whole, and as it was signed.
pub(super) async fn receipt(app: &App, args: &ReceiptArgs) -> Result<()> {
    let session = args.session.to_string();
    let Some(path) = &args.output else {
        let file = tempfile::NamedTempFile::new().context("cannot write a temporary file")?;
        let mut file = download(app, &session, file).await?.reopen()?;
        let mut stdout = std::io::stdout().lock();
        std::io::copy(&mut file, &mut stdout)?;
        return Ok(stdout.flush()?);
    };
    let named = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(named)?;
    let file = download(app, &session, file).await?;
    file.persist(path).with_context(named)?;
    eprintln!("written to {}", path.display());
    Ok(())
}

/// Downloads a receipt and looks whether it is one, and to its end: while it is sent, a retry may change its files.
async fn download(app: &App, session: &str, mut file: NamedTempFile) -> Result<NamedTempFile> {
    let segments = ["sessions", session, "receipt"];
    app.client.download(&segments, &mut file).await?;
    file.flush()?;
    let flaw = match read(file.path(), |_| true).await {
        Ok(receipt) => receipt.check().err().map(|flaw| flaw.to_string()),
        Err(error) => Some(error.root_cause().to_string()),
    };
    match flaw {
        None => Ok(file),
        Some(flaw) => bail!(
            "what the server sent is not the receipt that was signed, and nothing was written: {}; if the upload was \
             retried meanwhile, ask again when that has ended",
            printable(&flaw)
        ),
    }
}

/// `verify`: the receipt itself, and what it is to be held against.
pub(super) async fn verify(app: &App, args: VerifyArgs) -> Result<Exit> {
    let given = args.key.as_deref().map(given_key).transpose()?;
    let receipt = read(&args.receipt, |_| true).await?;
    let signed_by = receipt.check().map_err(|flaw| flaw.to_string());
    let mut report = Report {
        voucher: match &signed_by {
            Ok(key) => voucher(app, &args, &receipt, key, given).await?,
            Err(flaw) => Voucher::Denied(flaw.clone()),
        },
        receipt: &receipt,
        signed_by,
        comparisons: Vec::new(),
    };
    // What is not the company's word is not worth comparing.
    if !matches!(report.voucher, Voucher::Denied(_)) {
        for target in targets(&args, &receipt, &report.voucher)? {
            report
                .comparisons
                .push(compare(&args.receipt, &receipt, target).await);
        }
    }
    if app.json {
        print(&serde_json::to_string_pretty(&report.to_json())?)?;
    } else {
        print(&report.to_text())?;
    }
    Ok(report.verdict().exit())
}

async fn voucher(
    app: &App,
    args: &VerifyArgs,
    receipt: &Receipt,
    key: &PublicKey,
    given: Option<PublicKey>,
) -> Result<Voucher> {
    match given {
        Some(given) if given == *key => Ok(Voucher::Given),
        Some(_) => Ok(Voucher::Denied(
            "it was not signed with the key that was given".to_owned(),
        )),
        None if args.any_key => Ok(Voucher::NotWanted),
        None => ask_company(&app.client, receipt, key).await,
    }
}

/// What the receipt is held against. Nothing is opened yet: what is wrong with the arguments is said before anything else.
fn targets(args: &VerifyArgs, receipt: &Receipt, voucher: &Voucher) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    if let Some(dir) = &args.dir {
        targets.push(Target::Directory(dir.clone(), args.allow_extra));
    }
    if let Some(name) = &args.bucket {
        let header = &receipt.header;
        let endpoint_url = match (&args.endpoint_url, &header.endpoint_url) {
            (None, Some(url)) if !voucher.is_trusted() => {
                return Err(Failure::usage(format!(
                    "nobody vouches for the receipt, so no request is signed for the store that it names ({}); \
                     give the store's address yourself with --endpoint-url",
                    printable(url)
                )));
            }
            (given, named) => given.clone().or_else(|| named.clone()),
        };
        let address = BucketAddress {
            bucket: if name.is_empty() {
                header.bucket.clone()
            } else {
                name.clone()
            },
            region: args.region.clone().unwrap_or_else(|| header.region.clone()),
            endpoint_url,
            profile: args.profile.clone(),
        };
        targets.push(Target::Bucket(address, args.read));
    }
    Ok(targets)
}
