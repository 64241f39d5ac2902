//! Reading a receipt, file by file, and telling whether it is as it was signed.

use crate::canonical::{self, Root, RootHasher, signed_message};
use crate::format::{Counts, Entry, FORMAT, Header, SignaturePart};
use crate::keys::PublicKey;
use crate::write::WITHDRAWN_FORMAT;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::io::Read;

/// A text is no receipt, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(std::io::Error),
    /// It ends in the middle.
    #[error("it is cut off: a receipt ends with its signature")]
    Truncated,
    /// It is something else, or of a later version.
    #[error("it is no receipt that this version can read: {0}")]
    NoReceipt(String),
}

/// Why a whole receipt is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A file was changed, added, taken away or moved.
    #[error(
        "the files are not those that were signed: their root hash is {computed}, and {stated} is stated"
    )]
    Root {
        /// Of the files that are there.
        computed: String,
        /// In the receipt.
        stated: String,
    },
    /// The sums are wrong, though both may have been signed.
    #[error("the counts are not the sums of the files")]
    Counts,
    /// The signature is of another header, root or key.
    #[error("the signature does not fit: the receipt was changed after it was signed, or was never signed")]
    Signature,
}

/// A receipt that was read to its end.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// All but the files.
    pub header: Header,
    /// The hash over the files that are there.
    pub root: Root,
    /// The hash that is stated.
    pub stated_root: String,
    /// Who signed.
    pub signature: SignaturePart,
    /// Files that are not delivered: failed, left out or not tried.
    pub not_delivered: u64,
    canonical_header: String,
    counts: Counts,
}

impl Receipt {
    /// Whether it is as it was signed by the key that it names; gives that key. Whose key it is, it cannot tell.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<PublicKey, Flaw> {
        if self.root.to_string() != self.stated_root {
            return Err(Flaw::Root {
                computed: self.root.to_string(),
                stated: self.stated_root.clone(),
            });
        }
        let key = PublicKey::from_text(&self.signature.public_key).map_err(|_| Flaw::Signature)?;
        let signature = BASE64
            .decode(&self.signature.value)
            .map_err(|_| Flaw::Signature)?;
        let is_named = self.signature.algorithm == "ed25519" && self.signature.key_id == key.id();
        if !is_named || !key.verifies(&signed_message(&self.canonical_header, self.root), &signature) {
            return Err(Flaw::Signature);
        }
        if self.counts != self.header.counts {
            return Err(Flaw::Counts);
        }
        Ok(key)
    }
}

/// Reads a receipt and hands out each of its files, until `take` says no; then the rest is read all the same.
///
/// # Errors
/// When it is no whole receipt. Whether to believe it, [`Receipt::check`] tells.
pub fn read(reader: impl Read, mut take: impl FnMut(Entry) -> bool) -> Result<Receipt, ReadError> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    let mut files = Files {
        take: &mut take,
        is_wanted: true,
        root: RootHasher::new(),
        counts: Counts::default(),
        not_delivered: 0,
    };
    let parts = Document(&mut files)
        .deserialize(&mut json)
        .and_then(|parts| json.end().map(|()| parts))
        .map_err(refused)?;
    let header = Value::Object(parts.header);
    if header["format"] != FORMAT {
        return Err(ReadError::NoReceipt(format!(
            "its format is {}, not {FORMAT:?}",
            header["format"]
        )));
    }
    Ok(Receipt {
        canonical_header: canonical::value(&header),
        header: serde_json::from_value(header).map_err(refused)?,
        root: files.root.finish(),
        stated_root: parts.root,
        signature: parts.signature,
        counts: files.counts,
        not_delivered: files.not_delivered,
    })
}

fn refused(error: serde_json::Error) -> ReadError {
    match error.classify() {
        serde_json::error::Category::Io => ReadError::Io(error.into()),
        serde_json::error::Category::Eof => ReadError::Truncated,
        serde_json::error::Category::Syntax | serde_json::error::Category::Data => {
            ReadError::NoReceipt(error.to_string())
        }
    }
}

/// The members of a receipt without its files.
struct Parts {
    header: Map<String, Value>,
    root: String,
    signature: SignaturePart,
}

/// The whole.
struct Document<'f, 't>(&'f mut Files<'t>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = Parts;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parts, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a receipt")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let (mut header, mut root, mut signature, mut has_files) = (Map::new(), None, None, false);
        while let Some(name) = map.next_key::<String>()? {
            // Of two with one name each reader would believe another.
            let is_known = match name.as_str() {
                "files" => {
                    map.next_value_seed(&mut *self.0)?;
                    std::mem::replace(&mut has_files, true)
                }
                "root" => root.replace(map.next_value()?).is_some(),
                "signature" => signature.replace(map.next_value()?).is_some(),
                _ => header
                    .insert(name.clone(), map.next_value_seed(Strict)?)
                    .is_some(),
            };
            if is_known {
                return Err(A::Error::custom(format!("{name:?} is there twice")));
            }
            if name == "format" && header[&name] == WITHDRAWN_FORMAT {
                return Err(A::Error::custom(
                    "it was withdrawn: its session went on, and ended without one",
                ));
            }
        }
        if !has_files {
            return Err(A::Error::missing_field("files"));
        }
        Ok(Parts {
            header,
            root: root.ok_or_else(|| A::Error::missing_field("root"))?,
            signature: signature.ok_or_else(|| A::Error::missing_field("signature"))?,
        })
    }
}

/// The files, one after the other.
struct Files<'t> {
    take: &'t mut dyn FnMut(Entry) -> bool,
    is_wanted: bool,
    root: RootHasher,
    counts: Counts,
    not_delivered: u64,
}

impl<'de> DeserializeSeed<'de> for &mut Files<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Files<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut last = 0;
        while let Some(entry) = seq.next_element::<Entry>()? {
            if entry.number <= last {
                return Err(A::Error::custom(
                    "the files are not in the order of their numbers",
                ));
            }
            last = entry.number;
            self.root.update(&canonical::entry(&entry));
            self.counts.add(&entry);
            self.not_delivered += u64::from(!entry.is_delivered());
            if self.is_wanted {
                self.is_wanted = (self.take)(entry);
            }
        }
        Ok(())
    }
}

/// Any JSON in which no member is there twice: of two with one name each reader would believe another.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without fractions")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict)?;
            if members.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("{name:?} is there twice")));
            }
        }
        Ok(Value::Object(members))
    }
}
