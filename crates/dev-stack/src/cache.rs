//! Where things that are expensive to make are kept between runs, and the locks that let one process make them.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context as _;
use s3s::crypto::{Checksum as _, Sha256};

/// `dev-stack` in the build's target folder, found from where this program lies in it; made if missing.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let folder = target_folder()?.join("dev-stack");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    // target/debug/dev-stack, or target/debug/deps/it-0123456789abcdef for a test.
    let profile = bin_folder_of(&program).context("this program lies in no folder")?;
    let target = profile
        .parent()
        .context("this program lies in no target folder")?;
    Ok(target.to_path_buf())
}

/// The folder with the binaries that were built along with this program.
///
/// # Errors
/// When it cannot be told where this program lies.
pub fn bin_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    bin_folder_of(&program).context("this program lies in no folder")
}

fn bin_folder_of(program: &std::path::Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.parent().map(PathBuf::from)
    } else {
        Some(folder.to_path_buf())
    }
}

/// A short name for a text, as part of a file name.
pub(crate) fn digest(text: &str) -> String {
    hex::encode(Sha256::checksum(text.as_bytes()))
        .chars()
        .take(16)
        .collect()
}

/// Waits until no other process holds the lock `name`; it is free again when the file is dropped.
pub(crate) async fn lock(name: &str) -> anyhow::Result<File> {
    let path = folder()?.join(format!("{name}.lock"));
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).append(true).open(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    Ok(lock.await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_from_tests_too() {
        for (program, folder) in [
            ("/t/debug/dev-stack", "/t/debug"),
            ("/t/debug/deps/it-0123", "/t/debug"),
            ("/t/release/examples/x", "/t/release"),
        ] {
            assert_eq!(bin_folder_of(program.as_ref()), Some(PathBuf::from(folder)));
        }
    }
}
