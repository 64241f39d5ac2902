//! Checksums as S3 knows them: computed in one pass with the read, combined from parts, and their text forms.

use crate::crc::{CRC32C, CRC64NVME};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use domain::ChecksumKind;
use md5::Digest as _;
use std::fmt;
use std::str::FromStr;

/// A checksum of some bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// How it was computed.
    pub kind: ChecksumKind,
    /// The raw value, most significant byte first.
    pub value: Vec<u8>,
}

/// The text is no checksum.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a checksum of the form kind:base64")]
pub struct InvalidChecksum;

impl Checksum {
    /// The value in base64, as it goes over the wire.
    #[must_use]
    pub fn base64(&self) -> String {
        BASE64.encode(&self.value)
    }

    /// A checksum from its base64 form; `None` when that is malformed or has another length than the kind's.
    #[must_use]
    pub fn from_base64(kind: ChecksumKind, text: &str) -> Option<Self> {
        let value = BASE64.decode(text).ok()?;
        (value.len() == value_length(kind)).then_some(Self { kind, value })
    }

    /// The checksum of an object made of `parts` (each with its size in bytes), in their order, and whether it is
    /// composite: CRCs combine to the one of all the bytes; of SHA-256 there is only the hash of the parts'
    /// hashes, which S3 writes with `-` and their number behind it.
    ///
    /// Parts of another kind than `kind` make no meaningful result and are left out.
    #[must_use]
    pub fn combine_parts(kind: ChecksumKind, parts: &[(Checksum, u64)]) -> (Self, bool) {
        let parts = parts.iter().filter(|(checksum, _)| checksum.kind == kind);
        let crc = match kind {
            ChecksumKind::Crc64nvme => CRC64NVME,
            ChecksumKind::Crc32c => CRC32C,
            ChecksumKind::Sha256 => {
                return (Self::composite(kind, parts.map(|(checksum, _)| checksum)), true);
            }
        };
        let parts = parts.map(|(checksum, size_bytes)| (big_endian(&checksum.value), *size_bytes));
        (Self::from_crc(kind, crc.combine(parts)), false)
    }

    /// The checksum of the parts' checksums.
    pub(crate) fn composite<'a>(kind: ChecksumKind, parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut hasher = Hasher::new(kind);
        parts.for_each(|part| hasher.update(&part.value));
        hasher.finish()
    }

    fn from_crc(kind: ChecksumKind, crc: u64) -> Self {
        let bytes = crc.to_be_bytes();
        Self {
            kind,
            value: bytes[bytes.len() - value_length(kind)..].to_vec(),
        }
    }
}

/// `crc64nvme:rosUhgp5mIg=`: the kind and the base64 of the value.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.base64())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

impl FromStr for Checksum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let (kind, value) = text.split_once(':').ok_or(InvalidChecksum)?;
        let kind = kind.parse().map_err(|_| InvalidChecksum)?;
        Self::from_base64(kind, value).ok_or(InvalidChecksum)
    }
}

/// Computes a checksum of bytes that come piece by piece.
pub struct Hasher {
    kind: ChecksumKind,
    state: State,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one per file: a box would cost more than the room"
)]
enum State {
    Crc(crc_fast::Digest),
    Sha256(digest::Context),
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    #[must_use]
    pub fn new(kind: ChecksumKind) -> Self {
        let state = match crc_algorithm(kind) {
            Some(algorithm) => State::Crc(crc_fast::Digest::new(algorithm)),
            None => State::Sha256(digest::Context::new(&digest::SHA256)),
        };
        Self { kind, state }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(crc) => crc.update(bytes),
            State::Sha256(context) => context.update(bytes),
        }
    }

    /// The checksum of all that was taken.
    #[must_use]
    pub fn finish(self) -> Checksum {
        match self.state {
            State::Crc(crc) => Checksum::from_crc(self.kind, crc.finalize()),
            State::Sha256(context) => Checksum {
                kind: self.kind,
                value: context.finish().as_ref().to_vec(),
            },
        }
    }

    /// The checksum of bytes that are all there.
    #[must_use]
    pub fn of(kind: ChecksumKind, bytes: &[u8]) -> Checksum {
        let mut hasher = Self::new(kind);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Whether an ETag (without quotes) is the MD5 of these bytes, as it is of an object that was sent in one request and
/// that the store does not encrypt with a key of its customer.
#[must_use]
pub fn is_md5_etag(etag: &str, bytes: &[u8]) -> bool {
    let mut hasher = EtagHasher::default();
    hasher.update(bytes);
    hasher.is(etag)
}

/// As [`is_md5_etag`], of bytes that come piece by piece.
#[derive(Clone, Debug, Default)]
pub struct EtagHasher(md5::Md5);

impl EtagHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Whether the ETag is that of all that was taken. Another one proves nothing.
    #[must_use]
    pub fn is(self, etag: &str) -> bool {
        hex::encode(self.0.finalize()).eq_ignore_ascii_case(etag)
    }
}

/// The MD5 of bytes: what `Content-MD5` carries and a plain ETag is made of. Never used as a checksum of ours.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}

/// The ETag that S3 gives to an object of these parts, when their ETags are MD5s.
pub(crate) fn multipart_etag<'a>(part_etags: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut md5s = Vec::new();
    let mut parts = 0_usize;
    for etag in part_etags {
        let bytes = hex::decode(etag).ok().filter(|bytes| bytes.len() == 16)?;
        md5s.extend_from_slice(&bytes);
        parts += 1;
    }
    Some(format!("{}-{parts}", hex::encode(md5(&md5s))))
}

fn crc_algorithm(kind: ChecksumKind) -> Option<CrcAlgorithm> {
    match kind {
        ChecksumKind::Crc64nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumKind::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumKind::Sha256 => None,
    }
}

fn value_length(kind: ChecksumKind) -> usize {
    match kind {
        ChecksumKind::Crc64nvme => 8,
        ChecksumKind::Crc32c => 4,
        ChecksumKind::Sha256 => 32,
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ChecksumKind; 3] = [
        ChecksumKind::Crc64nvme,
        ChecksumKind::Crc32c,
        ChecksumKind::Sha256,
    ];

    #[test]
    fn the_published_check_values_come_out() {
        let of = |kind| hex::encode(Hasher::of(kind, b"123456789").value);
        assert_eq!(of(ChecksumKind::Crc64nvme), "ae8b14860a799888");
        assert_eq!(of(ChecksumKind::Crc32c), "e3069283");
        assert_eq!(
            of(ChecksumKind::Sha256),
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
        );
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        for kind in KINDS {
            let mut hasher = Hasher::new(kind);
            bytes.chunks(977).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), Hasher::of(kind, &bytes));
        }
    }

    #[test]
    fn parts_combine_to_the_whole_for_the_crcs() {
        let bytes: Vec<u8> = (0..200_003_u32).map(|n| (n * 31 % 253) as u8).collect();
        for kind in [ChecksumKind::Crc64nvme, ChecksumKind::Crc32c] {
            for size in [1_000, 65_536, 200_003] {
                let parts: Vec<(Checksum, u64)> = bytes
                    .chunks(size)
                    .map(|part| (Hasher::of(kind, part), part.len() as u64))
                    .collect();
                let (combined, composite) = Checksum::combine_parts(kind, &parts);
                assert!(!composite);
                assert_eq!(combined, Hasher::of(kind, &bytes), "{kind} in parts of {size}");
            }
            assert_eq!(Checksum::combine_parts(kind, &[]).0, Hasher::of(kind, b""));
        }
    }

    #[test]
    fn sha256_of_parts_is_the_hash_of_their_hashes() {
        let parts: Vec<(Checksum, u64)> = [b"one".as_slice(), b"two"]
            .map(|part| (Hasher::of(ChecksumKind::Sha256, part), 3))
            .to_vec();
        let (combined, composite) = Checksum::combine_parts(ChecksumKind::Sha256, &parts);
        let hashes = [parts[0].0.value.clone(), parts[1].0.value.clone()].concat();
        assert!(composite);
        assert_eq!(combined, Hasher::of(ChecksumKind::Sha256, &hashes));
    }

    #[test]
    fn the_text_form_goes_there_and_back() {
        for kind in KINDS {
            let checksum = Hasher::of(kind, b"123456789");
            assert_eq!(checksum.to_string().parse(), Ok(checksum));
        }
        let text = Hasher::of(ChecksumKind::Crc64nvme, b"123456789").to_string();
        assert_eq!(text, "crc64nvme:rosUhgp5mIg=");
        for wrong in [
            "crc64nvme",
            "crc64nvme:",
            "crc64nvme:AAAA",
            "md5:rosUhgp5mIg=",
            "crc32c:rosUhgp5mIg=",
        ] {
            assert_eq!(wrong.parse::<Checksum>(), Err(InvalidChecksum), "{wrong}");
        }
    }

    #[test]
    fn a_multipart_etag_is_the_md5_of_md5s() {
        let etags = [hex::encode(md5(b"one")), hex::encode(md5(b"two"))];
        let expected = hex::encode(md5(&[md5(b"one"), md5(b"two")].concat()));
        let etag = multipart_etag(etags.iter().map(String::as_str));
        assert_eq!(etag, Some(format!("{expected}-2")));
        assert_eq!(multipart_etag(["not-an-md5"].into_iter()), None);
    }
}
