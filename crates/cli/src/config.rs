//! The file that keeps the server's address and the sign-in (`config.json`). Written atomically and readable by
//! its owner only; changes to the sign-in are made under a lock beside it, so that two commands running at once
//! never spend the same refresh token.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What the file holds. No `Debug`: the tokens are secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The server that the sign-in is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_url: Option<String>,
    /// Who signed in, for people reading the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    /// The short-lived token that requests carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_token: Option<String>,
    /// The single-use token that gets the next pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
}

impl Config {
    /// Forgets the sign-in, keeps the address.
    pub(crate) fn forget_sign_in(&mut self) {
        self.username = None;
        self.access_token = None;
        self.refresh_token = None;
    }
}

/// Where the file is.
#[derive(Clone)]
pub(crate) struct ConfigStore {
    path: PathBuf,
}

impl ConfigStore {
    /// The file at `path`, or in the user's configuration folder (`$XDG_CONFIG_HOME/uploader/config.json`).
    pub(crate) fn at(path: Option<PathBuf>) -> Result<Self> {
        let path = match path.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path,
            None => {
                use etcetera::BaseStrategy as _;
                etcetera::choose_base_strategy()
                    .context("no home directory to keep the configuration in; name a file with --config")?
                    .config_dir()
                    .join("uploader")
                    .join("config.json")
            }
        };
        Ok(Self { path })
    }

    /// Reads the file; an absent one is an empty configuration.
    pub(crate) fn load(&self) -> Result<Config> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Config::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is no configuration of this command; move it away and sign in again",
                self.path.display()
            )
        })
    }

    /// Replaces the file in one step, with mode 0600.
    pub(crate) fn save(&self, config: &Config) -> Result<()> {
        let write = || -> Result<()> {
            let folder = self.create_folder()?;
            // A temporary file is made with mode 0600, and keeps it when it takes the place of the old one.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, config)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Waits until no other command changes the sign-in; held until dropped.
    pub(crate) async fn lock(&self) -> Result<ConfigLock> {
        let store = self.clone();
        let wait = move || -> Result<ConfigLock> {
            let folder = store.create_folder()?;
            let mut name = store
                .path
                .file_name()
                .context("the configuration's path names no file")?
                .to_owned();
            name.push(".lock");
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(name))?;
            file.lock()?;
            Ok(ConfigLock { _file: file })
        };
        tokio::task::spawn_blocking(wait)
            .await?
            .with_context(|| format!("cannot lock {}", self.path.display()))
    }

    fn create_folder(&self) -> Result<&Path> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        Ok(folder)
    }
}

/// The lock on the sign-in; the kernel releases it with the file, even after a crash.
pub(crate) struct ConfigLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigStore::at(Some(folder.path().join("new/folder/config.json"))).unwrap();
        assert!(store.load().unwrap().access_token.is_none());
        let config = Config {
            access_token: Some("a".into()),
            ..Config::default()
        };
        store.save(&config).unwrap();
        store.save(&config).unwrap();
        assert_eq!(store.load().unwrap().access_token.as_deref(), Some("a"));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(&store.path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, "not json").unwrap();
        let error = ConfigStore::at(Some(path.clone())).unwrap().load().err().unwrap();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }

    #[tokio::test]
    async fn the_lock_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigStore::at(Some(folder.path().join("config.json"))).unwrap();
        let held = store.lock().await.unwrap();
        let second = tokio::spawn({
            let store = store.clone();
            async move { store.lock().await.map(drop) }
        });
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), async {
            while !second.is_finished() {
                tokio::task::yield_now().await;
            }
        });
        assert!(early.await.is_err(), "the lock was given twice");
        drop(held);
        second.await.unwrap().unwrap();
    }
}
