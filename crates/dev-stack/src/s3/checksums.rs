//! The five checksums of the S3 protocol: what a client asked for, computing them while bytes pass, and joining
//! those of parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use s3s::crypto::{Checksum as _, Md5, Sha1, Sha256};
use serde::{Deserialize, Serialize};

/// One checksum algorithm, by the name S3 gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The CRC parameters and the width in bytes, for those that are CRCs.
    fn crc(self) -> Option<(CrcAlgorithm, usize)> {
        match self {
            Self::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
            Self::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
            Self::Crc64nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// Base64 values, as they travel in `x-amz-checksum-*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sums {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc32: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc64nvme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

impl Sums {
    pub(super) fn get(&self, algorithm: Algorithm) -> Option<&str> {
        match algorithm {
            Algorithm::Crc32 => self.crc32.as_deref(),
            Algorithm::Crc32c => self.crc32c.as_deref(),
            Algorithm::Crc64nvme => self.crc64nvme.as_deref(),
            Algorithm::Sha1 => self.sha1.as_deref(),
            Algorithm::Sha256 => self.sha256.as_deref(),
        }
    }

    pub(super) fn set(&mut self, algorithm: Algorithm, value: String) {
        *match algorithm {
            Algorithm::Crc32 => &mut self.crc32,
            Algorithm::Crc32c => &mut self.crc32c,
            Algorithm::Crc64nvme => &mut self.crc64nvme,
            Algorithm::Sha1 => &mut self.sha1,
            Algorithm::Sha256 => &mut self.sha256,
        } = Some(value);
    }

    /// The algorithms that have a value.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(|algorithm| self.get(*algorithm).is_some())
            .collect()
    }

    /// The first algorithm whose value here is not the one in `computed`.
    pub(super) fn mismatch(&self, computed: &Self) -> Option<Algorithm> {
        self.algorithms()
            .into_iter()
            .find(|algorithm| self.get(*algorithm) != computed.get(*algorithm))
    }
}

/// Reads the five fields `checksum_*` of a type of the protocol.
macro_rules! sums_of {
    ($input:expr) => {
        $crate::s3::checksums::Sums {
            crc32: $input.checksum_crc32.clone(),
            crc32c: $input.checksum_crc32c.clone(),
            crc64nvme: $input.checksum_crc64nvme.clone(),
            sha1: $input.checksum_sha1.clone(),
            sha256: $input.checksum_sha256.clone(),
        }
    };
}
pub(super) use sums_of;

/// Fills the five fields `checksum_*` of a type of the protocol.
macro_rules! put_sums {
    ($output:expr, $sums:expr) => {{
        let sums = &$sums;
        $output.checksum_crc32.clone_from(&sums.crc32);
        $output.checksum_crc32c.clone_from(&sums.crc32c);
        $output.checksum_crc64nvme.clone_from(&sums.crc64nvme);
        $output.checksum_sha1.clone_from(&sums.sha1);
        $output.checksum_sha256.clone_from(&sums.sha256);
    }};
}
pub(super) use put_sums;

/// Computes the MD5 and the wanted checksums in one pass.
pub(super) struct Hasher {
    md5: Md5,
    crcs: Vec<(Algorithm, crc_fast::Digest)>,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
}

impl Hasher {
    pub(super) fn new(wanted: &[Algorithm]) -> Self {
        Self {
            md5: Md5::new(),
            crcs: wanted
                .iter()
                .filter_map(|algorithm| Some((*algorithm, crc_fast::Digest::new(algorithm.crc()?.0))))
                .collect(),
            sha1: wanted.contains(&Algorithm::Sha1).then(Sha1::new),
            sha256: wanted.contains(&Algorithm::Sha256).then(Sha256::new),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        for (_, crc) in &mut self.crcs {
            crc.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    pub(super) fn finish(self) -> ([u8; 16], Sums) {
        let mut sums = Sums::default();
        for (algorithm, digest) in self.crcs {
            sums.set(algorithm, crc_base64(algorithm, digest.finalize()));
        }
        sums.sha1 = self.sha1.map(|sha1| BASE64.encode(sha1.finalize()));
        sums.sha256 = self.sha256.map(|sha256| BASE64.encode(sha256.finalize()));
        (self.md5.finalize(), sums)
    }
}

fn crc_base64(algorithm: Algorithm, value: u64) -> String {
    let width = algorithm.crc().map_or(8, |(_, width)| width);
    BASE64.encode(value.to_be_bytes().get(8 - width..).unwrap_or_default())
}

fn crc_value(base64: &str) -> Option<u64> {
    let bytes = BASE64.decode(base64).ok()?;
    bytes.iter().try_fold(0_u64, |value, byte| {
        value.checked_mul(256).map(|high| high | u64::from(*byte))
    })
}

/// The checksum of the whole object from those of its parts, each with its length in bytes. None for the SHAs,
/// which cannot be joined.
pub(crate) fn join_crcs<'a>(
    algorithm: Algorithm,
    parts: impl Iterator<Item = (Option<&'a str>, u64)>,
) -> Option<String> {
    let (crc, _) = algorithm.crc()?;
    let mut whole = crc_fast::Digest::new(crc).finalize();
    for (base64, size_bytes) in parts {
        whole = crc_fast::checksum_combine(crc, whole, crc_value(base64?)?, size_bytes);
    }
    Some(crc_base64(algorithm, whole))
}

/// The checksum of the parts' checksums, `-` and their number.
pub(crate) fn composite<'a>(
    algorithm: Algorithm,
    parts: impl Iterator<Item = Option<&'a str>>,
) -> Option<String> {
    let mut hasher = Hasher::new(&[algorithm]);
    let mut count = 0;
    for base64 in parts {
        hasher.update(&BASE64.decode(base64?).ok()?);
        count += 1;
    }
    let (_, sums) = hasher.finish();
    Some(format!("{}-{count}", sums.get(algorithm)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(bytes: &[u8]) -> Sums {
        let mut hasher = Hasher::new(&Algorithm::ALL);
        hasher.update(bytes);
        hasher.finish().1
    }

    #[test]
    fn known_values() {
        // The check value of each CRC's definition: over "123456789".
        let found = sums(b"123456789");
        let hex = |base64: &str| hex::encode(BASE64.decode(base64).unwrap());
        assert_eq!(hex(&found.crc32.unwrap()), "cbf43926");
        assert_eq!(hex(&found.crc32c.unwrap()), "e3069283");
        assert_eq!(hex(&found.crc64nvme.unwrap()), "ae8b14860a799888");
        assert_eq!(
            hex(&found.sha1.unwrap()),
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441"
        );
    }

    #[test]
    fn joined_crcs_are_those_of_the_whole() {
        let whole: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let (one, rest) = whole.split_at(7);
        let (two, three) = rest.split_at(200_001);
        let parts = [one, two, three].map(|part| (sums(part), part.len() as u64));
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme] {
            let joined = join_crcs(
                algorithm,
                parts.iter().map(|(sums, size)| (sums.get(algorithm), *size)),
            );
            assert_eq!(joined.as_deref(), sums(&whole).get(algorithm), "{algorithm:?}");
        }
        assert_eq!(join_crcs(Algorithm::Sha256, [].into_iter()), None);
    }
}
