//! Writing a receipt, piece by piece. Each file is a line of its own, in its canonical form, so that line tools can
//! check the root hash as well.

use crate::canonical::{self, Root, RootHasher};
use crate::format::{Entry, Header, SignaturePart};
use crate::keys::{PublicKey, Signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::SessionId;

/// The format of a note that stands where a receipt was that does not hold any more.
pub(crate) const WITHDRAWN_FORMAT: &str = "data-uploader-receipt-withdrawn/1";

/// Such a note.
#[must_use]
pub fn withdrawn() -> String {
    format!("{{\"format\":\"{WITHDRAWN_FORMAT}\"}}\n")
}

/// Where the receipt of a session lies in its bucket: below the prefixes of project and cycle.
///
/// A session's own keys begin with `key_prefix`, which is those two prefixes and `target_prefix`.
#[must_use]
pub fn receipt_key(key_prefix: &str, target_prefix: &str, session: SessionId) -> String {
    let prefix = key_prefix.strip_suffix(target_prefix).unwrap_or(key_prefix);
    format!("{prefix}.receipts/{session}.json")
}

impl Header {
    /// The canonical form: what [`Writer::new`] takes, and what is signed.
    #[must_use]
    pub fn to_canonical(&self) -> String {
        canonical::value(&serde_json::to_value(self).unwrap_or_default())
    }
}

/// A receipt that is being written. What is to be written next is added to the buffer that each call is given.
pub struct Writer {
    root: RootHasher,
    has_files: bool,
}

impl Writer {
    /// Begins with a header in its canonical form.
    #[must_use]
    pub fn new(canonical_header: &str, out: &mut Vec<u8>) -> Self {
        let members = canonical_header.strip_suffix('}').unwrap_or(canonical_header);
        out.extend_from_slice(members.as_bytes());
        out.extend_from_slice(b",\n\"files\":[");
        Self {
            root: RootHasher::new(),
            has_files: false,
        }
    }

    /// Adds a file. They come in the order of their numbers.
    pub fn entry(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let line = canonical::entry(entry);
        self.root.update(&line);
        out.extend_from_slice(if self.has_files { b",\n" } else { b"\n" });
        out.extend_from_slice(&line);
        self.has_files = true;
    }

    /// The root hash, after the last file.
    #[must_use]
    pub fn finish(self) -> Root {
        self.root.finish()
    }

    /// Ends a receipt.
    pub fn tail(root: Root, key: &PublicKey, signature: &Signature, out: &mut Vec<u8>) {
        let signature = SignaturePart {
            algorithm: "ed25519".to_owned(),
            key_id: key.id(),
            public_key: key.to_base64(),
            value: BASE64.encode(signature),
        };
        let signature = serde_json::to_string(&signature).unwrap_or_default();
        out.extend_from_slice(
            format!("\n],\n\"root\":\"{root}\",\n\"signature\":{signature}}}\n").as_bytes(),
        );
    }
}
