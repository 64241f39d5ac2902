//! Python with packages from PyPI, in virtual environments of our own, for clients and servers that are not ours.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::cache;

/// A Python that has `packages` (as `pip` takes them: `boto3`, `moto[server]==5.1.0`).
///
/// The environment is made once for each set of packages and kept in the build's target folder; processes that
/// need it at the same time wait for the first.
///
/// # Errors
/// When there is no `python3` with `venv`, or the packages cannot be had.
pub async fn with_packages(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let name = packages.join(" ");
    let folder = cache::folder()?.join(format!("python-{}", cache::digest(&name)));
    let python = folder.join("bin/python");
    let _lock = cache::lock(&format!("python-{}", cache::digest(&name))).await?;
    // Written last: an environment without it is a half-made one.
    let complete = folder.join("complete");
    if complete.exists() && python.exists() {
        return Ok(python);
    }
    if folder.exists() {
        tokio::fs::remove_dir_all(&folder).await?;
    }
    let made = run(Path::new("python3"), &["-m", "venv", &folder.to_string_lossy()]).await;
    made.context("python3 with its venv module is needed (Debian: apt-get install python3-venv)")?;
    let mut arguments = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    arguments.extend(packages);
    run(&python, &arguments)
        .await
        .with_context(|| format!("cannot install {name} from PyPI"))?;
    tokio::fs::write(complete, name).await?;
    Ok(python)
}

async fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .await
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
