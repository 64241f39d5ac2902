//! What all handlers share: connections, keys and configuration.

use crate::actor::SignIns;
use buckets::Buckets;
use database::{Database, DatabaseError};
use identity::{CsrfKey, PasswordError, Passwords, SealError, SecretsKey, TokenSigner, TokenVerifier};
use queue::{Queue, QueueError};
use secrecy::ExposeSecret as _;
use settings::{Gateway, SourceRoots, StorageDefaults};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Connections to Postgres that one gateway opens at most.
const MAX_DATABASE_CONNECTIONS: usize = 16;

/// What all handlers share.
pub(crate) struct State {
    pub database: Database,
    pub queue: Queue,
    pub passwords: Passwords,
    pub signer: TokenSigner,
    pub verifier: TokenVerifier,
    pub secrets_key: Arc<SecretsKey>,
    pub csrf_key: CsrfKey,
    pub buckets: Buckets,
    pub source_roots: SourceRoots,
    pub storage_defaults: StorageDefaults,
    pub sign_ins: SignIns,
    /// Where the pages come from that may use cookies: scheme, host and port.
    pub public_origin: String,
    /// Whether people reach the gateway over TLS.
    pub is_behind_tls: bool,
    /// Cancelled when the gateway is told to stop: streams end.
    pub stopping: CancellationToken,
}

/// Something of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("JWT_PRIVATE_KEY_FILE: {0}")]
    SigningKey(#[from] identity::KeyError),
    #[error("SECRETS_KEY: {0}")]
    SecretsKey(#[from] SealError),
    #[error("REDIS_URL: {0}")]
    Queue(#[from] QueueError),
    #[error("DATABASE_URL: {0}")]
    Database(#[from] DatabaseError),
    #[error("passwords cannot be hashed: {0}")]
    Passwords(#[from] PasswordError),
}

impl State {
    /// From the configuration; `public_url` is the issuer of tokens. Connects to nothing yet.
    pub(crate) async fn new(settings: &Gateway, public_url: &str) -> Result<Self, StateError> {
        let signer = TokenSigner::from_pem(&settings.jwt_private_key_pem, public_url)?;
        let queue = Queue::connect(settings.redis_url.expose_secret()).await?;
        let secrets_key = Arc::new(SecretsKey::from_base64(&settings.secrets_key)?);
        Ok(Self {
            database: Database::new(settings.database_url.expose_secret(), MAX_DATABASE_CONNECTIONS)?,
            queue,
            passwords: Passwords::new()?,
            verifier: signer.verifier()?,
            signer,
            buckets: Buckets::new(settings.storage.clone(), secrets_key.clone()),
            secrets_key,
            csrf_key: CsrfKey::derive(&settings.secrets_key)?,
            source_roots: settings.source_roots.clone(),
            storage_defaults: settings.storage.clone(),
            sign_ins: SignIns::default(),
            public_origin: origin(public_url),
            is_behind_tls: public_url.starts_with("https://"),
            stopping: CancellationToken::new(),
        })
    }
}

/// Scheme, host and port of a URL, as browsers write them in `Origin`.
fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}
