//! From a file's path to its object's key, and back.
//!
//! A path is bytes; a key is text. A path that is clean UTF-8 travels as it is. In a path that is no UTF-8 or
//! has control characters, each such byte becomes `%XX` and `%` itself becomes `%25`. Two different paths can
//! so give one key (`a%0A` as a clean name, and `a` with a newline); the scan reports the later one.

/// S3's limit for a key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// The text form of a path below the source, as it appears in keys, answers and logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathText {
    /// The path with `/` between its components, encoded if need be.
    pub text: String,
    /// Whether bytes were encoded, so that [`PathText::to_bytes`] must decode.
    pub is_encoded: bool,
}

impl PathText {
    /// The text form of `path`, the bytes of a relative path.
    #[must_use]
    pub fn from_bytes(path: &[u8]) -> Self {
        match std::str::from_utf8(path) {
            Ok(text) if !text.chars().any(char::is_control) => Self {
                text: text.to_owned(),
                is_encoded: false,
            },
            _ => Self {
                text: encode(path),
                is_encoded: true,
            },
        }
    }

    /// The bytes of the path, exactly as they were.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_encoded {
            decode(&self.text)
        } else {
            self.text.clone().into_bytes()
        }
    }

    /// Whether another path could have the same text: only then need the scan remember it.
    #[must_use]
    pub fn may_collide(&self) -> bool {
        self.is_encoded || self.text.contains('%')
    }
}

/// Encodes what is no UTF-8, each byte of a control character, and `%`.
fn encode(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len() + 8);
    let percent = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.push_str(&format!("%{byte:02X}"));
        }
    };
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                percent(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        percent(&mut text, chunk.invalid());
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

/// Why a path gives no key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// S3 takes no longer key.
    #[error("its key would be {0} bytes long; S3 takes at most {MAX_KEY_BYTES}")]
    TooLong(usize),
    /// `.` and `..` as components are resolved by some clients and proxies, and would land elsewhere.
    #[error("its key would have a component \".\" or \"..\"")]
    DotComponent,
    /// A file there would pass for a receipt, or be written over by one.
    #[error("its key would be that of a receipt; leave it out (`exclude`), or give it another name")]
    Receipt,
}

/// Joins `prefix` and the text of a path below the source to a key.
///
/// # Errors
/// When the key is longer than S3 takes, has a component `.` or `..`, or is that of a receipt.
pub fn object_key(prefix: &str, path: &str) -> Result<String, KeyError> {
    let key = format!("{prefix}{path}");
    if is_receipt_key(&key) {
        return Err(KeyError::Receipt);
    }
    check_key(&key)?;
    Ok(key)
}

/// Whether a key is that of a session's receipt, wherever it lies: it ends in `.receipts/{id}.json`.
#[must_use]
pub fn is_receipt_key(key: &str) -> bool {
    let mut components = key.rsplit('/');
    let id = components.next().and_then(|name| name.strip_suffix(".json"));
    components.next() == Some(".receipts")
        && id.is_some_and(|id| id.len() == 36 && uuid::Uuid::try_parse(id).is_ok())
}

/// Checks a key, whatever it is of.
///
/// # Errors
/// When it is longer than S3 takes, or has a component `.` or `..`.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong(key.len()));
    }
    if key
        .split('/')
        .any(|component| component == "." || component == "..")
    {
        return Err(KeyError::DotComponent);
    }
    Ok(())
}

/// Why a prefix that a person gave is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidPrefix(pub &'static str);

/// Checks a prefix that a person gave (of a project, a cycle, a session): it may be empty.
///
/// # Errors
/// When it begins with `/`, has control characters or a component `.` or `..`, is empty between two slashes,
/// or is longer than 512 bytes.
pub fn check_prefix(prefix: &str) -> Result<(), InvalidPrefix> {
    if prefix.len() > 512 {
        return Err(InvalidPrefix("is longer than 512 bytes"));
    }
    if prefix.chars().any(char::is_control) {
        return Err(InvalidPrefix("has control characters"));
    }
    if prefix.starts_with('/') {
        return Err(InvalidPrefix("begins with \"/\"; keys begin with a name"));
    }
    if prefix.contains("//") {
        return Err(InvalidPrefix("has an empty component (\"//\")"));
    }
    if prefix
        .split('/')
        .any(|component| component == "." || component == "..")
    {
        return Err(InvalidPrefix("has a component \".\" or \"..\""));
    }
    Ok(())
}

/// Whether two targets overlap: one prefix begins with the other, so that a key may lie below both.
#[must_use]
pub fn targets_overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_has_the_key_of_a_receipt() {
        let id = "0197f000-0000-7000-8000-000000000001";
        for (prefix, path) in [
            ("p/C1/", format!(".receipts/{id}.json")),
            ("p/C1/sub/", format!("deeper/.receipts/{id}.json")),
            ("p/C1/.rec", format!("eipts/{id}.json")),
            ("", format!(".receipts/{id}.json")),
        ] {
            assert_eq!(object_key(prefix, &path), Err(KeyError::Receipt), "{path}");
        }
        for path in [
            ".receipts/notes.json".to_owned(),
            format!(".receipts/{id}"),
            format!("receipts/{id}.json"),
            format!(".receipts/{id}.json/x"),
            format!("{id}.json"),
        ] {
            assert!(object_key("p/", &path).is_ok(), "{path}");
        }
    }

    #[test]
    fn clean_names_travel_as_they_are() {
        for name in [
            "a b",
            "100%",
            "x+y#z",
            "\"quoted\"",
            "caf\u{e9}",
            "cafe\u{301}",
            "🚀/🦀",
            ".hidden",
        ] {
            let text = PathText::from_bytes(name.as_bytes());
            assert_eq!((text.text.as_str(), text.is_encoded), (name, false));
            assert_eq!(text.to_bytes(), name.as_bytes());
        }
    }

    #[test]
    fn odd_names_are_encoded_and_come_back() {
        for (bytes, expected) in [
            (&b"line\nfeed"[..], "line%0Afeed"),
            (b"50%\n", "50%25%0A"),
            (b"latin1-\xe9.txt", "latin1-%E9.txt"),
            (b"ok-\xc3\xa9-\xff", "ok-\u{e9}-%FF"),
            ("c1-\u{85}".as_bytes(), "c1-%C2%85"),
            (b"\x7f", "%7F"),
        ] {
            let text = PathText::from_bytes(bytes);
            assert_eq!((text.text.as_str(), text.is_encoded), (expected, true));
            assert_eq!(text.to_bytes(), bytes);
        }
    }

    #[test]
    fn colliding_names_are_both_marked() {
        let (clean, encoded) = (PathText::from_bytes(b"a%0A"), PathText::from_bytes(b"a\n"));
        assert_eq!(clean.text, encoded.text);
        assert!(clean.may_collide() && encoded.may_collide());
        assert!(!PathText::from_bytes(b"plain").may_collide());
    }

    #[test]
    fn keys_have_a_limit() {
        assert_eq!(object_key("p/", "a/b"), Ok("p/a/b".to_owned()));
        assert_eq!(object_key("p/", &"x".repeat(1023)), Err(KeyError::TooLong(1025)));
        assert_eq!(object_key("p/../", "a"), Err(KeyError::DotComponent));
    }

    #[test]
    fn prefixes_are_checked() {
        for good in ["", "C1/", "a/b/c", "ünï/"] {
            assert_eq!(check_prefix(good), Ok(()));
        }
        for bad in ["/a", "a//b", "../", "a/./b", "a\nb", &"x".repeat(513)] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn overlap_is_a_common_beginning() {
        assert!(targets_overlap("C1/", "C1/raw/"));
        assert!(targets_overlap("", "C1/"));
        assert!(targets_overlap("C1", "C10/"));
        assert!(!targets_overlap("C1/", "C10/"));
    }
}
