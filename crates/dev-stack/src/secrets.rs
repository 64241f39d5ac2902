//! Fresh secrets of the kinds the product is configured with.

use std::fmt::Write as _;

use anyhow::anyhow;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A new RSA key of 2,048 bits for `JWT_PRIVATE_KEY_FILE`: PKCS#8 as PEM.
///
/// # Errors
/// When there is no randomness to be had.
pub fn signing_key_pem() -> anyhow::Result<String> {
    let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("cannot make an RSA key"))?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(|_| anyhow!("cannot encode an RSA key"))?;
    let text = BASE64.encode(der.as_ref());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        // Writing to a String cannot fail.
        let _ = writeln!(pem, "{line}");
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

/// 32 random bytes in base64, for `SECRETS_KEY`.
pub fn secrets_key() -> String {
    BASE64.encode(rand::random::<[u8; 32]>())
}

/// A password that needs no quoting anywhere.
pub fn password() -> String {
    hex::encode(rand::random::<[u8; 12]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_shape_they_should() {
        let pem = signing_key_pem().unwrap();
        assert!(pem.lines().all(|line| line.len() <= 64));
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        assert!(KeyPair::from_pkcs8(&BASE64.decode(body).unwrap()).is_ok());
        assert_eq!(BASE64.decode(secrets_key()).unwrap().len(), 32);
        assert_ne!(secrets_key(), secrets_key());
    }
}
