//! What the fields of a project may hold. Every check notes what is wrong and goes on.

use super::Credentials;
use crate::error::Problems;
use domain::object_key::check_prefix;
use domain::storage_class::check_storage_class;
use secrecy::ExposeSecret as _;
use std::net::IpAddr;
use url::{Host, Url};

pub(super) fn name(name: &str, problems: &mut Problems) {
    text("/name", name, 1, 100, problems);
    if name.trim() != name {
        problems.add("/name", "invalid", "begins or ends with white space");
    }
}

pub(super) fn description(description: &str, problems: &mut Problems) {
    if description.chars().count() > 2000 {
        problems.add("/description", "too_long", "may have 2,000 characters");
    }
}

/// A text for one line: its length in characters, and no control characters.
fn text(pointer: &str, text: &str, min: usize, max: usize, problems: &mut Problems) {
    let count = text.chars().count();
    if count < min || count > max {
        problems.add(
            pointer,
            "invalid_length",
            format!("must have {min} to {max} characters"),
        );
    } else if text.chars().any(char::is_control) {
        problems.add(pointer, "invalid", "has control characters");
    }
}

/// Amazon's rules for new buckets; a store with an address of its own may have older or other ones.
pub(super) fn bucket(bucket: &str, has_endpoint: bool, problems: &mut Problems) {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || b".-".contains(&byte)
            || has_endpoint && (byte.is_ascii_uppercase() || byte == b'_')
    };
    let problem = if !(3..=63).contains(&bucket.len()) {
        "must have 3 to 63 characters"
    } else if !bucket.bytes().all(allowed) {
        "may have lower-case letters, digits, \".\" and \"-\""
    } else if !bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !bucket.ends_with(|c: char| c.is_ascii_alphanumeric())
    {
        "must begin and end with a letter or digit"
    } else if bucket.contains("..") || bucket.parse::<std::net::Ipv4Addr>().is_ok() {
        "must not have two dots in a row or look like an IP address"
    } else {
        return;
    };
    problems.add("/bucket", "invalid", problem);
}

pub(super) fn region(region: &str, problems: &mut Problems) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=64).contains(&region.len()) || !region.bytes().all(allowed) {
        problems.add(
            "/region",
            "invalid",
            "must have 1 to 64 letters, digits and \"-\", as in us-east-1",
        );
    }
}

/// The store's address. Names are looked at again when they are resolved.
pub(super) fn endpoint_url(text: &str, allow_private: bool, problems: &mut Problems) {
    if let Err(problem) = check_endpoint(text, allow_private) {
        problems.add("/endpoint_url", "invalid", problem);
    }
}

fn check_endpoint(text: &str, allow_private: bool) -> Result<(), &'static str> {
    if text.len() > 500 {
        return Err("may have 500 characters");
    }
    let url = Url::parse(text).map_err(|_| "must be a URL, as in https://s3.example.com")?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err("must begin with https://"),
        _ => return Err("must be a URL, as in https://s3.example.com"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a username or password; use credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or fragment");
    }
    let is_inner = match url.host() {
        None => return Err("must name a host"),
        Some(Host::Ipv4(ip)) => !storage::is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => !storage::is_public(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            ["localhost", "local", "internal", "localdomain"]
                .iter()
                .any(|inner| name == *inner || name.ends_with(&format!(".{inner}")))
        }
    };
    if is_inner && !allow_private {
        return Err("must be a public address; private, loopback, link-local and metadata ones are refused");
    }
    Ok(())
}

pub(super) fn prefix(prefix: &str, problems: &mut Problems) {
    if let Err(problem) = check_prefix(prefix) {
        problems.add("/prefix", "invalid", problem);
    }
}

pub(super) fn aws_profile(profile: &str, problems: &mut Problems) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=64).contains(&profile.len()) || !profile.bytes().all(allowed) {
        problems.add(
            "/aws_profile",
            "invalid",
            "must have 1 to 64 letters, digits, \"-\" and \"_\"",
        );
    }
}

pub(super) fn storage_class(class: &str, problems: &mut Problems) {
    if let Err(problem) = check_storage_class(class) {
        problems.add("/storage_class", "invalid", problem);
    }
}

pub(super) fn credentials(credentials: &Credentials, problems: &mut Problems) {
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let id = &credentials.access_key_id;
    if !(1..=256).contains(&id.len()) || !visible(id) {
        problems.add(
            "/credentials/access_key_id",
            "invalid",
            "must have 1 to 256 visible ASCII characters",
        );
    }
    let secret = credentials.secret_access_key.expose_secret();
    if !(1..=1024).contains(&secret.len()) || !visible(secret) {
        problems.add(
            "/credentials/secret_access_key",
            "invalid",
            "must have 1 to 1,024 visible ASCII characters",
        );
    }
    if let Some(token) = &credentials.session_token {
        let token = token.expose_secret();
        if token.len() > 8192 || !visible(token) {
            problems.add(
                "/credentials/session_token",
                "invalid",
                "must have at most 8,192 visible ASCII characters",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        let is_good = |name: &str, has_endpoint| {
            let mut problems = Problems::default();
            bucket(name, has_endpoint, &mut problems);
            problems.finish().is_ok()
        };
        for good in ["abc", "my.bucket-1", &"x".repeat(63)] {
            assert!(is_good(good, false), "{good}");
        }
        for bad in [
            "ab",
            "-abc",
            "abc-",
            "a..b",
            "192.168.1.1",
            "a/b",
            "a b",
            "Abc",
            "a_b",
            "",
            &"x".repeat(64),
        ] {
            assert!(!is_good(bad, false), "{bad}");
        }
        assert!(is_good("Old_Bucket", true));
        for bad in ["a/b", "a\nb", "../x", ""] {
            assert!(!is_good(bad, true), "{bad}");
        }
    }

    #[test]
    fn inner_addresses_are_for_those_who_allow_them() {
        for inner in [
            "http://127.0.0.1:9000",
            "https://127.0.0.1",
            "https://169.254.169.254/latest",
            "https://[::1]:9000",
            "https://[::ffff:10.0.0.1]",
            "https://0x7f.1",
            "https://localhost",
            "https://minio.internal.",
        ] {
            assert!(check_endpoint(inner, false).is_err(), "{inner}");
            assert_eq!(check_endpoint(inner, true), Ok(()), "{inner}");
        }
        assert_eq!(check_endpoint("https://s3.example.com", false), Ok(()));
        for bad in [
            "http://s3.example.com",
            "ftp://x",
            "s3.example.com",
            "https://",
            "//x",
        ] {
            assert!(check_endpoint(bad, false).is_err(), "{bad}");
        }
        for bad in ["https://u:p@x.com", "https://x.com/?a=b", "https://x.com/#a"] {
            assert!(check_endpoint(bad, true).is_err(), "{bad}");
        }
    }
}
