//! The server's address.

use crate::problem::Failure;
use anyhow::Result;
use url::Url;

/// Reads an address; only those of HTTP servers are any.
pub(super) fn parse_base(text: &str) -> Result<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            Failure::usage(format!(
                "{text:?} is no server address; give http(s)://HOST[:PORT]"
            ))
        })
}

/// Whether nothing sent there leaves this machine.
pub(super) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_addresses_are_servers() {
        for text in ["", "localhost:8000", "ftp://example.org", "http://"] {
            assert!(parse_base(text).is_err(), "{text:?} was taken");
        }
        assert!(parse_base("http://127.0.0.1:8000").is_ok());
    }
}
