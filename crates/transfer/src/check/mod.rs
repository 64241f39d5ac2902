//! The other way round: does a directory, or a bucket, hold what was recorded? Nothing is changed in either.
//!
//! What is found equal was compared by its recorded checksum; the store is taken at its word about its own, unless the
//! object is to be read. What cannot be compared is said to be unchecked, never the same.

mod directory;
mod object;

pub use directory::Directory;
pub use object::{BucketAddress, ObjectStore};

use domain::object_key::PathText;
use domain::{ChecksumKind, SessionSettings};
use storage::{Checksum, Hasher};

/// A file as it was recorded.
#[derive(Clone, Debug)]
pub struct RecordedFile {
    /// Its path below the source.
    pub path: PathText,
    /// Its object's key.
    pub key: String,
    /// In bytes.
    pub size_bytes: u64,
    /// `kind:base64`, with `-{parts}` behind it where it is one of the parts' checksums.
    pub checksum: Option<String>,
    /// As the store gave it.
    pub etag: Option<String>,
}

/// How a file compares with what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The same bytes.
    Same,
    /// It is not there.
    Missing,
    /// Other bytes, in words.
    Different(String),
    /// It could not be compared, in words.
    Unchecked(String),
}

/// A checksum as it is recorded, and how its file was cut where it is one of the parts' checksums.
struct Recorded {
    checksum: Checksum,
    /// The size of the parts in bytes, and how many they are.
    parts: Option<(u64, u64)>,
}

impl Recorded {
    /// Of a file; `part_size_bytes` is what its session was set to. The words say why not.
    fn of(file: &RecordedFile, part_size_bytes: u64) -> Result<Self, String> {
        let text = file.checksum.as_deref().ok_or("no checksum is recorded")?;
        let (text, count) = match text.rsplit_once('-') {
            Some((text, count)) => (text, Some(count)),
            None => (text, None),
        };
        let unknown = |_| "its checksum is of a kind that this version does not know".to_owned();
        let checksum: Checksum = text.parse().map_err(unknown)?;
        let Some(count) = count else {
            return Ok(Self {
                checksum,
                parts: None,
            });
        };
        let count: u64 = count
            .parse()
            .map_err(|_| "its checksum does not tell its parts".to_owned())?;
        let settings = SessionSettings {
            part_size_bytes: part_size_bytes.max(1),
            ..SessionSettings::default()
        };
        let size_bytes = match count {
            1 => file.size_bytes.max(1),
            _ => settings.part_size_for(file.size_bytes),
        };
        if file.size_bytes.div_ceil(size_bytes).max(1) != count {
            // Its upload was begun when it had another size, and gone on with.
            return Err(format!(
                "it was sent in {count} parts of a size that is not recorded"
            ));
        }
        Ok(Self {
            checksum,
            parts: Some((size_bytes, count)),
        })
    }

    fn kind(&self) -> ChecksumKind {
        self.checksum.kind
    }

    /// How the bytes are cut to be hashed; `size_bytes` are all of them.
    fn cut_bytes(&self, size_bytes: u64) -> u64 {
        self.parts.map_or(size_bytes.max(1), |(size_bytes, _)| size_bytes)
    }

    /// What bytes with these hashes, cut so, compare as.
    fn compare(&self, parts: &[(Checksum, u64)]) -> Finding {
        let same = match (self.parts, parts) {
            (None, [(whole, _)]) => *whole == self.checksum,
            _ => Checksum::combine_parts(self.kind(), parts).0 == self.checksum,
        };
        if same {
            Finding::Same
        } else {
            Finding::Different("it has other bytes".to_owned())
        }
    }
}

/// Another size than was recorded, in words.
fn other_size(found: u64, recorded: u64) -> Finding {
    Finding::Different(format!("it has {found} bytes, and {recorded} were delivered"))
}

/// Hashes bytes that come piece by piece, cut into parts of one size.
struct PartHasher {
    kind: ChecksumKind,
    cut_bytes: u64,
    hasher: Hasher,
    filled_bytes: u64,
    parts: Vec<(Checksum, u64)>,
}

impl PartHasher {
    fn new(kind: ChecksumKind, cut_bytes: u64) -> Self {
        Self {
            kind,
            cut_bytes,
            hasher: Hasher::new(kind),
            filled_bytes: 0,
            parts: Vec::new(),
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled_bytes == self.cut_bytes {
                self.close();
            }
            let room = usize::try_from(self.cut_bytes - self.filled_bytes).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.hasher.update(now);
            self.filled_bytes += now.len() as u64;
            bytes = later;
        }
    }

    fn close(&mut self) {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.kind));
        self.parts.push((hasher.finish(), self.filled_bytes));
        self.filled_bytes = 0;
    }

    fn finish(mut self) -> Vec<(Checksum, u64)> {
        self.close();
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size_bytes: u64, checksum: &str) -> RecordedFile {
        RecordedFile {
            path: PathText::from_bytes(b"a"),
            key: "a".into(),
            size_bytes,
            checksum: Some(checksum.into()),
            etag: None,
        }
    }

    #[test]
    fn parts_are_cut_as_they_were_sent() {
        let bytes: Vec<u8> = (0..23_u8).collect();
        let parts: Vec<(Checksum, u64)> = bytes
            .chunks(10)
            .map(|part| (Hasher::of(ChecksumKind::Sha256, part), part.len() as u64))
            .collect();
        let composite = Checksum::combine_parts(ChecksumKind::Sha256, &parts).0;
        for piece in [1, 7, 10, 23] {
            let mut hasher = PartHasher::new(ChecksumKind::Sha256, 10);
            bytes.chunks(piece).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), parts);
        }
        let recorded = Recorded {
            checksum: composite.clone(),
            parts: Some((10, 3)),
        };
        assert_eq!(recorded.compare(&parts), Finding::Same);
        assert!(matches!(recorded.compare(&parts[..2]), Finding::Different(_)));
    }

    #[test]
    fn the_size_of_parts_follows_from_the_settings() {
        let composite = |size_bytes, count: u64| {
            file(
                size_bytes,
                &format!("{}-{count}", Hasher::of(ChecksumKind::Sha256, b"x")),
            )
        };
        let mib = 1 << 20;
        let cut = |file: &RecordedFile| Recorded::of(file, 5 * mib).map(|recorded| recorded.parts);
        assert_eq!(cut(&composite(12 * mib, 3)), Ok(Some((5 * mib, 3))));
        assert_eq!(cut(&composite(3, 1)), Ok(Some((3, 1))));
        // Grown, so that 10,000 parts suffice.
        assert_eq!(
            cut(&composite(5 * mib * 10_000 + 1, 8334)),
            Ok(Some((6 * mib, 8334)))
        );
        assert!(cut(&composite(12 * mib, 2)).is_err());
        assert!(cut(&file(3, "md5:AAAA")).is_err());
        assert!(
            Recorded::of(
                &RecordedFile {
                    checksum: None,
                    ..file(3, "")
                },
                mib
            )
            .is_err()
        );
    }
}
