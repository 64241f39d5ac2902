//! Making an empty cluster and its passwords.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::installation::Programs;
use crate::process::Account;
use crate::stack::write_private;

/// The passwords of the three logins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Passwords {
    pub(super) superuser: String,
    pub(super) owner: String,
    pub(super) app: String,
}

/// Makes an empty cluster in `dir`.
pub(super) async fn initialise(
    dir: &Path,
    programs: &Programs,
    account: Option<Account>,
    ephemeral: bool,
) -> anyhow::Result<Passwords> {
    let password = || hex::encode(rand::random::<[u8; 16]>());
    let passwords = Passwords {
        superuser: password(),
        owner: password(),
        app: password(),
    };
    let data = dir.join("data");
    if data.exists() {
        // Half-made: the passwords are written last.
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir(&data)?;
    let password_file = dir.join("superuser-password");
    write_private(&password_file, &passwords.superuser)?;
    let mut command = Command::new(programs.bin.join("initdb"));
    command
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-instructions"]);
    command.arg(format!("--pwfile={}", password_file.display()));
    // A test opens hundreds of connections, and full-strength hashing costs more than the rest of each.
    if programs.major_version >= 16 {
        command.args(["--auth=scram-sha-256", "--set", "scram_iterations=1"]);
    } else {
        command.arg("--auth=md5");
    }
    if ephemeral {
        command.arg("--no-sync");
    }
    if let Some(Account { uid, gid }) = account {
        for path in [dir, &data, &password_file] {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        }
        command.uid(uid).gid(gid).current_dir("/");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run initdb")?;
    if !output.status.success() {
        bail!(
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    std::fs::remove_file(password_file)?;
    write_private(&dir.join("passwords.json"), &serde_json::to_string(&passwords)?)?;
    Ok(passwords)
}
