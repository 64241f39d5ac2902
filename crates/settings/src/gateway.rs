//! What `api-gateway` reads: serving ([`Gateway`]) and migrating ([`Migration`]).

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use url::Url;

use crate::variable::{Absent, InvalidEnvironment, Reader, Source, Variable, environment, help, parse};
use crate::{Logging, SourceRoots, StorageDefaults};

pub(crate) const DATABASE_URL: Variable = Variable::new(
    "DATABASE_URL",
    Absent::Required,
    "postgres://uploader:secret@127.0.0.1:5432/uploader",
    "Postgres, as the runtime login",
)
.secret();
const MIGRATION_DATABASE_URL: Variable = Variable::new(
    "MIGRATION_DATABASE_URL",
    Absent::Means("DATABASE_URL"),
    "postgres://owner:secret@127.0.0.1:5432/uploader",
    "Postgres, as the owner of the schema",
)
.secret();
pub(crate) const REDIS_URL: Variable = Variable::new(
    "REDIS_URL",
    Absent::Required,
    "redis://127.0.0.1:6379",
    "Redis, for the job lists",
)
.secret();
const LISTEN_ADDR: Variable = Variable::new(
    "LISTEN_ADDR",
    Absent::Default("127.0.0.1:8000"),
    "0.0.0.0:8000",
    "address and port to serve on",
);
const PUBLIC_URL: Variable = Variable::new(
    "PUBLIC_URL",
    Absent::Means("http:// and LISTEN_ADDR"),
    "https://uploads.example.com",
    "where people reach the gateway; also the issuer of tokens",
);
const JWT_PRIVATE_KEY_FILE: Variable = Variable::new(
    "JWT_PRIVATE_KEY_FILE",
    Absent::Required,
    "/etc/uploader/jwt.pem",
    "PEM file of the RSA private key that signs access tokens",
);
pub(crate) const SECRETS_KEY: Variable = Variable::new(
    "SECRETS_KEY",
    Absent::Required,
    "<output of: openssl rand -base64 32>",
    "32 bytes in base64 that seal stored credentials; the same for gateways and workers",
)
.secret();
pub(crate) const SOURCE_ROOTS: Variable = Variable::new(
    "SOURCE_ROOTS",
    Absent::Required,
    "media=/srv/media,lab@ACME=/srv/lab",
    "directories uploads may read: name=/path for all companies, name@COMPANY_CODE=/path for one",
);
const INITIAL_ADMIN_PASSWORD: Variable = Variable::new(
    "INITIAL_ADMIN_PASSWORD",
    Absent::Means("a random one, printed once"),
    "<12 to 72 bytes>",
    "password of the first platform admin, made where there are no users",
)
.secret();

/// Everything `api-gateway` needs to serve.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Postgres, as the runtime login.
    pub database_url: SecretString,
    /// Postgres, as the owner of the schema.
    pub migration_database_url: SecretString,
    /// Redis.
    pub redis_url: SecretString,
    /// Where to serve.
    pub listen_addr: SocketAddr,
    /// Where people reach it, where that was given; see [`Gateway::public_url`].
    pub configured_public_url: Option<Url>,
    /// The RSA private key that signs access tokens, as PEM.
    pub jwt_private_key_pem: SecretString,
    /// 32 bytes in base64 that seal stored credentials.
    pub secrets_key: SecretString,
    /// The directories uploads may read.
    pub source_roots: SourceRoots,
    /// S3 defaults.
    pub storage: StorageDefaults,
    /// Password of the first platform admin; 12 to 72 bytes.
    pub initial_admin_password: Option<SecretString>,
    /// Logs.
    pub logging: Logging,
}

impl Gateway {
    fn table() -> Vec<&'static Variable> {
        let mut table = vec![
            &DATABASE_URL,
            &MIGRATION_DATABASE_URL,
            &REDIS_URL,
            &LISTEN_ADDR,
            &PUBLIC_URL,
            &JWT_PRIVATE_KEY_FILE,
            &SECRETS_KEY,
            &SOURCE_ROOTS,
            &INITIAL_ADMIN_PASSWORD,
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

    /// As [`Gateway::from_env`], from any source of values.
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
        let migration_database_url = reader.get(&MIGRATION_DATABASE_URL, postgres_url);
        let redis_url = reader.get(&REDIS_URL, redis_url);
        let listen_addr = reader.get(&LISTEN_ADDR, |text| {
            text.parse::<SocketAddr>()
                .map_err(|_| "must be an IP address and a port".to_owned())
        });
        let configured_public_url = reader.get(&PUBLIC_URL, parse::http_url);
        let jwt_private_key_pem = reader.get(&JWT_PRIVATE_KEY_FILE, private_key_file);
        let secrets_key = reader.get(&SECRETS_KEY, secrets_key);
        let source_roots = reader.get(&SOURCE_ROOTS, SourceRoots::parse);
        let initial_admin_password = reader.get(&INITIAL_ADMIN_PASSWORD, |text| match text.len() {
            12..=72 => Ok(SecretString::from(text)),
            _ => Err("must have 12 to 72 bytes".to_owned()),
        });
        let storage = StorageDefaults::read(reader);
        let logging = Logging::read(reader);
        let database_url = database_url?;
        Some(Self {
            migration_database_url: migration_database_url.unwrap_or_else(|| database_url.clone()),
            database_url,
            redis_url: redis_url?,
            listen_addr: listen_addr?,
            configured_public_url,
            jwt_private_key_pem: jwt_private_key_pem?,
            secrets_key: secrets_key?,
            source_roots: source_roots?,
            storage: storage?,
            initial_admin_password,
            logging: logging?,
        })
    }

    /// The variables, for `--help`.
    #[must_use]
    pub fn help() -> String {
        help(&Self::table())
    }

    /// Where people reach the gateway, without a slash at its end. `bound` is the address it really serves on,
    /// which differs from [`Gateway::listen_addr`] where port 0 was asked for.
    #[must_use]
    pub fn public_url(&self, bound: SocketAddr) -> String {
        self.configured_public_url.as_ref().map_or_else(
            || format!("http://{bound}"),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        )
    }
}

/// What `api-gateway migrate` needs.
#[derive(Clone, Debug)]
pub struct Migration {
    /// Postgres, as the owner of the schema.
    pub database_url: SecretString,
    /// Postgres, as the runtime login, whose rights the migration grants.
    pub runtime_database_url: SecretString,
    /// Logs.
    pub logging: Logging,
}

impl Migration {
    /// Reads the environment.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, each one line.
    pub fn from_env() -> Result<Self, InvalidEnvironment> {
        Self::from_source(&environment)
    }

    /// As [`Migration::from_env`], from any source of values.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, each one line.
    pub fn from_source(source: Source<'_>) -> Result<Self, InvalidEnvironment> {
        let mut reader = Reader::new(source);
        let owner = reader.get(&MIGRATION_DATABASE_URL, postgres_url);
        let runtime = reader.get(&DATABASE_URL, postgres_url);
        let logging = Logging::read(&mut reader);
        let value = runtime.zip(logging).map(|(runtime, logging)| Self {
            database_url: owner.unwrap_or_else(|| runtime.clone()),
            runtime_database_url: runtime,
            logging,
        });
        reader.finish(value)
    }

    /// The variables, for `--help`.
    #[must_use]
    pub fn help() -> String {
        let mut table = vec![&MIGRATION_DATABASE_URL, &DATABASE_URL];
        table.extend(Logging::VARIABLES);
        help(&table)
    }
}

/// Connections are made without TLS: whoever asks for it must hear that they do not get it.
pub(crate) fn postgres_url(text: &str) -> Result<SecretString, String> {
    let url = parse::url(text, &["postgres", "postgresql"])?;
    let needs_tls = |mode: &str| ["require", "verify-ca", "verify-full"].contains(&mode);
    match url
        .query_pairs()
        .find(|(name, value)| name == "sslmode" && needs_tls(value))
    {
        Some((_, mode)) => Err(format!(
            "must not ask for sslmode={mode}: TLS to Postgres is not supported yet"
        )),
        None => Ok(SecretString::from(text)),
    }
}

pub(crate) fn redis_url(text: &str) -> Result<SecretString, String> {
    if text.to_ascii_lowercase().starts_with("rediss:") {
        return Err("must not start with rediss://: TLS to Redis is not supported yet".into());
    }
    parse::secret_url(&["redis", "redis+unix", "unix"])(text)
}

pub(crate) fn secrets_key(text: &str) -> Result<SecretString, String> {
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(SecretString::from(text)),
        Ok(bytes) => Err(format!("must be 32 bytes in base64 (it has {})", bytes.len())),
        Err(_) => Err("must be 32 bytes in base64".into()),
    }
}

fn private_key_file(path: &str) -> Result<SecretString, String> {
    let pem = parse::text_file(path)?;
    if pem.contains("-----BEGIN") && pem.contains("PRIVATE KEY-----") {
        Ok(SecretString::from(pem))
    } else {
        Err("must name a file with a PEM private key".into())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeSet, HashMap};

    use secrecy::ExposeSecret as _;

    use super::*;

    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    struct Environment {
        values: HashMap<&'static str, String>,
        _key_file: tempfile::NamedTempFile,
    }

    impl Environment {
        fn good() -> Self {
            let key_file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(key_file.path(), PEM).unwrap();
            let values = HashMap::from([
                ("DATABASE_URL", "postgres://u:hunter2@localhost/db".to_owned()),
                ("REDIS_URL", "redis://:hunter2@localhost:6379".to_owned()),
                (
                    "JWT_PRIVATE_KEY_FILE",
                    key_file.path().to_str().unwrap().to_owned(),
                ),
                ("SECRETS_KEY", STANDARD.encode([7; 32])),
                ("SOURCE_ROOTS", "media=/srv/media".to_owned()),
            ]);
            Self {
                values,
                _key_file: key_file,
            }
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            self.values.insert(name, value.to_owned());
            self
        }

        fn gateway(&self) -> Result<Gateway, InvalidEnvironment> {
            Gateway::from_source(&|name| self.values.get(name).cloned())
        }

        fn problem(&self) -> String {
            self.gateway().unwrap_err().to_string()
        }
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let gateway = Environment::good().gateway().unwrap();
        assert_eq!(gateway.listen_addr.to_string(), "127.0.0.1:8000");
        assert_eq!(gateway.public_url(gateway.listen_addr), "http://127.0.0.1:8000");
        assert_eq!(
            gateway.migration_database_url.expose_secret(),
            gateway.database_url.expose_secret()
        );
        assert_eq!(gateway.storage.region, "us-east-1");
        assert!(!gateway.storage.allow_private_endpoints);
        assert!(gateway.storage.credentials.is_none());
        assert_eq!(gateway.logging, Logging::default());
        assert_eq!(gateway.jwt_private_key_pem.expose_secret(), PEM);
    }

    #[test]
    fn each_variable_read_is_in_the_help_and_the_other_way_round() {
        let asked = RefCell::new(BTreeSet::new());
        let environment = Environment::good();
        Gateway::from_source(&|name| {
            asked.borrow_mut().insert(name.to_owned());
            environment.values.get(name).cloned()
        })
        .unwrap();
        let table: BTreeSet<String> = Gateway::table()
            .iter()
            .map(|variable| variable.name.to_owned())
            .collect();
        assert_eq!(asked.into_inner(), table);
        for name in table {
            assert!(Gateway::help().contains(&format!("\n  {name}\n")), "{name}");
        }
    }

    #[test]
    fn each_bad_value_is_one_line_that_names_it() {
        for (name, value, message) in [
            (
                "DATABASE_URL",
                "mysql://u:hunter2@h/db",
                "must be a URL starting with postgres://",
            ),
            (
                "DATABASE_URL",
                "postgres://u:hunter2@h/db?connect_timeout=1&sslmode=verify-full",
                "must not ask for sslmode=verify-full: TLS to Postgres is not supported yet",
            ),
            (
                "MIGRATION_DATABASE_URL",
                "postgres://u:hunter2@h/db?sslmode=require",
                "must not ask for sslmode=require: TLS to Postgres",
            ),
            ("REDIS_URL", "localhost", "must be a URL starting with redis://"),
            (
                "REDIS_URL",
                "rediss://:hunter2@h:6380",
                "TLS to Redis is not supported yet",
            ),
            (
                "LISTEN_ADDR",
                "localhost",
                "must be an IP address and a port, not \"localhost\"",
            ),
            (
                "PUBLIC_URL",
                "uploads.example.com",
                "must be a URL starting with http://",
            ),
            (
                "JWT_PRIVATE_KEY_FILE",
                "/nowhere/jwt.pem",
                "must name a readable PEM file",
            ),
            (
                "SECRETS_KEY",
                "aHVudGVyMg==",
                "must be 32 bytes in base64 (it has 7)",
            ),
            ("SECRETS_KEY", "hunter2", "must be 32 bytes in base64"),
            ("SOURCE_ROOTS", "media", "must be a list of name=/path"),
            ("S3_ENDPOINT_URL", "s3", "must be a URL starting with http://"),
            (
                "S3_EXTRA_CA_FILE",
                "/nowhere/ca.pem",
                "must name a readable PEM file",
            ),
            (
                "ALLOW_PRIVATE_ENDPOINTS",
                "maybe",
                "must be 1 or 0, not \"maybe\"",
            ),
            ("INITIAL_ADMIN_PASSWORD", "hunter2", "must have 12 to 72 bytes"),
            (
                "AWS_SECRET_ACCESS_KEY",
                "hunter2",
                "must be set together with AWS_SECRET_ACCESS_KEY",
            ),
            ("LOG_FORMAT", "xml", "must be text or json"),
            ("RUST_LOG", "a=b=c", "must be a level or a list of target=level"),
        ] {
            let problem = Environment::good().with(name, value).problem();
            assert!(problem.contains(message), "{name}={value}: {problem}");
            assert_eq!(problem.lines().count(), 1, "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn everything_missing_is_reported_at_once() {
        let error = Gateway::from_source(&|_| None).unwrap_err();
        let missing: Vec<&str> = error.problems.iter().map(|problem| problem.variable).collect();
        assert_eq!(
            missing,
            [
                "DATABASE_URL",
                "REDIS_URL",
                "JWT_PRIVATE_KEY_FILE",
                "SECRETS_KEY",
                "SOURCE_ROOTS"
            ]
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let gateway = Environment::good()
            .with("INITIAL_ADMIN_PASSWORD", "hunter2hunter2")
            .with("AWS_ACCESS_KEY_ID", "AK")
            .with("AWS_SECRET_ACCESS_KEY", "hunter2")
            .gateway()
            .unwrap();
        let debug = format!("{gateway:?}");
        assert!(
            !debug.contains("hunter2") && !debug.contains("AAAA") && !debug.contains("BwcH"),
            "{debug}"
        );
    }

    #[test]
    fn migrating_needs_the_database_alone() {
        let source = |name: &str| (name == "DATABASE_URL").then(|| "postgres://localhost/db".to_owned());
        let migration = Migration::from_source(&source).unwrap();
        assert_eq!(migration.database_url.expose_secret(), "postgres://localhost/db");
        assert!(Migration::help().contains("MIGRATION_DATABASE_URL"));
        assert!(Migration::from_source(&|_| None).is_err());
    }
}
