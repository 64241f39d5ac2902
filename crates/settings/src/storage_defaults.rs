//! What is used for projects that set no endpoint, region or credentials of their own, and which endpoints are allowed.

use secrecy::SecretString;
use url::Url;

use crate::variable::{Absent, Reader, Variable, parse};

pub(crate) const S3_ENDPOINT_URL: Variable = Variable::new(
    "S3_ENDPOINT_URL",
    Absent::Means("Amazon S3 of the region"),
    "https://s3.example.com",
    "S3 endpoint of projects that set none",
);
pub(crate) const S3_EXTRA_CA_FILE: Variable = Variable::new(
    "S3_EXTRA_CA_FILE",
    Absent::Means("only the system's certificate authorities"),
    "/etc/uploader/s3-ca.pem",
    "PEM file of further certificate authorities to trust for S3 endpoints",
);
pub(crate) const AWS_REGION: Variable = Variable::new(
    "AWS_REGION",
    Absent::Default("us-east-1"),
    "eu-central-1",
    "region of projects that set none",
);
pub(crate) const AWS_ACCESS_KEY_ID: Variable = Variable::new(
    "AWS_ACCESS_KEY_ID",
    Absent::Means("projects must bring credentials"),
    "AKIAIOSFODNN7EXAMPLE",
    "access key of projects that set none",
);
pub(crate) const AWS_SECRET_ACCESS_KEY: Variable = Variable::new(
    "AWS_SECRET_ACCESS_KEY",
    Absent::Means("projects must bring credentials"),
    "<secret>",
    "secret of AWS_ACCESS_KEY_ID",
)
.secret();
pub(crate) const AWS_SESSION_TOKEN: Variable = Variable::new(
    "AWS_SESSION_TOKEN",
    Absent::Means("none"),
    "<token>",
    "session token of AWS_ACCESS_KEY_ID, where it is a temporary one",
)
.secret();
pub(crate) const ALLOW_PRIVATE_ENDPOINTS: Variable = Variable::new(
    "ALLOW_PRIVATE_ENDPOINTS",
    Absent::Default("0"),
    "1",
    "1 allows projects endpoints with http or a private address; for development and closed networks",
);

/// The installation's S3 defaults.
#[derive(Clone, Debug)]
pub struct StorageDefaults {
    /// Endpoint of projects that set none; `None` is Amazon S3.
    pub endpoint_url: Option<Url>,
    /// Region of projects that set none.
    pub region: String,
    /// Credentials of projects that set none.
    pub credentials: Option<StaticCredentials>,
    /// PEM certificates to trust besides the system's.
    pub extra_ca_pem: Option<String>,
    /// Whether projects may use plain http and private addresses.
    pub allow_private_endpoints: bool,
}

/// A fixed pair of S3 keys.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: SecretString,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<SecretString>,
}

impl StorageDefaults {
    pub(crate) const VARIABLES: [&'static Variable; 7] = [
        &S3_ENDPOINT_URL,
        &S3_EXTRA_CA_FILE,
        &AWS_REGION,
        &AWS_ACCESS_KEY_ID,
        &AWS_SECRET_ACCESS_KEY,
        &AWS_SESSION_TOKEN,
        &ALLOW_PRIVATE_ENDPOINTS,
    ];

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let endpoint_url = reader.get(&S3_ENDPOINT_URL, parse::http_url);
        let extra_ca_pem = reader.get(&S3_EXTRA_CA_FILE, |path| {
            parse::text_file(path).and_then(|pem| {
                if pem.contains("-----BEGIN CERTIFICATE-----") {
                    Ok(pem)
                } else {
                    Err("must name a file with at least one PEM certificate".into())
                }
            })
        });
        let region = reader.get(&AWS_REGION, parse::text);
        let access_key_id = reader.get(&AWS_ACCESS_KEY_ID, parse::text);
        let secret_access_key = reader.get(&AWS_SECRET_ACCESS_KEY, parse::secret_text);
        let session_token = reader.get(&AWS_SESSION_TOKEN, parse::secret_text);
        let credentials = match (access_key_id, secret_access_key) {
            (Some(access_key_id), Some(secret_access_key)) => Some(StaticCredentials {
                access_key_id,
                secret_access_key,
                session_token,
            }),
            (Some(_), None) => {
                reader.problem(
                    &AWS_SECRET_ACCESS_KEY,
                    "must be set together with AWS_ACCESS_KEY_ID",
                );
                None
            }
            (None, Some(_)) => {
                reader.problem(
                    &AWS_ACCESS_KEY_ID,
                    "must be set together with AWS_SECRET_ACCESS_KEY",
                );
                None
            }
            (None, None) => None,
        };
        let allow_private_endpoints = reader.get(&ALLOW_PRIVATE_ENDPOINTS, parse::flag);
        Some(Self {
            endpoint_url,
            region: region?,
            credentials,
            extra_ca_pem,
            allow_private_endpoints: allow_private_endpoints?,
        })
    }
}
