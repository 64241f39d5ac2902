//! What counts as proof that the store holds the bytes that were meant.

use crate::checksum::Checksum;
use crate::objects::ObjectInfo;
use crate::xml::told_checksum;
use domain::ChecksumKind;
use http::HeaderMap;

/// The object as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) size_bytes: u64,
    pub(crate) checksum: Option<&'a Checksum>,
    /// The checksum is one of the parts' checksums.
    pub(crate) composite: bool,
    /// The ETag it has when the store makes ETags of MD5s.
    pub(crate) etag: Option<&'a str>,
    pub(crate) token: Option<&'a str>,
}

/// What was compared, and how it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The store holds these bytes.
    Same,
    /// The store holds other bytes.
    Other,
    /// It told nothing that could be compared.
    None,
}

impl Expected<'_> {
    /// Compares with the checksum and ETag that the store told. Another ETag proves nothing: with encryption it
    /// is no MD5.
    pub(crate) fn compare(&self, told: Option<&(Checksum, bool)>, etag: Option<&str>) -> Proof {
        if let (Some(expected), Some((told, composite))) = (self.checksum, told)
            && expected.kind == told.kind
            && self.composite == *composite
        {
            return if expected.value == told.value {
                Proof::Same
            } else {
                Proof::Other
            };
        }
        match (self.etag, etag) {
            (Some(expected), Some(told)) if expected.eq_ignore_ascii_case(told) => Proof::Same,
            _ => Proof::None,
        }
    }

    /// The object that is there is the one that was meant: the same size and bytes, with our token. Where the
    /// store tells nothing about the bytes, the token alone must do; without a token the bytes must be proved.
    pub(crate) fn is_met_by(&self, info: &ObjectInfo) -> bool {
        if info.size_bytes != self.size_bytes || self.token.is_some() && self.token != info.token.as_deref() {
            return false;
        }
        match self.compare(info.told_checksum().as_ref(), info.etag.as_deref()) {
            Proof::Same => true,
            Proof::Other => false,
            Proof::None => self.token.is_some(),
        }
    }
}

impl ObjectInfo {
    pub(crate) fn told_checksum(&self) -> Option<(Checksum, bool)> {
        self.checksum
            .clone()
            .map(|checksum| (checksum, self.checksum_is_composite))
    }
}

/// The header that carries a checksum.
pub(crate) fn checksum_header(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc64nvme => "x-amz-checksum-crc64nvme",
        ChecksumKind::Crc32c => "x-amz-checksum-crc32c",
        ChecksumKind::Sha256 => "x-amz-checksum-sha256",
    }
}

/// The checksum that an answer's headers tell, preferably of this kind, and whether it is composite.
pub(crate) fn header_checksum(headers: &HeaderMap, preferred: ChecksumKind) -> Option<(Checksum, bool)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    [
        preferred,
        ChecksumKind::Crc64nvme,
        ChecksumKind::Crc32c,
        ChecksumKind::Sha256,
    ]
    .into_iter()
    .find_map(|kind| told_checksum(kind, text(checksum_header(kind))?, text("x-amz-checksum-type")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Hasher;
    use std::collections::BTreeMap;

    fn info(bytes: &[u8], token: Option<&str>) -> ObjectInfo {
        ObjectInfo {
            size_bytes: bytes.len() as u64,
            etag: Some("abc".to_owned()),
            checksum: Some(Hasher::of(ChecksumKind::Crc64nvme, bytes)),
            checksum_is_composite: false,
            metadata: BTreeMap::new(),
            token: token.map(str::to_owned),
            content_type: None,
            last_modified: None,
        }
    }

    #[test]
    fn an_object_is_ours_by_size_token_and_bytes() {
        let checksum = Hasher::of(ChecksumKind::Crc64nvme, b"hello");
        let expected = Expected {
            size_bytes: 5,
            checksum: Some(&checksum),
            composite: false,
            etag: None,
            token: Some("7/1"),
        };
        assert!(expected.is_met_by(&info(b"hello", Some("7/1"))));
        assert!(!expected.is_met_by(&info(b"hello", Some("7/2"))));
        assert!(!expected.is_met_by(&info(b"hello", None)));
        assert!(!expected.is_met_by(&info(b"jello", Some("7/1"))));
        assert!(!expected.is_met_by(&info(b"hello!", Some("7/1"))));
        let silent = ObjectInfo {
            checksum: None,
            ..info(b"hello", Some("7/1"))
        };
        assert!(expected.is_met_by(&silent));
        let nobody = Expected {
            token: None,
            ..expected
        };
        assert!(!nobody.is_met_by(&silent));
        assert!(nobody.is_met_by(&info(b"hello", Some("anybody"))));
        assert!(
            Expected {
                etag: Some("ABC"),
                ..nobody
            }
            .is_met_by(&silent)
        );
    }

    #[test]
    fn a_composite_checksum_is_not_taken_for_a_full_one() {
        let checksum = Hasher::of(ChecksumKind::Sha256, b"hello");
        let expected = Expected {
            size_bytes: 5,
            checksum: Some(&checksum),
            composite: false,
            etag: None,
            token: None,
        };
        assert_eq!(
            expected.compare(Some(&(checksum.clone(), true)), None),
            Proof::None
        );
        assert_eq!(
            expected.compare(Some(&(checksum.clone(), false)), None),
            Proof::Same
        );
    }
}
