//! Which Postgres is used, as whom it runs, and where its files may be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::PostgresOptions;
use crate::cache;
use crate::faulty_disk::FULL_VARIABLE;
use crate::process::{Account, ServerCommand};

const STOP_GRACE: Duration = Duration::from_secs(15);
const INSTALL: &str = "Postgres is needed (Debian: apt-get install postgresql)";

/// The installation that is used.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) bin: PathBuf,
    pub(super) major_version: u32,
}

impl Programs {
    /// The newest installation below Debian's folder, else the one in PATH.
    pub(super) async fn find() -> anyhow::Result<Self> {
        let mut installed: Vec<Self> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major_version = entry.file_name().to_str()?.parse().ok()?;
                Some(Self {
                    bin: entry.path().join("bin"),
                    major_version,
                })
            })
            .filter(|one| one.bin.join("initdb").exists() && one.bin.join("psql").exists())
            .collect();
        installed.sort_by_key(|one| one.major_version);
        if let Some(newest) = installed.pop() {
            return Ok(newest);
        }
        let output = Command::new("pg_config")
            .args(["--bindir", "--version"])
            .output()
            .await
            .context(INSTALL)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let bin = PathBuf::from(lines.next().context(INSTALL)?);
        let version = lines
            .next()
            .and_then(|line| line.split_whitespace().nth(1))
            .context(INSTALL)?;
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let found = Self {
            bin,
            major_version: digits.parse().context(INSTALL)?,
        };
        if found.bin.join("initdb").exists() {
            Ok(found)
        } else {
            bail!(INSTALL)
        }
    }

    pub(super) fn server_command(&self, dir: &Path, port: u16, options: &PostgresOptions) -> ServerCommand {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            "shared_buffers=128MB".to_owned(),
            "jit=off".to_owned(),
        ];
        if options.ephemeral {
            let careless = [
                "fsync=off",
                "synchronous_commit=off",
                "full_page_writes=off",
                "wal_level=minimal",
                "max_wal_senders=0",
            ];
            settings.extend(careless.map(str::to_owned));
        }
        let program = self.bin.join("postgres");
        let log = dir.join("postgres.log");
        let command = match &options.disk {
            Some(launcher) => ServerCommand::new("postgres", launcher, log)
                .args([program])
                .env(FULL_VARIABLE, full_sign(dir).to_string_lossy()),
            None => ServerCommand::new("postgres", program, log),
        };
        command
            .args(["-D".into(), dir.join("data").into_os_string()])
            .args(
                settings
                    .into_iter()
                    .flat_map(|setting| ["-c".to_owned(), setting]),
            )
            // Breaks connections off and writes its checkpoint.
            .stopped_by("INT", STOP_GRACE)
    }
}

/// While this file is there, a disk that can be full is.
pub(super) fn full_sign(dir: &Path) -> PathBuf {
    dir.join("disk-full")
}

/// The account to run the server as, when it must not be ours.
pub(super) fn account_for_server() -> anyhow::Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let account = accounts.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some(Account {
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    });
    account
        .map(Some)
        .context("Postgres does not run as root, and there is no account `postgres` to run it as")
}

/// `wanted`, made if missing; or a folder that stands for it, where `account` may not enter it (a home folder of
/// root's is closed to everybody else).
pub(super) async fn folder_for(wanted: &Path, account: Option<Account>) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(wanted).with_context(|| format!("cannot make {}", wanted.display()))?;
    let wanted = wanted.canonicalize()?;
    let Some(Account { uid, gid }) = account else {
        return Ok(wanted);
    };
    std::os::unix::fs::chown(&wanted, Some(uid), Some(gid))?;
    let mut test = Command::new("test");
    test.arg("-w").arg(&wanted).uid(uid).gid(gid).current_dir("/");
    if test.status().await?.success() {
        return Ok(wanted);
    }
    let aside = Path::new("/var/tmp").join(format!(
        "data-uploader-postgres-{}",
        cache::digest(&wanted.to_string_lossy())
    ));
    // It goes when the folder it stands for has gone.
    let sign = wanted.join("LIES_ELSEWHERE");
    if aside.exists() && !sign.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
    }
    std::fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    std::os::unix::fs::chown(&aside, Some(uid), Some(gid))?;
    std::fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    std::fs::write(sign, aside.to_string_lossy().as_bytes())?;
    Ok(aside)
}
