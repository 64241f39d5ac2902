//! Where requests go: the address of the bucket, and keys and queries encoded exactly as they are signed.

use crate::config::{Addressing, BucketConfig, ConfigError};
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write as _;
use std::net::IpAddr;
use url::{Host, Url};

/// Signature version 4 leaves letters, digits and these as they are; everything else becomes `%XX`.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const KEY: &AsciiSet = &VALUE.remove(b'/');

/// The address of one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `https://bucket.host` or `https://host/bucket`, without a slash at the end.
    base: String,
    host: Host<String>,
    pub(crate) is_aws: bool,
    is_https: bool,
}

impl Endpoint {
    pub(crate) fn resolve(config: &BucketConfig) -> Result<Self, ConfigError> {
        check_bucket(&config.bucket)?;
        check_region(&config.region)?;
        let is_aws = config.endpoint_url.is_none();
        let url = match &config.endpoint_url {
            Some(url) => url.clone(),
            None => aws_url(&config.region)?,
        };
        check_url(&url)?;
        let host = url.host().ok_or_else(|| wrong(&url, "has no host"))?.to_owned();
        let has_name = matches!(host, Host::Domain(_));
        let in_host = match config.addressing {
            Addressing::Path => false,
            Addressing::VirtualHost if has_name => true,
            Addressing::VirtualHost => {
                return Err(wrong(
                    &url,
                    "is an IP address, which cannot carry a bucket's name",
                ));
            }
            // The wildcard certificate of AWS covers one label only.
            Addressing::Auto => is_aws && !config.bucket.contains('.'),
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let (scheme, bucket) = (url.scheme(), &config.bucket);
        let (base, host) = if in_host {
            let name = format!("{bucket}.{host}");
            (format!("{scheme}://{name}{port}"), Host::Domain(name))
        } else {
            (format!("{scheme}://{host}{port}/{bucket}"), host)
        };
        let is_https = scheme == "https";
        Ok(Self {
            base,
            host,
            is_aws,
            is_https,
        })
    }

    /// The address of an object, or of the bucket itself.
    pub(crate) fn uri(
        &self,
        key: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Uri, http::uri::InvalidUri> {
        let mut uri = self.base.clone();
        match key {
            Some(key) => {
                uri.push('/');
                uri.extend(utf8_percent_encode(key, KEY));
            }
            None if !query.is_empty() => uri.push('/'),
            None => {}
        }
        for (index, (name, value)) in query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.push_str(name);
            // A String takes all that is written to it.
            let _ = write!(uri, "={}", utf8_percent_encode(value, VALUE));
        }
        uri.parse()
    }

    /// The payload is protected on its way by TLS, or never leaves this machine.
    pub(crate) fn protects_payload(&self) -> bool {
        self.is_https
            || match &self.host {
                Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
                Host::Ipv4(ip) => ip.is_loopback(),
                Host::Ipv6(ip) => ip.is_loopback(),
            }
    }

    /// The address, when the host is one and no name.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
        }
    }

    /// The host as text.
    pub(crate) fn host(&self) -> String {
        self.host.to_string()
    }
}

fn aws_url(region: &str) -> Result<Url, ConfigError> {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    Url::parse(&format!("https://s3.{region}.{domain}")).map_err(|_| ConfigError::Region(region.to_owned()))
}

fn check_bucket(bucket: &str) -> Result<(), ConfigError> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| letters(byte) || matches!(byte, b'-' | b'.'))
        && bucket.bytes().next().is_some_and(letters)
        && bucket.bytes().last().is_some_and(letters)
        && !bucket.contains("..");
    good.then_some(())
        .ok_or_else(|| ConfigError::Bucket(bucket.to_owned()))
}

fn check_region(region: &str) -> Result<(), ConfigError> {
    let good = (1..=64).contains(&region.len())
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    good.then_some(())
        .ok_or_else(|| ConfigError::Region(region.to_owned()))
}

fn check_url(url: &Url) -> Result<(), ConfigError> {
    let problem = if !matches!(url.scheme(), "http" | "https") {
        "is neither http nor https"
    } else if !url.username().is_empty() || url.password().is_some() {
        "carries a user name or password; give the credentials apart"
    } else if url.path() != "/" {
        "has a path; give the host and port alone"
    } else if url.query().is_some() || url.fragment().is_some() {
        "has a query; give the host and port alone"
    } else {
        return Ok(());
    };
    Err(wrong(url, problem))
}

fn wrong(url: &Url, problem: &'static str) -> ConfigError {
    let mut shown = url.clone();
    // Both fail only for addresses without a host, which have no user either.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    ConfigError::Endpoint {
        url: shown.to_string(),
        problem,
    }
}

/// The refusal of an endpoint that is not on the public internet.
pub(crate) fn not_public(config: &BucketConfig) -> ConfigError {
    let url = config.endpoint_url.as_ref().map(Url::as_str).unwrap_or_default();
    ConfigError::Endpoint {
        url: url.to_owned(),
        problem: "is not a public address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Credentials;

    fn config(bucket: &str, endpoint: Option<&str>) -> BucketConfig {
        let mut config = BucketConfig::new(bucket, "eu-west-1", Credentials::DefaultChain);
        config.endpoint_url = endpoint.map(|url| url.parse().unwrap());
        config
    }

    fn uri(config: &BucketConfig, key: &str) -> String {
        Endpoint::resolve(config)
            .unwrap()
            .uri(Some(key), &[])
            .unwrap()
            .to_string()
    }

    #[test]
    fn the_bucket_goes_into_the_host_on_aws_and_into_the_path_elsewhere() {
        assert_eq!(
            uri(&config("photos", None), "a"),
            "https://photos.s3.eu-west-1.amazonaws.com/a"
        );
        assert_eq!(
            uri(&config("my.photos", None), "a"),
            "https://s3.eu-west-1.amazonaws.com/my.photos/a"
        );
        let local = Some("http://127.0.0.1:9000");
        assert_eq!(
            uri(&config("photos", local), "a"),
            "http://127.0.0.1:9000/photos/a"
        );
        let mut named = config("photos", Some("https://store.example:8443"));
        named.addressing = Addressing::VirtualHost;
        assert_eq!(uri(&named, "a"), "https://photos.store.example:8443/a");
        let mut china = config("photos", None);
        china.region = "cn-north-1".to_owned();
        assert_eq!(
            uri(&china, "a"),
            "https://photos.s3.cn-north-1.amazonaws.com.cn/a"
        );
    }

    #[test]
    fn every_byte_of_a_key_is_encoded_but_the_unreserved_and_slashes() {
        let config = config("photos", Some("http://127.0.0.1:9000"));
        let path = |key| uri(&config, key).split_off("http://127.0.0.1:9000/photos/".len());
        assert_eq!(path("a b/c+d%20#?&="), "a%20b/c%2Bd%2520%23%3F%26%3D");
        assert_eq!(path("\"quoted\"'s"), "%22quoted%22%27s");
        assert_eq!(path("é\u{1f600}"), "%C3%A9%F0%9F%98%80");
        assert_eq!(path("e\u{301}"), "e%CC%81");
        assert_eq!(path("dots./..x/-_~"), "dots./..x/-_~");
        assert_eq!(path("a/../b/./c"), "a/../b/./c");
        assert_eq!(
            path("!*()@:,;$[]{}|^`<>\\"),
            "%21%2A%28%29%40%3A%2C%3B%24%5B%5D%7B%7D%7C%5E%60%3C%3E%5C"
        );
    }

    #[test]
    fn a_query_is_encoded_value_by_value() {
        let endpoint = Endpoint::resolve(&config("photos", Some("http://127.0.0.1:9000"))).unwrap();
        let uri = endpoint
            .uri(None, &[("list-type", "2"), ("prefix", "a b/+"), ("uploads", "")])
            .unwrap();
        assert_eq!(
            uri,
            "http://127.0.0.1:9000/photos/?list-type=2&prefix=a%20b%2F%2B&uploads="
        );
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for bucket in ["", "ab", "Photos", "a/b", "a..b", "-ab", "ab-", &"a".repeat(64)] {
            assert!(
                matches!(
                    Endpoint::resolve(&config(bucket, None)),
                    Err(ConfigError::Bucket(_))
                ),
                "{bucket}"
            );
        }
        for url in [
            "ftp://host",
            "https://user:secret@host",
            "https://host/path",
            "https://host/?query",
            "file:///etc",
        ] {
            let error = Endpoint::resolve(&config("photos", Some(url))).unwrap_err();
            assert!(matches!(error, ConfigError::Endpoint { .. }), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
        let mut config = config("photos", None);
        config.region = "eu west".to_owned();
        assert!(matches!(Endpoint::resolve(&config), Err(ConfigError::Region(_))));
    }

    #[test]
    fn only_tls_and_loopback_protect_the_payload() {
        let protects = |url| {
            Endpoint::resolve(&config("photos", Some(url)))
                .unwrap()
                .protects_payload()
        };
        assert!(protects("https://store.example"));
        assert!(protects("http://127.0.0.1:9000"));
        assert!(protects("http://[::1]:9000"));
        assert!(protects("http://localhost:9000"));
        assert!(!protects("http://store.example"));
        assert!(!protects("http://10.0.0.1"));
        assert!(!protects("http://localhost.example"));
    }
}
