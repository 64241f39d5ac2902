//! The bytes that are hashed and signed: JSON with its keys in order and no spaces (RFC 8785, for objects of texts,
//! whole numbers, truth values and nulls), under a prefix that is used for nothing else.

use crate::format::Entry;
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use std::fmt;

/// What is hashed before the files.
const FILES_DOMAIN: &[u8] = b"data-uploader receipt v1 files\n";
/// What is signed before the header.
const SIGNED_DOMAIN: &str = "data-uploader receipt v1\n";

/// The hash over all files: SHA-256 of the prefix and, for each file by number, its canonical form and a line feed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Root(pub [u8; 32]);

/// `sha256:` and the hash in hexadecimal, as it stands in a receipt.
impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({self})")
    }
}

/// Hashes files as they come.
pub(crate) struct RootHasher(Context);

impl RootHasher {
    pub(crate) fn new() -> Self {
        let mut context = Context::new(&SHA256);
        context.update(FILES_DOMAIN);
        Self(context)
    }

    /// Takes the next file, in its canonical form.
    pub(crate) fn update(&mut self, canonical: &[u8]) {
        self.0.update(canonical);
        self.0.update(b"\n");
    }

    pub(crate) fn finish(self) -> Root {
        let mut root = [0; 32];
        root.copy_from_slice(self.0.finish().as_ref());
        Root(root)
    }
}

/// The canonical form of a file.
pub(crate) fn entry(entry: &Entry) -> Vec<u8> {
    // Texts, whole numbers and truth values: there is nothing that could not be written.
    serde_json::to_vec(entry).unwrap_or_default()
}

/// What the company's key signs: the prefix, the header in its canonical form, and the root, a line each.
#[must_use]
pub fn signed_message(canonical_header: &str, root: Root) -> Vec<u8> {
    format!("{SIGNED_DOMAIN}{canonical_header}\n{root}\n").into_bytes()
}

/// The canonical form of any JSON without fractions.
pub(crate) fn value(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(item, text);
            }
            text.push(']');
        }
        // Sorted here: whether serde_json keeps the order of keys depends on who else is in the build.
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_value(member, text);
            }
            text.push('}');
        }
        plain => text.push_str(&plain.to_string()),
    }
}
