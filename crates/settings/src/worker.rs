//! What `upload-worker` reads.

use std::time::Duration;

use secrecy::SecretString;

use crate::gateway::{
    DATABASE_URL, REDIS_URL, SECRETS_KEY, SOURCE_ROOTS, postgres_url, redis_url, secrets_key,
};
use crate::variable::{Absent, InvalidEnvironment, Reader, Source, Variable, environment, help, parse};
use crate::{Logging, SourceRoots, StorageDefaults};

const WORKER_CONCURRENCY: Variable = Variable::new(
    "WORKER_CONCURRENCY",
    Absent::Default("64"),
    "32",
    "files uploaded at the same time, 1 to 4096",
);
const WORKER_MEMORY_BYTES: Variable = Variable::new(
    "WORKER_MEMORY_BYTES",
    Absent::Default("268435456"),
    "536870912",
    "bytes of file contents held in memory at the same time, at least 16777216",
);
const LEASE_S: Variable = Variable::new(
    "LEASE_S",
    Absent::Default("30"),
    "30",
    "seconds after which the jobs of a silent worker go to others, 1 to 3600",
);
const SHUTDOWN_GRACE_S: Variable = Variable::new(
    "SHUTDOWN_GRACE_S",
    Absent::Default("30"),
    "60",
    "seconds a worker takes to end its files after SIGTERM, 0 to 3600",
);
const LEFTOVERS_EVERY_S: Variable = Variable::new(
    "LEFTOVERS_EVERY_S",
    Absent::Default("3600"),
    "3600",
    "seconds between two looks for multipart uploads that were left open in a project's bucket, 1 to 604800",
);
const STORE_PATIENCE_S: Variable = Variable::new(
    "STORE_PATIENCE_S",
    Absent::Default("600"),
    "3600",
    "seconds a session waits for an S3 that is away before it fails, 1 to 604800",
);
const FILE_RETENTION_MONTHS: Variable = Variable::new(
    "FILE_RETENTION_MONTHS",
    Absent::Means("for ever"),
    "24",
    "whole months that the files of ended sessions stay recorded, 1 to 1200; the same for all workers",
);

/// Everything `upload-worker` needs.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Postgres, as the runtime login.
    pub database_url: SecretString,
    /// Redis.
    pub redis_url: SecretString,
    /// 32 bytes in base64 that seal stored credentials.
    pub secrets_key: SecretString,
    /// The directories this worker reads, and so the locations whose jobs it takes.
    pub source_roots: SourceRoots,
    /// S3 defaults.
    pub storage: StorageDefaults,
    /// Files uploaded at the same time.
    pub concurrency: u32,
    /// Bytes of file contents held in memory at the same time.
    pub memory_bytes: u64,
    /// How long a job stays with a worker that is not heard of.
    pub lease: Duration,
    /// How long files may take to end after SIGTERM.
    pub shutdown_grace: Duration,
    /// How long a project's bucket is not looked through for multipart uploads that were left open.
    pub leftovers_every: Duration,
    /// How long a session waits for a store that is away.
    pub store_patience: Duration,
    /// For how many whole months the files of ended sessions stay recorded; `None`: for ever.
    pub file_retention_months: Option<u16>,
    /// Logs.
    pub logging: Logging,
}

impl Worker {
    fn table() -> Vec<&'static Variable> {
        let mut table = vec![
            &DATABASE_URL,
            &REDIS_URL,
            &SECRETS_KEY,
            &SOURCE_ROOTS,
            &WORKER_CONCURRENCY,
            &WORKER_MEMORY_BYTES,
            &LEASE_S,
            &SHUTDOWN_GRACE_S,
            &LEFTOVERS_EVERY_S,
            &STORE_PATIENCE_S,
            &FILE_RETENTION_MONTHS,
        ];
        table.extend(StorageDefaults::VARIABLES);
        table.extend(Logging::VARIABLES);
        table
    }

    /// Reads the environment.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, each one line.
    pub fn from_env() -> Result<Self, InvalidEnvironment> {
        Self::from_source(&environment)
    }

    /// As [`Worker::from_env`], from any source of values.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, each one line.
    pub fn from_source(source: Source<'_>) -> Result<Self, InvalidEnvironment> {
        let mut reader = Reader::new(source);
        let value = Self::read(&mut reader);
        reader.finish(value)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let database_url = reader.get(&DATABASE_URL, postgres_url);
        let redis_url = reader.get(&REDIS_URL, redis_url);
        let secrets_key = reader.get(&SECRETS_KEY, secrets_key);
        let source_roots = reader.get(&SOURCE_ROOTS, SourceRoots::parse);
        let concurrency = reader.get(&WORKER_CONCURRENCY, parse::number(1, 4096));
        let memory_bytes = reader.get(
            &WORKER_MEMORY_BYTES,
            parse::number(16 << 20, u64::from(u32::MAX) << 10),
        );
        let lease_s = reader.get(&LEASE_S, parse::number(1, 3600));
        let shutdown_grace_s = reader.get(&SHUTDOWN_GRACE_S, parse::number(0, 3600));
        let leftovers_every_s = reader.get(&LEFTOVERS_EVERY_S, parse::number(1, 604_800));
        let store_patience_s = reader.get(&STORE_PATIENCE_S, parse::number(1, 604_800));
        let file_retention_months = reader.get(&FILE_RETENTION_MONTHS, parse::number(1, 1200));
        let storage = StorageDefaults::read(reader);
        let logging = Logging::read(reader);
        Some(Self {
            database_url: database_url?,
            redis_url: redis_url?,
            secrets_key: secrets_key?,
            source_roots: source_roots?,
            storage: storage?,
            concurrency: concurrency?,
            memory_bytes: memory_bytes?,
            lease: Duration::from_secs(lease_s?),
            shutdown_grace: Duration::from_secs(shutdown_grace_s?),
            leftovers_every: Duration::from_secs(leftovers_every_s?),
            store_patience: Duration::from_secs(store_patience_s?),
            file_retention_months,
            logging: logging?,
        })
    }

    /// The variables, for `--help`.
    #[must_use]
    pub fn help() -> String {
        help(&Self::table())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    fn good(name: &str) -> Option<String> {
        let value = match name {
            "DATABASE_URL" => "postgres://localhost/db",
            "REDIS_URL" => "redis://localhost",
            "SECRETS_KEY" => "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "SOURCE_ROOTS" => "media=/srv/media",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let worker = Worker::from_source(&good).unwrap();
        assert_eq!((worker.concurrency, worker.memory_bytes), (64, 268_435_456));
        assert_eq!(
            (worker.lease.as_secs(), worker.shutdown_grace.as_secs()),
            (30, 30)
        );
        assert_eq!(worker.leftovers_every.as_secs(), 3600);
        assert_eq!(worker.file_retention_months, None);
    }

    #[test]
    fn each_variable_read_is_in_the_help_and_the_other_way_round() {
        let asked = RefCell::new(BTreeSet::new());
        Worker::from_source(&|name| {
            asked.borrow_mut().insert(name.to_owned());
            good(name)
        })
        .unwrap();
        let table: BTreeSet<String> = Worker::table()
            .iter()
            .map(|variable| variable.name.to_owned())
            .collect();
        assert_eq!(asked.into_inner(), table);
        for name in table {
            assert!(Worker::help().contains(&format!("\n  {name}\n")), "{name}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        for (name, value) in [
            ("WORKER_CONCURRENCY", "0"),
            ("WORKER_MEMORY_BYTES", "1"),
            ("LEASE_S", "-1"),
            ("SHUTDOWN_GRACE_S", "x"),
            ("LEFTOVERS_EVERY_S", "0"),
            ("STORE_PATIENCE_S", "0"),
            ("FILE_RETENTION_MONTHS", "0"),
            ("FILE_RETENTION_MONTHS", "1.5"),
        ] {
            let source = |asked: &str| {
                if asked == name {
                    Some(value.to_owned())
                } else {
                    good(asked)
                }
            };
            let problem = Worker::from_source(&source).unwrap_err().to_string();
            assert!(
                problem.starts_with(&format!("{name} must be a whole number from ")),
                "{problem}"
            );
        }
    }
}
