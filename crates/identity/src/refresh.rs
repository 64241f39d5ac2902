//! Refresh tokens: 256 random bits, of which the database keeps only the SHA-256.
//!
//! How they rotate (single use, in families, with a grace for the immediate predecessor) is decided where their
//! rows are; the times it needs are here.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};

/// How long a token may be used.
pub const LIFETIME: TimeDelta = TimeDelta::days(7);
/// How long a sign-in lasts at most, however often its token is renewed.
pub const FAMILY_LIFETIME: TimeDelta = TimeDelta::days(30);

/// Says what the text is, to people and to scanners for leaked secrets.
const PREFIX: &str = "upr_";
const RANDOM_BYTES: usize = 32;

/// A refresh token as the client holds it. Its `Debug` shows nothing.
#[derive(Clone, Debug)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let bytes: [u8; RANDOM_BYTES] = rand::random();
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).into())
    }

    /// What a client sent, where it looks like a refresh token at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        (bytes.len() == RANDOM_BYTES).then(|| Self(text.into()))
    }

    /// The text for the client, and for nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the database keeps: SHA-256 of the text.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        digest(&SHA256, self.expose().as_bytes()).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_generated_parses_to_the_same_hash() {
        let token = RefreshToken::generate();
        assert_eq!(token.expose().len(), 4 + 43);
        assert_eq!(RefreshToken::parse(token.expose()).unwrap().hash(), token.hash());
        assert_ne!(RefreshToken::generate().hash(), token.hash());
        assert_eq!(token.hash().len(), 32);
        assert!(!format!("{token:?}").contains(&token.expose()[4..]));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let token = RefreshToken::generate();
        for text in [
            "",
            "upr_",
            "upr_AAAA",
            &token.expose()[4..],
            &token.expose()[..46],
            "upl_x",
        ] {
            assert!(RefreshToken::parse(text).is_none(), "{text}");
        }
    }
}
