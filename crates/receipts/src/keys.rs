//! Ed25519 keys: they sign receipts, and tell who signed one.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;

const KEY_LEN: usize = 32;
const SIGNATURE_LEN: usize = 64;
/// What comes before the 32 bytes of an Ed25519 key in a `SubjectPublicKeyInfo` (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No text form of a public key.
    #[error("not an Ed25519 public key: give 32 bytes in base64, or PEM (BEGIN PUBLIC KEY)")]
    NotPublic,
    /// No private key, or not the one of that public key.
    #[error("not the private key that belongs to this public key")]
    NotPrivate,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// A signature, 64 bytes.
pub type Signature = [u8; SIGNATURE_LEN];

/// A key that tells whether a receipt was signed with its private half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::NotPublic`] for another number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes.try_into().map(Self).map_err(|_| KeyError::NotPublic)
    }

    /// From text: 32 bytes in base64, or a `SubjectPublicKeyInfo` in PEM as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`KeyError::NotPublic`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let is_pem =
            text.starts_with("-----BEGIN PUBLIC KEY-----") && text.ends_with("-----END PUBLIC KEY-----");
        let body: String = if is_pem {
            text.lines()
                .filter(|line| !line.starts_with("-----"))
                .map(str::trim)
                .collect()
        } else {
            text.to_owned()
        };
        let bytes = BASE64.decode(body).map_err(|_| KeyError::NotPublic)?;
        if is_pem {
            return Self::from_bytes(bytes.strip_prefix(&SPKI_PREFIX).ok_or(KeyError::NotPublic)?);
        }
        Self::from_bytes(&bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The 32 bytes in base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.0)
    }

    /// As other tools take it: a `SubjectPublicKeyInfo` in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let body = BASE64.encode([SPKI_PREFIX.as_slice(), &self.0].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    /// A short name that only this key has: the first 8 bytes of its SHA-256 in hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = hex::encode(digest(&SHA256, &self.0));
        id.truncate(16);
        id
    }

    /// Whether `signature` is of `message` by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_base64())
    }
}

/// The private half. Its `Debug` shows the public one.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new private key, to be kept secret: its 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn new_seed() -> Result<[u8; KEY_LEN], KeyError> {
        let mut seed = [0; KEY_LEN];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| KeyError::NoRandomness)?;
        Ok(seed)
    }

    /// From the 32 bytes of a private key.
    ///
    /// # Errors
    /// [`KeyError::NotPrivate`] for another number of bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(Self)
            .map_err(|_| KeyError::NotPrivate)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; KEY_LEN];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs. The same message gives the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public_key())
    }
}
