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
use storage::{Checksum, EtagHasher, Hasher};

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

/// What is recorded of a file's bytes.
enum Recorded {
    /// The checksum of all bytes.
    Whole(Checksum),
    /// The checksum of its parts' checksums, and how large they were as far as the settings of the session tell: a
    /// worker with little memory makes smaller ones, and an earlier session may have had others.
    Parts { checksum: Checksum, size_bytes: u64 },
    /// No checksum, but an `ETag` that may be the MD5 of all bytes.
    Etag(String),
}

impl Recorded {
    /// Of a file; `part_size_bytes` is what its session was set to. The words say why it cannot be compared.
    fn of(file: &RecordedFile, part_size_bytes: u64) -> Result<Self, String> {
        let Some(text) = file.checksum.as_deref() else {
            return match &file.etag {
                Some(etag) if etag.len() == 32 => Ok(Self::Etag(etag.clone())),
                _ => Err("no checksum is recorded; only its size was compared".to_owned()),
            };
        };
        if i64::try_from(file.size_bytes).is_err() {
            return Err(format!("no file has {} bytes", file.size_bytes));
        }
        let (text, count) = match text.rsplit_once('-') {
            Some((text, count)) => (text, Some(count)),
            None => (text, None),
        };
        let unknown = |_| "its checksum is of a kind that this version does not know".to_owned();
        let checksum: Checksum = text.parse().map_err(unknown)?;
        let Some(count) = count else {
            return Ok(Self::Whole(checksum));
        };
        let count: u64 = count
            .parse()
            .map_err(|_| "its checksum does not tell its parts".to_owned())?;
        // Of the parts' CRCs, only that of all bytes can be worked out here.
        if !Checksum::combine_parts(checksum.kind, &[]).1 {
            return Err("its checksum is one of the parts' CRCs, which cannot be compared".to_owned());
        }
        let settings = SessionSettings {
            part_size_bytes: part_size_bytes.max(1),
            ..SessionSettings::default()
        };
        let size_bytes = match count {
            1 => file.size_bytes.max(1),
            _ => settings.part_size_for(file.size_bytes),
        };
        if file.size_bytes.div_ceil(size_bytes).max(1) != count {
            return Err(format!(
                "it was sent in {count} parts of a size that is not recorded"
            ));
        }
        Ok(Self::Parts { checksum, size_bytes })
    }
}

/// Bytes that come piece by piece, and what they should be.
enum Comparing {
    Whole(Checksum, Hasher),
    Parts(Checksum, PartHasher),
    Etag(String, EtagHasher),
}

impl From<Recorded> for Comparing {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Whole(checksum) => {
                let hasher = Hasher::new(checksum.kind);
                Self::Whole(checksum, hasher)
            }
            Recorded::Parts { checksum, size_bytes } => {
                let hasher = PartHasher::new(checksum.kind, size_bytes);
                Self::Parts(checksum, hasher)
            }
            Recorded::Etag(etag) => Self::Etag(etag, EtagHasher::default()),
        }
    }
}

impl Comparing {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Whole(_, hasher) => hasher.update(bytes),
            Self::Parts(_, hasher) => hasher.update(bytes),
            Self::Etag(_, hasher) => hasher.update(bytes),
        }
    }

    /// What all the bytes compare as. Only where nothing but other bytes explains it are they different.
    fn finish(self) -> Finding {
        let (is_same, count) = match self {
            Self::Whole(recorded, hasher) => (hasher.finish() == recorded, 1),
            Self::Parts(recorded, hasher) => {
                let parts = hasher.finish();
                let checksum = Checksum::combine_parts(recorded.kind, &parts).0;
                (checksum == recorded, parts.len())
            }
            Self::Etag(etag, hasher) => {
                let unchecked = "no checksum is recorded, and the object's ETag is not the MD5 of the bytes";
                return if hasher.is(&etag) {
                    Finding::Same
                } else {
                    Finding::Unchecked(unchecked.to_owned())
                };
            }
        };
        match (is_same, count) {
            (true, _) => Finding::Same,
            (false, 1) => Finding::Different("it has other bytes".to_owned()),
            (false, _) => Finding::Unchecked(format!(
                "it has other bytes, or was sent in {count} parts of another size than the settings tell"
            )),
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
        let compare = |bytes: &[u8], size_bytes| {
            let checksum = composite.clone();
            let mut comparing = Comparing::from(Recorded::Parts { checksum, size_bytes });
            comparing.update(bytes);
            comparing.finish()
        };
        assert_eq!(compare(&bytes, 10), Finding::Same);
        // As many parts of another size, or other bytes: that cannot be told.
        assert!(matches!(compare(&bytes, 11), Finding::Unchecked(_)));
        assert!(matches!(compare(&bytes[1..], 10), Finding::Unchecked(_)));
    }

    #[test]
    fn one_part_is_the_whole() {
        let whole = Hasher::of(ChecksumKind::Sha256, b"whole");
        let checksum = Checksum::combine_parts(ChecksumKind::Sha256, &[(whole, 5)]).0;
        for (bytes, is_same) in [(b"whole", true), (b"other", false)] {
            let recorded = Recorded::of(&file(5, &format!("{checksum}-1")), 1).unwrap();
            let mut comparing = Comparing::from(recorded);
            comparing.update(bytes);
            match comparing.finish() {
                Finding::Same => assert!(is_same),
                Finding::Different(_) => assert!(!is_same),
                finding => panic!("{finding:?}"),
            }
        }
    }

    #[test]
    fn an_etag_proves_the_same_bytes_and_no_others() {
        let md5_of_hello = "5d41402abc4b2a76b9719d911017c592";
        let of = |etag: &str| {
            let file = RecordedFile {
                checksum: None,
                etag: Some(etag.to_owned()),
                ..file(5, "")
            };
            Recorded::of(&file, 1)
        };
        for (bytes, is_same) in [(b"hello", true), (b"jello", false)] {
            let mut comparing = Comparing::from(of(md5_of_hello).unwrap());
            comparing.update(bytes);
            match comparing.finish() {
                Finding::Same => assert!(is_same),
                Finding::Unchecked(_) => assert!(!is_same),
                finding => panic!("{finding:?}"),
            }
        }
        assert!(of("5d41402abc4b2a76b9719d911017c592-2").is_err());
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
        let cut = |file: &RecordedFile| match Recorded::of(file, 5 * mib)? {
            Recorded::Parts { size_bytes, .. } => Ok::<_, String>(size_bytes),
            _ => panic!("of parts"),
        };
        assert_eq!(cut(&composite(12 * mib, 3)), Ok(5 * mib));
        assert_eq!(cut(&composite(3, 1)), Ok(3));
        // Grown, so that 10,000 parts suffice.
        assert_eq!(cut(&composite(5 * mib * 10_000 + 1, 8334)), Ok(6 * mib));
        assert!(cut(&composite(12 * mib, 2)).is_err());
        assert!(cut(&file(3, "md5:AAAA")).is_err());
        assert!(cut(&file(12 * mib, "crc32c:4waSgw==-3")).is_err());
        // No size makes it stumble.
        for size_bytes in [u64::MAX, 1 << 63] {
            assert!(cut(&composite(size_bytes, 10_000)).is_err());
        }
        assert!(cut(&composite(0, 1)).is_ok());
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
