//! Python with packages from PyPI, in virtual environments of our own, for clients and servers that are not ours.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::cache;

const PYTHON: &str = "bin/python";
/// Written last: an environment without it is a half-made one.
const COMPLETE: &str = "complete";

/// A Python that has `packages` (as `pip` takes them: `boto3`, `moto[server]==5.1.0`).
///
/// The environment is made once for each set of packages and kept in the build's target folder; processes that
/// need it at the same time wait for the first.
///
/// # Errors
/// When there is no `python3` with `venv`, or the packages cannot be had.
pub async fn with_packages(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let name = packages.join(" ");
    let folder = folder(&name)?;
    let _lock = cache::lock(&format!("python-{}", cache::digest(&name))).await?;
    if let Some(python) = made_already(&folder) {
        return Ok(python);
    }
    let python = folder.join(PYTHON);
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
    tokio::fs::write(folder.join(COMPLETE), name).await?;
    Ok(python)
}

/// A Python that has `packages`, if one was made before.
///
/// # Errors
/// When it cannot be told where they are kept.
pub fn already_with_packages(packages: &[&str]) -> anyhow::Result<Option<PathBuf>> {
    Ok(made_already(&folder(&packages.join(" "))?))
}

fn folder(name: &str) -> anyhow::Result<PathBuf> {
    Ok(cache::folder()?.join(format!("python-{}", cache::digest(name))))
}

fn made_already(folder: &Path) -> Option<PathBuf> {
    let python = folder.join(PYTHON);
    (folder.join(COMPLETE).exists() && python.exists()).then_some(python)
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
