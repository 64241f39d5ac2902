//! What is kept of a stack between runs.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::secrets;

/// Secrets that sealed what is stored, and ports that stored projects and people refer to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) s3_access_key_id: String,
    pub(super) s3_secret_access_key: String,
    /// 0 before the first start.
    pub(super) s3_port: u16,
    /// 0 before the first start.
    pub(super) gateway_port: u16,
    pub(super) secrets_key: String,
    pub(super) admin_password: String,
}

impl Kept {
    /// Reads `keys.json`, or makes new secrets and the signing key `jwt.pem` beside them.
    pub(super) fn load_or_make(dir: &Path) -> anyhow::Result<Self> {
        if let Ok(text) = std::fs::read(dir.join("keys.json")) {
            return serde_json::from_slice(&text).context("keys.json is damaged");
        }
        write_private(&dir.join("jwt.pem"), &secrets::signing_key_pem()?)?;
        let kept = Self {
            s3_access_key_id: format!("dev{}", secrets::password()),
            s3_secret_access_key: secrets::password() + &secrets::password(),
            s3_port: 0,
            gateway_port: 0,
            secrets_key: secrets::secrets_key(),
            admin_password: secrets::password(),
        };
        kept.save(dir)?;
        Ok(kept)
    }

    pub(super) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        write_private(&dir.join("keys.json"), &serde_json::to_string_pretty(self)?)
    }
}

/// Writes a file that only we may read.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, contents: &str) -> anyhow::Result<()> {
    let open = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = open.and_then(|mut file| file.write_all(contents.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
