//! A disk that gives errors, for programs of our choice: see `faulty_disk.c`, which is compiled where it is used.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

const SOURCE: &str = include_str!("faulty_disk.c");
/// The exit code of a launcher that the system does not let work.
const NOT_HERE: i32 = 77;

/// Compiles the launcher into `folder`: put before a program and its arguments, it lets their reads fail by the
/// names of the files. `None`, with a word on stderr, where the system does not allow it. Blocks.
///
/// # Errors
/// When it cannot be compiled.
pub fn launcher(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let (source, program) = (folder.join("faulty-disk.c"), folder.join("faulty-disk"));
    std::fs::write(&source, SOURCE).with_context(|| format!("cannot write {}", source.display()))?;
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &source])
        .output()
        .context("cannot run cc, the C compiler")?;
    if !compiled.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&compiled.stderr));
    }
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
