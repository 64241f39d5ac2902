//! What a stack is started with.

use std::path::PathBuf;

/// What a [`Stack`] is started with.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The folder for all its files, made if missing. What an earlier stack left there is taken up again.
    pub dir: PathBuf,
    /// How many workers.
    pub workers: usize,
    /// `SOURCE_ROOTS`; absent, `samples` is a folder in `dir` with a few files.
    pub source_roots: Option<String>,
    /// The gateway's port on 127.0.0.1; 0 takes the one of the earlier stack, or a free one.
    pub port: u16,
    /// Whether the database is thrown away at the end, and so need not be safe.
    pub ephemeral: bool,
    /// Where the binaries are; absent, where this program is.
    pub bin_dir: Option<PathBuf>,
    /// Whether gateway and workers reach Postgres through a proxy that can lose answers.
    pub postgres_proxy: bool,
    /// The launcher of [`crate::faulty_disk::launcher`], where the disk of Postgres is to be full at times.
    pub postgres_disk: Option<PathBuf>,
    /// `LEASE_S` of the workers.
    pub lease_s: Option<u32>,
    /// `SHUTDOWN_GRACE_S` of the workers.
    pub shutdown_grace_s: u32,
    /// More variables for gateway and workers; they win.
    pub extra_env: Vec<(String, String)>,
}

impl StackOptions {
    /// One worker, a small sample to read, free ports, everything safe on disk.
    pub fn in_folder(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            workers: 1,
            source_roots: None,
            port: 0,
            ephemeral: false,
            bin_dir: None,
            postgres_proxy: false,
            postgres_disk: None,
            lease_s: None,
            shutdown_grace_s: 30,
            extra_env: Vec::new(),
        }
    }
}
