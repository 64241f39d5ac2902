//! What a bucket needs to be opened, checked before the first request.

use domain::backoff::Backoff;
use secrecy::SecretString;
use std::fmt;
use std::time::Duration;
use url::Url;

/// Where a bucket is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct BucketConfig {
    /// The bucket's name.
    pub bucket: String,
    /// The region, also a part of every signature.
    pub region: String,
    /// The store; `None`: AWS.
    pub endpoint_url: Option<Url>,
    /// Who signs.
    pub credentials: Credentials,
    /// Where the bucket's name goes.
    pub addressing: Addressing,
    /// Certificates (PEM) of authorities to trust besides the system's, for private endpoints.
    pub extra_root_certificates_pem: Option<Vec<u8>>,
    /// When a request is repeated.
    pub retry: RetryPolicy,
    /// The storage class of new objects; `None`: the bucket's default.
    pub storage_class: Option<String>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl BucketConfig {
    /// A bucket at AWS with everything else as usual.
    pub fn new(bucket: impl Into<String>, region: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            bucket: bucket.into(),
            region: region.into(),
            endpoint_url: None,
            credentials,
            addressing: Addressing::Auto,
            extra_root_certificates_pem: None,
            retry: RetryPolicy::default(),
            storage_class: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// Where the credentials come from.
#[derive(Clone)]
pub enum Credentials {
    /// These.
    Static {
        /// The public half.
        access_key_id: String,
        /// The secret half.
        secret_access_key: SecretString,
        /// Present for temporary credentials.
        session_token: Option<SecretString>,
    },
    /// A profile of the AWS configuration files.
    Profile(String),
    /// The first that is found of: environment, default profile, web identity, container, instance (IMDSv2).
    DefaultChain,
}

/// Names the source and shows neither half of a key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { .. } => f.write_str("Static(redacted)"),
            Self::Profile(name) => write!(f, "Profile({name})"),
            Self::DefaultChain => f.write_str("DefaultChain"),
        }
    }
}

/// Where the bucket's name goes in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// Into the host name on AWS (unless the name has dots), into the path elsewhere.
    #[default]
    Auto,
    /// Into the host name.
    VirtualHost,
    /// Into the path.
    Path,
}

/// When a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is sent at most, at least 1.
    pub max_attempts: u32,
    /// How long to wait before each repetition.
    pub backoff: Backoff,
    /// The longest wait a `Retry-After` may ask for.
    pub retry_after_cap: Duration,
    /// How many repetitions all requests of a bucket may use up together; ten requests that succeed earn one
    /// back. It ends a storm of retries against a store that is down.
    pub budget: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff: Backoff {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(10),
            },
            retry_after_cap: Duration::from_secs(30),
            budget: 1_000,
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection.
    pub connect: Duration,
    /// For any progress of a request, in either direction. It is noticed after this time at the earliest and
    /// twice this time at the latest.
    pub idle: Duration,
    /// For a whole request that carries nothing.
    pub whole: Duration,
    /// What a whole request may take longer for the bytes it carries: their number divided by this.
    pub slowest_bytes_per_s: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            whole: Duration::from_secs(30),
            slowest_bytes_per_s: 64 << 10,
        }
    }
}

impl Timeouts {
    /// The time for a whole request that carries `size_bytes`.
    pub(crate) fn whole_for(&self, size_bytes: u64) -> Duration {
        self.whole + Duration::from_secs(size_bytes / self.slowest_bytes_per_s.max(1))
    }
}

/// The configuration cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The name can be no bucket's.
    #[error("{0:?} is not a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens")]
    Bucket(String),
    /// The region can be none.
    #[error("{0:?} is not a region: lower-case letters, digits and hyphens, like eu-central-1")]
    Region(String),
    /// The endpoint is no plain http or https address.
    #[error("the endpoint {url:?} {problem}")]
    Endpoint {
        /// As it was given, without user name and password.
        url: String,
        /// What is wrong with it, to be read after the address.
        problem: &'static str,
    },
    /// The certificates cannot be read.
    #[error("the additional root certificates cannot be used: {0}")]
    Certificates(String),
    /// TLS cannot be set up on this machine.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The credentials are empty, or a value that goes into a header has characters that cannot go there.
    #[error("{0} is empty or has characters that are not allowed")]
    Value(&'static str),
}
