//! Checking a receipt: is it genuine, who vouches for it, and does what it names hold what it says.
//!
//! The receipt is read twice: nothing in it is acted upon before its signature is known to fit. Both times it goes by
//! piece by piece, so that its size does not matter.

mod compare;
mod report;

pub(crate) use compare::{Target, compare};
pub(crate) use report::Report;

use crate::client::Client;
use crate::problem::Failure;
use crate::render::printable;
use anyhow::{Context as _, Result, bail};
use receipts::{Entry, PublicKey, Receipt};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Who says that the key which signed a receipt is the company's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Voucher {
    /// The server, for its company.
    Company,
    /// Whoever gave the key on the command line.
    Given,
    /// Nobody was asked for (`--any-key`).
    NotWanted,
    /// Nobody, for this reason.
    Nobody(String),
    /// The key is none of those that were trusted.
    Denied(String),
}

impl Voucher {
    /// Whether the receipt may be acted upon as the company's own.
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self, Self::Company | Self::Given)
    }
}

/// Reads the whole receipt, and hands out its files.
pub(crate) async fn read(path: &Path, take: impl FnMut(Entry) -> bool + Send + 'static) -> Result<Receipt> {
    let path: PathBuf = path.to_owned();
    let name = printable(&path.display().to_string());
    let reading = tokio::task::spawn_blocking(move || -> Result<Receipt> {
        let file = File::open(&path)?;
        Ok(receipts::read(BufReader::with_capacity(1 << 16, file), take)?)
    });
    reading
        .await?
        .with_context(|| format!("cannot read the receipt {name}"))
}

/// The key of `--key`: in base64, or in a file.
pub(crate) fn given_key(text: &str) -> Result<PublicKey> {
    if let Ok(key) = PublicKey::from_text(text) {
        return Ok(key);
    }
    let content = std::fs::read_to_string(text)
        .map_err(|error| Failure::usage(format!("--key is neither a key in base64 nor a file: {error}")))?;
    PublicKey::from_text(&content).map_err(|error| Failure::usage(format!("{}: {error}", printable(text))))
}

/// Asks the server whether the key that signed is one of the receipt's company.
pub(crate) async fn ask_company(client: &Client, receipt: &Receipt, key: &PublicKey) -> Result<Voucher> {
    let company = receipt.header.company.id.to_string();
    let answer = match client.get(&["companies", &company, "receipt-keys"]).await {
        Ok(answer) => answer,
        Err(error) => {
            let reason = match error.downcast_ref::<Failure>() {
                Some(Failure::NotSignedIn { .. }) => "you are not signed in, and gave no --key".to_owned(),
                Some(Failure::Unreachable { url, cause }) => format!("{url} cannot be asked: {cause}"),
                Some(Failure::Problem(problem)) if problem.status == 404 => format!(
                    "the company {} is not the one you are signed in to",
                    printable(&receipt.header.company.code)
                ),
                Some(Failure::Problem(problem)) => format!("the server answered {}", problem.status),
                _ => return Err(error),
            };
            return Ok(Voucher::Nobody(reason));
        }
    };
    let Some(keys) = answer["items"].as_array() else {
        bail!("{} answered with something that is no list", client.base());
    };
    let is_theirs = keys
        .iter()
        .filter_map(|known| PublicKey::from_text(known["public_key"].as_str()?).ok())
        .any(|known| known == *key);
    Ok(if is_theirs {
        Voucher::Company
    } else {
        Voucher::Denied("it was not signed with a key of its company".to_owned())
    })
}
