//! ETags: the MD5 where a client sent it, so that clients that compare find what they expect; otherwise one that
//! cannot be taken for an MD5, because none was computed.

use std::fmt;

use s3s::crypto::{Checksum as _, Md5};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ETag {
    Md5([u8; 16]),
    /// The MD5 of the parts' MD5s, and their number.
    Parts([u8; 16], usize),
    /// Nothing is known of the bytes but how many they are.
    Unknown(u64),
}

impl ETag {
    pub(super) fn of_parts(parts: &[Self], size_bytes: u64) -> Self {
        let mut md5 = Md5::new();
        for part in parts {
            match part {
                Self::Md5(digest) => md5.update(digest),
                _ => return Self::Unknown(size_bytes),
            }
        }
        Self::Parts(md5.finalize(), parts.len())
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Md5(digest) => f.write_str(&hex::encode(digest)),
            Self::Parts(digest, count) => write!(f, "{}-{count}", hex::encode(digest)),
            Self::Unknown(size_bytes) => write!(f, "sink-{size_bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_as_s3_does_it() {
        let part = ETag::Md5(Md5::checksum(b"hello"));
        assert_eq!(part.to_string(), "5d41402abc4b2a76b9719d911017c592");
        let whole = ETag::of_parts(&[part], 5).to_string();
        let expected = hex::encode(Md5::checksum(&Md5::checksum(b"hello")));
        assert_eq!(whole, format!("{expected}-1"));
        assert_eq!(ETag::of_parts(&[part, ETag::Unknown(3)], 8).to_string(), "sink-8");
    }
}
