//! Directories to upload: many small files, some large ones, names that are hard to carry, a link.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};

const MIB: usize = 1 << 20;
const FILES_PER_FOLDER: usize = 120;

/// Names that are hard to carry: in URLs, in XML, in logs, in what is no text.
const ODD_NAMES: &[&[u8]] = &[
    b"with space +&#?.txt",
    b" outer blanks ",
    b"100%",
    b"percent%20.txt",
    b"quotes'\"`$(x).txt",
    b"back\\slash;semi,colon",
    b"<angle>&amp;.xml",
    b"line\nfeed.txt",
    b"tab\tand 5%",
    b"latin1-\xe9.txt",
    b"invalid-\xff\xfe",
    b".hidden",
    "emoji-\u{1f680}.txt".as_bytes(),
    // The same name to the eye: composed, and decomposed.
    "caf\u{e9}".as_bytes(),
    "cafe\u{301}".as_bytes(),
];

/// How many files of which kind, besides the odd ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) files: usize,
    pub(super) large_files: usize,
}

impl Shape {
    /// The path of one of its files below the source; a large one every fourth time.
    pub(super) fn any_file(self, dice: &mut StdRng) -> String {
        if dice.random_bool(0.25) {
            large_name(dice.random_range(0..self.large_files))
        } else {
            small_name(dice.random_range(0..self.files))
        }
    }
}

fn small_name(index: usize) -> String {
    format!("{:03}/{index:05}.dat", index / FILES_PER_FOLDER)
}

fn large_name(index: usize) -> String {
    format!("large-{index}.bin")
}

/// Fills `folder`. Blocks.
///
/// # Errors
/// When a file cannot be written; an odd name that the file system does not take is left out.
pub(super) fn generate(folder: &Path, shape: Shape, dice: &mut StdRng) -> io::Result<()> {
    let mut content = Vec::new();
    for index in 0..shape.files {
        let path = folder.join(small_name(index));
        if index % FILES_PER_FOLDER == 0 {
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
        }
        let size_bytes = match dice.random_range(0..100) {
            0..2 => 0,
            2..80 => dice.random_range(1..4096),
            80..98 => dice.random_range(4096..65_536),
            _ => dice.random_range(65_536..MIB),
        };
        fill(&mut content, size_bytes, dice);
        fs::write(path, &content)?;
    }
    for index in 0..shape.large_files {
        fill(&mut content, dice.random_range(12 * MIB..30 * MIB), dice);
        fs::write(folder.join(large_name(index)), &content)?;
    }
    let odd = folder.join("odd names");
    fs::create_dir_all(&odd)?;
    for name in ODD_NAMES {
        fill(&mut content, dice.random_range(0..2048), dice);
        let path = odd.join(OsStr::from_bytes(name));
        match fs::write(&path, &content) {
            // Some file systems take only valid Unicode.
            Err(error) if error.kind() != io::ErrorKind::StorageFull && !path.exists() => {}
            written => written?,
        }
    }
    std::os::unix::fs::symlink("../large-0.bin", odd.join("link"))
}

fn fill(content: &mut Vec<u8>, size_bytes: usize, dice: &mut StdRng) {
    content.resize(size_bytes, 0);
    dice.fill_bytes(content);
}
