//! A clock that is set wrong, for programs of our choice: see `shifted_clock.c`, which is compiled where it is used.

use std::path::{Path, PathBuf};

use crate::compile::compile;

/// Compiles the library into `folder`. Blocks.
///
/// # Errors
/// When it cannot be compiled.
pub fn library(folder: &Path) -> anyhow::Result<PathBuf> {
    let library = folder.join("shifted-clock.so");
    compile(include_str!("shifted_clock.c"), &["-shared", "-fPIC"], &library)?;
    Ok(library)
}

/// The variables that let the clock of a program be ahead by so many seconds, or behind.
pub fn variables(library: &Path, ahead_s: i64) -> [(&'static str, String); 2] {
    [
        ("LD_PRELOAD", library.display().to_string()),
        ("SHIFTED_CLOCK_S", ahead_s.to_string()),
    ]
}
