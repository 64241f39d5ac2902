//! Where an object's bytes lie: from a key to a path below a bucket's `objects` folder, and back.
//!
//! A key is kept readable: `/` opens a folder, a component is a file name. What a file name cannot hold (control
//! characters, `.`, `..`, an empty component) and `%` itself is percent-encoded; a component of more than
//! [`MAX_NAME_BYTES`] goes on in a folder whose name ends in `%`.

use std::fmt::Write as _;
use std::path::PathBuf;

/// The longest file name made, in bytes; file systems take 255.
const MAX_NAME_BYTES: usize = 200;

/// The path of `key`, relative to the bucket's `objects` folder.
pub(super) fn path_of(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for component in key.split('/') {
        push_component(&mut path, component);
    }
    path
}

/// The place for a key whose own path is taken: S3 lets both `a` and `a/b` be objects, a file system does not.
pub(super) fn path_aside(key_sha256_hex: &str) -> PathBuf {
    PathBuf::from("%aside").join(key_sha256_hex)
}

fn push_component(path: &mut PathBuf, component: &str) {
    match component {
        "" => return path.push("%"),
        "." => return path.push("%2E"),
        ".." => return path.push("%2E%2E"),
        _ => {}
    }
    let mut name = String::with_capacity(component.len());
    let mut encoded = String::new();
    for character in component.chars() {
        encoded.clear();
        if character == '%' || character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        } else {
            encoded.push(character);
        }
        if name.len() + encoded.len() > MAX_NAME_BYTES {
            name.push('%');
            path.push(&name);
            name.clear();
        }
        name.push_str(&encoded);
    }
    path.push(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse of [`path_of`]: the proof that two keys never share a path.
    fn key_of(path: &std::path::Path) -> String {
        let mut key = String::new();
        let mut joins = true;
        for name in path.iter().map(|name| name.to_str().unwrap()) {
            if !joins {
                key.push('/');
            }
            let (name, goes_on) = match name.strip_suffix('%') {
                Some(name) => (name, !name.is_empty()),
                None => (name, false),
            };
            key.push_str(&percent_encoding::percent_decode_str(name).decode_utf8().unwrap());
            joins = goes_on;
        }
        key
    }

    #[test]
    fn every_key_comes_back() {
        let long = "x".repeat(1024);
        let long_umlauts = "ü".repeat(500);
        let mixed = format!("a/{}/b/{}", "é".repeat(150), "%".repeat(120));
        for key in [
            "a",
            "a/b/c.txt",
            "a//b",
            "a/",
            "/",
            "//",
            ".",
            "..",
            "a/../b/./c",
            "100%",
            "a%2Fb",
            "sp ace+plus#hash\"quote'",
            "line\nfeed\tand\u{7f}\u{85}",
            "caf\u{e9}",
            "cafe\u{301}",
            "🚀/🦀",
            &"y".repeat(200),
            &"y".repeat(201),
            &long,
            &long_umlauts,
            &mixed,
        ] {
            let path = path_of(key);
            assert_eq!(key_of(&path), key, "{path:?}");
            assert!(
                path.iter()
                    .all(|name| name.len() <= MAX_NAME_BYTES + 1 && name != "..")
            );
        }
    }

    #[test]
    fn plain_keys_stay_readable() {
        assert_eq!(path_of("2024/03/IMG 1.jpg"), PathBuf::from("2024/03/IMG 1.jpg"));
    }
}
