//! Compiling the few lines of C that play faults at system calls.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Compiles `source` to `output`; the source stays beside it. Blocks.
pub(crate) fn compile(source: &str, flags: &[&str], output: &Path) -> anyhow::Result<()> {
    let path = output.with_extension("c");
    std::fs::write(&path, source).with_context(|| format!("cannot write {}", path.display()))?;
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .args([output, &path])
        .output()
        .context("cannot run cc, the C compiler")?;
    if !compiled.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&compiled.stderr));
    }
    Ok(())
}
