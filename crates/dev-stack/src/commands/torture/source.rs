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

/// Fills `folder`. Blocks.
///
/// # Errors
/// When a file cannot be written; an odd name that the file system does not take is left out.
pub(super) fn generate(folder: &Path, files: usize, large_files: usize, dice: &mut StdRng) -> io::Result<()> {
    let mut content = Vec::new();
    for index in 0..files {
        let below = folder.join(format!("{:03}", index / FILES_PER_FOLDER));
        if index % FILES_PER_FOLDER == 0 {
            fs::create_dir_all(&below)?;
        }
        let size_bytes = match dice.random_range(0..100) {
            0..2 => 0,
            2..80 => dice.random_range(1..4096),
            80..98 => dice.random_range(4096..65_536),
            _ => dice.random_range(65_536..MIB),
        };
        fill(&mut content, size_bytes, dice);
        fs::write(below.join(format!("{index:05}.dat")), &content)?;
    }
    for index in 0..large_files {
        fill(&mut content, dice.random_range(12 * MIB..30 * MIB), dice);
        fs::write(folder.join(format!("large-{index}.bin")), &content)?;
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
