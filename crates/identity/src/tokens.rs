//! Access tokens: JSON Web Tokens signed with RS256, and nothing else.
//!
//! A verifier takes the algorithm and the key from itself, never from the token: a token that names another
//! algorithm, an unknown `kid`, a critical extension or a key of its own is refused. The time is an argument.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{CompanyId, Role, UserId};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long an access token may be used.
pub const LIFETIME: TimeDelta = TimeDelta::minutes(30);
/// How far the clock of the gateway that signed may be ahead.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(5);
/// For whom tokens are made.
pub const AUDIENCE: &str = "data-uploader";

/// Whom a token speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The person.
    pub user_id: UserId,
    /// The company they work in with this token.
    pub company_id: CompanyId,
    /// Their role at that moment, as a hint: what they may do is looked up with each request.
    pub role: Option<Role>,
    /// The family of refresh tokens this sign-in has.
    pub sign_in_id: Uuid,
}

/// What a token says. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The gateway, by its public URL.
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// The person.
    pub sub: UserId,
    /// The company they work in.
    pub company: CompanyId,
    /// Their role when it was signed: a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The sign-in (family of refresh tokens).
    pub sid: Uuid,
    /// When it was signed.
    pub iat: i64,
    /// From when it is valid.
    pub nbf: i64,
    /// Until when it is valid.
    pub exp: i64,
    /// Its own id.
    pub jti: Uuid,
}

/// A signed token.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// For the client.
    pub text: String,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// The same in seconds from its making, for `expires_in`.
    pub expires_in_s: i64,
}

/// Why a token is not accepted. For logs: clients hear one answer for all of them.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Signed with a key that is not (or no longer) known, or by none.
    #[error("the token names no known key")]
    UnknownKey,
    /// It brings a key of its own, or extensions that must be understood.
    #[error("the token has a header that is not allowed: {0}")]
    HeaderNotAllowed(&'static str),
    /// Unreadable, forged, for somebody else.
    #[error("the token is invalid: {0}")]
    Invalid(#[source] jsonwebtoken::errors::Error),
}

/// A signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No RSA private key of at least 2,048 bits.
    #[error("no usable RSA private key in PEM (at least 2,048 bits): {0}")]
    Unusable(#[source] jsonwebtoken::errors::Error),
    /// Making one failed.
    #[error("no RSA key could be generated")]
    NotGenerated,
}

/// Signs tokens.
#[derive(Clone)]
pub struct TokenSigner {
    key: EncodingKey,
    public_key: Jwk,
    key_id: String,
    issuer: String,
}

impl TokenSigner {
    /// With an RSA private key (PKCS#8 or PKCS#1 PEM), in the name of `issuer` (the gateway's public URL).
    ///
    /// # Errors
    /// [`KeyError::Unusable`].
    pub fn from_pem(pem: &SecretString, issuer: &str) -> Result<Self, KeyError> {
        let key = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes()).map_err(KeyError::Unusable)?;
        let mut public_key = Jwk::from_encoding_key(&key, Algorithm::RS256).map_err(KeyError::Unusable)?;
        let key_id = public_key
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(KeyError::Unusable)?;
        public_key.common.key_id = Some(key_id.clone());
        public_key.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            key,
            public_key,
            key_id,
            issuer: issuer.to_owned(),
        })
    }

    /// A token for `subject` that is valid from `now` for [`LIFETIME`].
    ///
    /// # Errors
    /// [`TokenError::Invalid`] where signing fails.
    pub fn issue(&self, subject: &Subject, now: DateTime<Utc>) -> Result<AccessToken, TokenError> {
        let expires_at = now + LIFETIME;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: subject.user_id,
            company: subject.company_id,
            role: subject.role,
            sid: subject.sign_in_id,
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: expires_at.timestamp(),
            jti: Uuid::new_v4(),
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        let text = jsonwebtoken::encode(&header, &claims, &self.key).map_err(TokenError::Invalid)?;
        Ok(AccessToken {
            text,
            expires_at,
            expires_in_s: LIFETIME.num_seconds(),
        })
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &Jwk {
        &self.public_key
    }

    /// A verifier for this signer's tokens.
    ///
    /// # Errors
    /// [`KeyError::Unusable`].
    pub fn verifier(&self) -> Result<TokenVerifier, KeyError> {
        TokenVerifier::new(&self.issuer, std::slice::from_ref(&self.public_key))
    }
}

/// Accepts the tokens of known keys.
#[derive(Clone)]
pub struct TokenVerifier {
    keys: BTreeMap<String, DecodingKey>,
    published: JwkSet,
    rules: Validation,
}

impl TokenVerifier {
    /// With the public keys of [`TokenSigner::public_key`]: the present one and those it replaces or is replaced by.
    ///
    /// # Errors
    /// [`KeyError::Unusable`].
    pub fn new(issuer: &str, public_keys: &[Jwk]) -> Result<Self, KeyError> {
        let mut keys = BTreeMap::new();
        for jwk in public_keys {
            let id = jwk
                .thumbprint(ThumbprintHash::SHA256)
                .map_err(KeyError::Unusable)?;
            keys.insert(id, DecodingKey::from_jwk(jwk).map_err(KeyError::Unusable)?);
        }
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_issuer(&[issuer]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Checked in `verify`, against its argument instead of the clock.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        Ok(Self {
            keys,
            published: JwkSet {
                keys: public_keys.to_vec(),
            },
            rules,
        })
    }

    /// What a token says, where it is valid at `now`.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(TokenError::Invalid)?;
        for (name, is_present) in [
            ("jwk", header.jwk.is_some()),
            ("jku", header.jku.is_some()),
            ("x5u", header.x5u.is_some()),
            ("x5c", header.x5c.is_some()),
            ("crit", header.crit.is_some()),
        ] {
            if is_present {
                return Err(TokenError::HeaderNotAllowed(name));
            }
        }
        let key = header
            .kid
            .and_then(|id| self.keys.get(&id))
            .ok_or(TokenError::UnknownKey)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.rules)
            .map_err(TokenError::Invalid)?
            .claims;
        if claims.exp <= now.timestamp() {
            return Err(TokenError::Expired);
        }
        if claims.nbf.max(claims.iat) > (now + CLOCK_TOLERANCE).timestamp() {
            return Err(TokenError::NotYetValid);
        }
        Ok(claims)
    }

    /// The public keys, for `/.well-known/jwks.json`.
    #[must_use]
    pub fn jwks(&self) -> &JwkSet {
        &self.published
    }
}

/// A new RSA key of 2,048 bits, as PKCS#8 PEM.
///
/// # Errors
/// [`KeyError::NotGenerated`].
pub fn generate_signing_key_pem() -> Result<SecretString, KeyError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::NotGenerated)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::NotGenerated)?;
    let text = STANDARD.encode(der.as_ref());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = left;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem.into())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
