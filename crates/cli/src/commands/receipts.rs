//! `receipt` and `verify`: what was delivered, signed, and whether it is there.

use super::{App, print};
use crate::Exit;
use crate::args::{ReceiptArgs, VerifyArgs};
use crate::problem::Failure;
use crate::render::printable;
use crate::verify::{Against, Report, Voucher, ask_company, compare, given_key, read};
use anyhow::{Context as _, Result, anyhow};
use receipts::{PublicKey, Receipt};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use transfer::check::{BucketAddress, Directory, ObjectStore};

/// `receipt`: to stdout, or into a file that is there only when it is whole.
pub(super) async fn receipt(app: &App, args: &ReceiptArgs) -> Result<()> {
    let session = args.session.to_string();
    let Some(path) = &args.output else {
        let mut stdout = std::io::stdout().lock();
        app.client
            .download(&["sessions", &session, "receipt"], &mut stdout)
            .await?;
        return Ok(stdout.flush()?);
    };
    let named = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(named)?;
    app.client
        .download(&["sessions", &session, "receipt"], &mut file)
        .await?;
    file.persist(path).with_context(named)?;
    eprintln!("written to {}", path.display());
    Ok(())
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
        for against in targets(&args, &receipt, &report.voucher).await? {
            report
                .comparisons
                .push(compare(&args.receipt, &receipt, &against).await?);
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

/// Opens what the receipt is held against.
async fn targets(args: &VerifyArgs, receipt: &Receipt, voucher: &Voucher) -> Result<Vec<Against>> {
    let mut targets = Vec::new();
    if let Some(dir) = &args.dir {
        let directory = Directory::open(dir, crate::verify::symlinks(receipt))
            .map_err(|error| anyhow!("cannot open {}: {error}", dir.display()))?;
        targets.push(Against::Directory(directory, args.allow_extra));
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
        let store = ObjectStore::open(&address).await.map_err(|error| {
            anyhow!(
                "cannot use the bucket {}: {}",
                printable(&address.bucket),
                printable(&error)
            )
        })?;
        targets.push(Against::Bucket(store, args.read));
    }
    Ok(targets)
}
