//! The data sets: the same bytes on every machine, which no compression shrinks, in folders of at most 1,000 files.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use crc_fast::{CrcAlgorithm, Digest};

const FILES_PER_FOLDER: usize = 1_000;
/// What a file takes on the disk at least.
const BLOCK_BYTES: u64 = 4096;
const PIECE_BYTES: usize = 256 * 1024;

/// The name of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(crate) enum SetName {
    /// 20,000 files of 4 KiB
    A,
    /// 1,000 files of 1 MiB
    B,
    /// 2 files of 2 GiB
    C,
    /// 1,000,000 files of 100 bytes
    D,
    /// 64 files of 2 GiB, all of them holes
    E,
}

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataSet {
    pub(super) name: SetName,
    pub(super) files: usize,
    pub(super) file_bytes: u64,
}

/// Size and CRC-64/NVME of each file, by its path below the set's folder.
pub(super) type Expected = HashMap<String, (u64, u64)>;

impl DataSet {
    /// The set of this name, at its full size or at one that only shows that everything works.
    pub(super) fn new(name: SetName, files_d: usize, is_small: bool) -> Self {
        let (files, file_bytes) = match (name, is_small) {
            (SetName::A, false) => (20_000, 4 << 10),
            (SetName::A, true) => (300, 4 << 10),
            (SetName::B, false) => (1_000, 1 << 20),
            (SetName::B, true) => (20, 1 << 20),
            (SetName::C, false) => (2, 2 << 30),
            (SetName::C, true) => (2, 24 << 20),
            (SetName::D, false) => (files_d, 100),
            (SetName::D, true) => (files_d.min(500), 100),
            (SetName::E, false) => (64, 2 << 30),
            (SetName::E, true) => (4, 24 << 20),
        };
        Self {
            name,
            files,
            file_bytes,
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.files as u64 * self.file_bytes
    }

    /// What its files take on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let file_bytes = if self.is_hollow() { 0 } else { self.file_bytes };
        self.files as u64 * file_bytes.next_multiple_of(BLOCK_BYTES)
    }

    /// Whether its files are holes: for what has to be large, and need not be on a disk.
    fn is_hollow(&self) -> bool {
        self.name == SetName::E
    }

    /// The name of its folder.
    pub(super) fn folder(&self) -> &'static str {
        match self.name {
            SetName::A => "A",
            SetName::B => "B",
            SetName::C => "C",
            SetName::D => "D",
            SetName::E => "E",
        }
    }

    /// The path of a file below the set's folder.
    fn path(index: usize) -> String {
        format!("{:04}/{index:07}.bin", index / FILES_PER_FOLDER)
    }

    /// Writes its files. Blocks.
    pub(super) fn generate(&self, root: &Path) -> anyhow::Result<()> {
        let folder = root.join(self.folder());
        for index in 0..self.files {
            let path = folder.join(Self::path(index));
            if index % FILES_PER_FOLDER == 0 {
                make_folder(&path)?;
            }
            self.write(index, &path)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        // What is still to be written would be written while something is measured.
        rustix::fs::sync();
        Ok(())
    }

    fn write(&self, index: usize, path: &Path) -> io::Result<()> {
        let mut sequence = Sequence::of(self.name, index);
        let mut file = File::create_new(path)?;
        if self.is_hollow() {
            return file.set_len(self.file_bytes);
        }
        let mut left = self.file_bytes;
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while left > 0 {
            let count = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            piece.clear();
            while piece.len() < count {
                piece.extend_from_slice(&sequence.next().to_le_bytes());
            }
            piece.truncate(count);
            file.write_all(&piece)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Reads every file, so that all of them are in the page cache, and tells what they hold. Blocks.
    pub(super) fn read(&self, root: &Path) -> anyhow::Result<Expected> {
        let folder = root.join(self.folder());
        let mut piece = vec![0; PIECE_BYTES];
        let mut expected = Expected::with_capacity(self.files);
        let mut of_a_hole = None;
        for index in 0..self.files {
            let path = Self::path(index);
            let content = match of_a_hole {
                Some(content) => content,
                None => read_file(&folder.join(&path), &mut piece)?,
            };
            of_a_hole = self.is_hollow().then_some(content);
            expected.insert(path, content);
        }
        Ok(expected)
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, files) = (self.folder(), grouped(self.files as u64));
        write!(f, "{folder}: {files} x {}", binary_size(self.file_bytes))
    }
}

/// A number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the largest unit that leaves it whole.
pub(super) fn binary_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    units
        .into_iter()
        .find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes} B"),
            |(shift, unit)| format!("{} {unit}", bytes >> shift),
        )
}

/// The size and the CRC-64/NVME of a file.
fn read_file(path: &Path, piece: &mut [u8]) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut size_bytes = 0;
    loop {
        let count = file.read(piece)?;
        if count == 0 {
            return Ok((size_bytes, digest.finalize()));
        }
        digest.update(piece.get(..count).unwrap_or_default());
        size_bytes += count as u64;
    }
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Whoever sends the files may be another account than we.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Says what the sets need, one at a time, and fails when `folder` has no room for it.
pub(super) fn check_room(sets: &[DataSet], reserve_bytes: u64, folder: &Path) -> anyhow::Result<()> {
    let largest = sets.iter().map(DataSet::disk_bytes).max().unwrap_or_default();
    let files = sets.iter().map(|set| set.files as u64).max().unwrap_or_default();
    let needed = largest + reserve_bytes;
    let room = rustix::fs::statvfs(folder)?;
    let free = room.f_bavail * room.f_frsize;
    let mib = |bytes: u64| grouped(bytes.div_ceil(1 << 20));
    super::step(&format!(
        "{} MiB and {} files are needed in {}, {} MiB are free there",
        mib(needed),
        grouped(files),
        folder.display(),
        mib(free)
    ));
    if free < needed {
        bail!(
            "there is not enough room in {}: name another folder with --dir",
            folder.display()
        );
    }
    // File systems that make inodes as they need them tell of none.
    if room.f_files > 0 && room.f_favail < files + files / 100 {
        bail!("the file system of {} has too few inodes left", folder.display());
    }
    Ok(())
}

/// `SplitMix64`: fast, and its bytes do not compress.
struct Sequence(u64);

impl Sequence {
    fn of(set: SetName, index: usize) -> Self {
        let mut seed = Self(set as u64 + 1);
        Self(seed.next() ^ (index as u64).wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_the_same_every_time_and_no_two_files_are_alike() {
        let set = DataSet::new(SetName::D, 1_500, false);
        let read = |set: &DataSet| {
            let folder = tempfile::tempdir().unwrap();
            set.generate(folder.path()).unwrap();
            let expected = set.read(folder.path()).unwrap();
            let folders = fs::read_dir(folder.path().join(set.folder())).unwrap().count();
            (expected, folders)
        };
        let (expected, folders) = read(&set);
        assert_eq!((expected.len(), folders), (1_500, 2));
        assert!(expected.values().all(|(size, _)| *size == 100));
        let distinct: std::collections::HashSet<u64> = expected.values().map(|(_, crc)| *crc).collect();
        assert_eq!(distinct.len(), 1_500);
        assert_eq!(read(&set).0, expected);
    }

    #[test]
    fn sets_are_named_by_what_is_in_them() {
        let name = |name| DataSet::new(name, 1_000_000, false).to_string();
        assert_eq!(name(SetName::A), "A: 20,000 x 4 KiB");
        assert_eq!(name(SetName::B), "B: 1,000 x 1 MiB");
        assert_eq!(name(SetName::C), "C: 2 x 2 GiB");
        assert_eq!(name(SetName::D), "D: 1,000,000 x 100 B");
        assert_eq!(DataSet::new(SetName::D, 1_000, false).disk_bytes(), 4_096_000);
    }

    #[test]
    fn too_little_room_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let set = DataSet::new(SetName::A, 0, true);
        check_room(&[set], 0, folder.path()).unwrap();
        let error = check_room(&[set], 1 << 60, folder.path()).unwrap_err();
        assert!(error.to_string().contains("not enough room"), "{error}");
    }
}
