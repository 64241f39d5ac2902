//! What tells a page of ours from a page of others in requests that carry cookies: a token that only the former can
//! read, bound to the sign-in. It is worked out anew each time, and kept nowhere.

use crate::SealError;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

/// The key of all CSRF tokens of an installation. Its `Debug` shows nothing.
#[derive(Debug)]
pub struct CsrfKey(hmac::Key);

impl CsrfKey {
    /// Derived from the installation's key (`SECRETS_KEY`, in base64), so that all gateways have the same.
    ///
    /// # Errors
    /// [`SealError::BadKey`].
    pub fn derive(secrets_key: &SecretString) -> Result<Self, SealError> {
        let secret = STANDARD
            .decode(secrets_key.expose_secret())
            .map_err(|_| SealError::BadKey)?;
        let secret = Salt::new(HKDF_SHA256, b"data-uploader").extract(&secret);
        let key = secret.expand(&[b"csrf"], hmac::HMAC_SHA256);
        Ok(Self(key.map_err(|_| SealError::Failed)?.into()))
    }

    /// The token of a sign-in.
    #[must_use]
    pub fn token(&self, sign_in_id: Uuid) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, sign_in_id.as_bytes()))
    }

    /// Whether this is the token of the sign-in; takes the same time whatever is wrong with it.
    #[must_use]
    pub fn is_token_of(&self, sign_in_id: Uuid, token: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(token)
            .is_ok_and(|tag| hmac::verify(&self.0, sign_in_id.as_bytes(), &tag).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CsrfKey {
        CsrfKey::derive(&SecretString::from(STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn a_token_is_good_for_one_sign_in_of_one_installation() {
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let token = key(1).token(one);
        assert!(key(1).is_token_of(one, &token));
        assert!(!key(1).is_token_of(other, &token));
        assert!(!key(2).is_token_of(one, &token));
        for wrong in ["", "x", "=", &token[1..]] {
            assert!(!key(1).is_token_of(one, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_bad_key_is_refused() {
        let derived = CsrfKey::derive(&SecretString::from("no base64!"));
        assert_eq!(derived.unwrap_err(), SealError::BadKey);
    }
}
