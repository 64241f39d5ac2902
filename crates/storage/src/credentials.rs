//! Who signs: static credentials, a profile, or what the machine offers; found, refreshed and used by reqsign.

use crate::clock::Clock;
use crate::config::{ConfigError, Credentials};
use crate::error::{Failure, StorageErrorKind};
use crate::http_client::{Addresses, ClientKind, HttpClient, client};
use crate::payload::{Payload, Progress};
use crate::signature::RequestSigner;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, StaticCredentialProvider};
use reqsign_core::{Context, Error, FileRead, HttpSend, OsEnv, Signer};
use secrecy::ExposeSecret as _;
use std::sync::Arc;
use std::time::Duration;

/// Off AWS nothing answers at the metadata service's address: a connection takes no longer than this there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 1 << 20;

/// Signs for S3 in a region. Credentials are kept until they expire.
pub(crate) fn signer(
    credentials: &Credentials,
    region: &str,
    clock: Arc<Clock>,
) -> Result<Signer<Credential>, ConfigError> {
    // Static credentials need nothing of the machine.
    let context = match credentials {
        Credentials::Static { .. } => Context::new(),
        Credentials::Profile(_) | Credentials::DefaultChain => machine()?.with_env(OsEnv),
    };
    signer_in(context, credentials, region, clock)
}

fn signer_in(
    context: Context,
    credentials: &Credentials,
    region: &str,
    clock: Arc<Clock>,
) -> Result<Signer<Credential>, ConfigError> {
    let request_signer = RequestSigner::new(region, clock);
    let provider = match credentials {
        Credentials::Static {
            access_key_id,
            secret_access_key,
            session_token,
        } => {
            check("the access key id", access_key_id)?;
            check("the secret access key", secret_access_key.expose_secret())?;
            let mut provider =
                StaticCredentialProvider::new(access_key_id, secret_access_key.expose_secret());
            if let Some(token) = session_token {
                check("the session token", token.expose_secret())?;
                provider = provider.with_session_token(token.expose_secret());
            }
            return Ok(Signer::new(context, provider, request_signer));
        }
        // What was asked for by name must not be replaced silently by what else the machine has.
        Credentials::Profile(name) => {
            let chain = DefaultCredentialProvider::builder().with_profile(name);
            chain
                .no_env()
                .no_web_identity()
                .no_ecs()
                .no_imds()
                .no_process()
                .build()
        }
        Credentials::DefaultChain => DefaultCredentialProvider::builder().no_process().build(),
    };
    Ok(Signer::new(context, provider, request_signer))
}

/// What a failed signature means for the request.
pub(crate) fn signing_failure(error: &Error) -> Failure {
    let kind = match error.kind() {
        reqsign_core::ErrorKind::RequestInvalid => StorageErrorKind::InvalidRequest,
        _ => StorageErrorKind::CredentialsMissing,
    };
    let mut failure = Failure::new(kind, error.to_string());
    failure.retryable = error.is_retryable();
    failure
}

fn check(what: &'static str, value: &str) -> Result<(), ConfigError> {
    let good = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    good.then_some(()).ok_or(ConfigError::Value(what))
}

/// The files and the network, for finding credentials.
fn machine() -> Result<Context, ConfigError> {
    let http = client(&ClientKind {
        extra_root_certificates_pem: None,
        connect_timeout: CONNECT_TIMEOUT,
        addresses: Addresses::Any,
    })?;
    Ok(Context::new()
        .with_env(OsEnv)
        .with_file_read(Files)
        .with_http_send(Http(http)))
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path)
            .await
            .map_err(|error| Error::config_invalid(format!("cannot read {path}: {error}")))
    }
}

#[derive(Debug)]
struct Http(HttpClient);

impl HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let request = request.map(|body| Payload::new(body, Progress::default()));
        let exchange = async {
            let (head, body) = self.0.request(request).await.map_err(unreachable)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| Error::unexpected(error.to_string()).set_retryable(true))?;
            Ok(http::Response::from_parts(head, body.to_bytes()))
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::unexpected("the credentials service does not answer").set_retryable(true)),
        }
    }
}

fn unreachable(error: hyper_util::client::legacy::Error) -> Error {
    Error::unexpected("the credentials service cannot be reached")
        .with_source(error)
        .set_retryable(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqsign_core::StaticEnv;
    use std::collections::HashMap;

    const FILE: &str = "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = secret\n\n\
                        [work]\naws_access_key_id = WORK\naws_secret_access_key = secret\n";

    /// The access key id that signs with these credentials, on a machine with this environment.
    async fn signs_as(credentials: &Credentials, variables: &[(&str, &str)]) -> Result<String, Failure> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), FILE).unwrap();
        let mut envs: HashMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        envs.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        let home_dir = Some(home.path().to_owned());
        let context = machine().unwrap().with_env(StaticEnv { home_dir, envs });
        let signer = signer_in(context, credentials, "eu-west-1", Arc::default()).unwrap();
        let mut head = http::Request::get("https://photos.s3.eu-west-1.amazonaws.com/a")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        signer
            .sign(&mut head, None)
            .await
            .map_err(|error| signing_failure(&error))?;
        let signature = head.headers[http::header::AUTHORIZATION]
            .to_str()
            .unwrap()
            .to_owned();
        let key = signature.split(['=', '/']).nth(1).unwrap();
        Ok(key.to_owned())
    }

    #[tokio::test]
    async fn a_profile_is_the_one_that_was_named() {
        let work = Credentials::Profile("work".to_owned());
        let elsewhere = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        assert_eq!(signs_as(&work, &elsewhere).await.unwrap(), "WORK");
        let missing = signs_as(&Credentials::Profile("missing".to_owned()), &elsewhere)
            .await
            .unwrap_err();
        assert_eq!(missing.kind, StorageErrorKind::CredentialsMissing);
        assert!(!missing.retryable);
    }

    #[tokio::test]
    async fn the_chain_takes_the_environment_before_the_files() {
        let chain = Credentials::DefaultChain;
        let variables = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        assert_eq!(signs_as(&chain, &variables).await.unwrap(), "ENV");
        assert_eq!(signs_as(&chain, &[]).await.unwrap(), "DEFAULT");
    }

    #[test]
    fn empty_and_unprintable_keys_are_refused() {
        for (id, secret) in [("", "secret"), ("id", ""), ("id\n", "secret"), ("id", "sec ret")] {
            let credentials = Credentials::Static {
                access_key_id: id.to_owned(),
                secret_access_key: secret.to_owned().into(),
                session_token: None,
            };
            assert!(matches!(
                signer(&credentials, "eu-west-1", Arc::default()),
                Err(ConfigError::Value(_))
            ));
            assert_eq!(format!("{credentials:?}"), "Static(redacted)");
        }
    }
}
