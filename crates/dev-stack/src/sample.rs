//! The demo's directory: thousands of files, nested, with the names and sizes that break careless programs.
//!
//! The same on every machine: names and contents come from a fixed sequence.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;

/// The one large file, so that a multipart upload is seen.
pub const LARGE_FILE_BYTES: u64 = 300 * 1024 * 1024;

const PLAIN_FOLDERS: u64 = 50;
const FILES_PER_FOLDER: u64 = 80;

/// Names that are hard to carry: in URLs, in XML, in shells, in logs.
const ODD_NAMES: &[&[u8]] = &[
    b"with space.txt",
    b" leading and trailing ",
    b"percent%20.txt",
    b"100%",
    b"plus+plus.txt",
    b"hash#tag.txt",
    b"question?mark&and=.txt",
    b"single'quote.txt",
    b"double\"quote.txt",
    b"back\\slash.txt",
    b"semi;colon,comma.txt",
    b"<angle>&amp;.xml",
    b"dollar$(sub)`tick`.txt",
    b"star*.txt",
    b"-dash-first",
    b"~tilde",
    b"line\nfeed.txt",
    b"tab\there.txt",
    "emoji-\u{1f680}\u{1f980}.txt".as_bytes(),
    "\u{65e5}\u{672c}\u{8a9e}.txt".as_bytes(),
    // The same name to the eye: composed, and decomposed.
    "caf\u{e9}.txt".as_bytes(),
    "cafe\u{301}.txt".as_bytes(),
    b"latin1-\xe9.txt",
    b"invalid-\xff\xfe",
    b".hidden",
    b"UPPER.TXT",
    b"upper.txt",
    b"a.very.many.dots...",
];

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub size_bytes: u64,
}

/// Fills `folder`, which must not be there yet or be empty. Blocks.
///
/// # Errors
/// When a file cannot be written; a name that the file system does not take is left out.
pub fn generate(folder: &Path, large_file_bytes: u64) -> anyhow::Result<Sample> {
    let mut writer = Writer {
        sequence: Sequence(0x5eed),
        sample: Sample::default(),
    };
    writer
        .fill(folder, large_file_bytes)
        .with_context(|| format!("cannot fill {}", folder.display()))?;
    Ok(writer.sample)
}

/// The few files of a development stack. Blocks.
///
/// # Errors
/// When a file cannot be written.
pub fn generate_small(folder: &Path) -> anyhow::Result<Sample> {
    let mut writer = Writer {
        sequence: Sequence(0x5eed),
        sample: Sample::default(),
    };
    let mut fill = || {
        fs::create_dir_all(folder.join("photos/2024"))?;
        for number in 1..=12 {
            writer.file(
                &folder.join(format!("photos/2024/IMG_{number:04}.jpg")),
                number * 37_000,
            )?;
        }
        writer.file(&folder.join("notes with spaces.txt"), 1200)?;
        writer.file(&folder.join("empty"), 0)?;
        writer.file(&folder.join("large.bin"), 20 * 1024 * 1024)
    };
    fill().with_context(|| format!("cannot fill {}", folder.display()))?;
    Ok(writer.sample)
}

struct Writer {
    sequence: Sequence,
    sample: Sample,
}

impl Writer {
    fn fill(&mut self, folder: &Path, large_file_bytes: u64) -> io::Result<()> {
        for number in 0..PLAIN_FOLDERS {
            let below = folder.join(format!("batch-{:02}/set-{}", number / 5, number % 5));
            fs::create_dir_all(&below)?;
            for file in 0..FILES_PER_FOLDER {
                // Most are small, a few are not: as real directories are.
                let size_bytes = match self.sequence.below(100) {
                    0..70 => self.sequence.below(8 * 1024),
                    70..95 => self.sequence.below(64 * 1024),
                    95..99 => self.sequence.below(512 * 1024),
                    _ => self.sequence.below(4 * 1024 * 1024),
                };
                self.file(&below.join(format!("item-{file:03}.dat")), size_bytes)?;
            }
        }
        let odd = folder.join("odd names");
        fs::create_dir_all(&odd)?;
        for name in ODD_NAMES {
            let size_bytes = self.sequence.below(2048);
            self.file_if_possible(&odd.join(OsStr::from_bytes(name)), size_bytes)?;
        }
        let longest = format!("{}.txt", "n".repeat(251));
        self.file_if_possible(&odd.join(longest), 255)?;
        self.file(&odd.join("empty"), 0)?;
        self.file(&odd.join("one byte"), 1)?;

        let hidden = folder.join(".hidden folder");
        fs::create_dir_all(&hidden)?;
        self.file(&hidden.join(".hidden too"), 77)?;
        let mut deep = folder.join("deep");
        for level in 0..30 {
            deep.push(format!("level {level}"));
        }
        fs::create_dir_all(&deep)?;
        self.file(&deep.join("bottom.txt"), 4096)?;
        self.file(&folder.join("large.bin"), large_file_bytes)
    }

    fn file_if_possible(&mut self, path: &Path, size_bytes: u64) -> io::Result<()> {
        match self.file(path, size_bytes) {
            // Some file systems take only valid Unicode.
            Err(error) if !matches!(error.kind(), io::ErrorKind::StorageFull) && !path.exists() => Ok(()),
            result => result,
        }
    }

    fn file(&mut self, path: &Path, size_bytes: u64) -> io::Result<()> {
        let mut file = File::create(path)?;
        let mut buffer = vec![0; usize::try_from(size_bytes.min(1024 * 1024)).unwrap_or_default()];
        let mut left = size_bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.sequence.fill(&mut buffer);
            file.write_all(buffer.get(..length).unwrap_or_default())?;
            left -= length as u64;
        }
        self.sample.files += 1;
        self.sample.size_bytes += size_bytes;
        Ok(())
    }
}

/// SplitMix64: fast, and the same everywhere.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(bytes.get(..chunk.len()).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(folder: &Path) -> (u64, u64) {
        fs::read_dir(folder)
            .unwrap()
            .fold((0, 0), |(files, size_bytes), entry| {
                let entry = entry.unwrap();
                let (more, bytes) = if entry.file_type().unwrap().is_dir() {
                    count(&entry.path())
                } else {
                    (1, entry.metadata().unwrap().len())
                };
                (files + more, size_bytes + bytes)
            })
    }

    #[test]
    fn it_is_what_it_says_and_always_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = generate(one.path(), 3 * 1024 * 1024 + 1).unwrap();
        assert_eq!(count(one.path()), (made.files, made.size_bytes));
        assert_eq!(generate(other.path(), 3 * 1024 * 1024 + 1).unwrap(), made);
        assert!(made.files > 4000, "{made:?}");
        for name in ["large.bin", "odd names/100%", "batch-07/set-3/item-042.dat"] {
            let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(read(one.path()), read(other.path()));
        }
        let large = fs::read(one.path().join("large.bin")).unwrap();
        assert_ne!(
            large.get(..1024),
            large.get(1024 * 1024..1024 * 1025),
            "the contents repeat"
        );
    }
}
