//! A disk that gives errors, for programs of our choice: see `faulty_disk.c`, which is compiled where it is used.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::compile::compile;

/// Names, for a program started by the launcher, the file that makes its disk full while it is there.
pub(crate) const FULL_VARIABLE: &str = "FAULTY_DISK_FULL";
/// The exit code of a launcher that the system does not let work.
const NOT_HERE: i32 = 77;

/// Compiles the launcher into `folder`: put before a program and its arguments, it lets their reads fail by the
/// names of the files, or their disk be full. `None`, with a word on stderr, where the system does not allow it. Blocks.
///
/// # Errors
/// When it cannot be compiled.
pub fn launcher(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let program = folder.join("faulty-disk");
    compile(include_str!("faulty_disk.c"), &[], &program)?;
    let tried = Command::new(&program).arg("true").status()?;
    match tried.code() {
        Some(0) => Ok(Some(program)),
        Some(NOT_HERE) => {
            eprintln!("this system lets nobody play a faulty disk: what depends on it is left out");
            Ok(None)
        }
        _ => bail!("{} ended with {tried}", program.display()),
    }
}
