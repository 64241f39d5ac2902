//! Stored secrets: AES-256-GCM, bound to where they belong.
//!
//! A sealed value is `version (1) | key id (4) | nonce (12) | ciphertext and tag`. All that comes before the
//! ciphertext, and the context (company and project), is authenticated: a value moved to another row does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{CompanyId, ProjectId};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// Something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not 32 bytes in base64.
    #[error("the sealing key must be 32 bytes in base64")]
    BadKey,
    /// Sealed with another key.
    #[error("the stored secret was sealed with another key")]
    OtherKey,
    /// No sealed value, tampered with, or one that belongs elsewhere.
    #[error("the stored secret cannot be opened: it is damaged or belongs elsewhere")]
    Damaged,
    /// Encryption failed.
    #[error("the secret could not be sealed")]
    Failed,
}

/// The installation's key (`SECRETS_KEY`). Its `Debug` shows its id alone.
pub struct SecretsKey {
    key: LessSafeKey,
    id: [u8; KEY_ID_LEN],
}

impl std::fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretsKey({:02x?})", self.id)
    }
}

impl SecretsKey {
    /// The key of 32 bytes in base64.
    ///
    /// # Errors
    /// [`SealError::BadKey`].
    pub fn from_base64(text: &SecretString) -> Result<Self, SealError> {
        let bytes = STANDARD
            .decode(text.expose_secret())
            .map_err(|_| SealError::BadKey)?;
        let unbound = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::BadKey)?;
        let mut context = Context::new(&SHA256);
        context.update(b"data-uploader key id");
        context.update(&bytes);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&context.finish().as_ref()[..KEY_ID_LEN]);
        Ok(Self {
            key: LessSafeKey::new(unbound),
            id,
        })
    }

    /// Seals `plaintext` so that it opens with the same `context` alone.
    ///
    /// # Errors
    /// [`SealError::Failed`].
    pub fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = Vec::with_capacity(HEADER_LEN + plaintext.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        let aad = Aad::from([&sealed, context].concat());
        let mut body = plaintext.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .map_err(|_| SealError::Failed)?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what [`SecretsKey::seal`] made with the same `context`.
    ///
    /// # Errors
    /// [`SealError::OtherKey`] or [`SealError::Damaged`].
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        let (header, body) = sealed.split_at_checked(HEADER_LEN).ok_or(SealError::Damaged)?;
        if header[0] != VERSION {
            return Err(SealError::Damaged);
        }
        if header[1..=KEY_ID_LEN] != self.id {
            return Err(SealError::OtherKey);
        }
        let nonce =
            Nonce::try_assume_unique_for_key(&header[1 + KEY_ID_LEN..]).map_err(|_| SealError::Damaged)?;
        let mut body = body.to_vec();
        let aad = Aad::from([header, context].concat());
        let plaintext = self
            .key
            .open_in_place(nonce, aad, &mut body)
            .map_err(|_| SealError::Damaged)?;
        Ok(plaintext.to_vec())
    }
}

/// Seals the private key that signs the receipts of one company.
///
/// # Errors
/// [`SealError::Failed`].
pub fn seal_receipt_key(
    key: &SecretsKey,
    company: CompanyId,
    id: Uuid,
    private_key: &[u8],
) -> Result<Vec<u8>, SealError> {
    key.seal(private_key, &receipt_key_context(company, id))
}

/// Opens what [`seal_receipt_key`] made for the same company and key.
///
/// # Errors
/// [`SealError::OtherKey`] or [`SealError::Damaged`].
pub fn open_receipt_key(
    key: &SecretsKey,
    company: CompanyId,
    id: Uuid,
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    key.open(sealed, &receipt_key_context(company, id))
}

fn receipt_key_context(company: CompanyId, id: Uuid) -> Vec<u8> {
    [b"receipt-key".as_slice(), company.0.as_bytes(), id.as_bytes()].concat()
}

/// The S3 keys of a project. `Debug` shows the access key's id, never the secrets.
#[derive(Clone, Debug)]
pub struct ProjectCredentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: SecretString,
    /// With temporary keys.
    pub session_token: Option<SecretString>,
}

/// How they are written before sealing.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    access_key_id: std::borrow::Cow<'a, str>,
    secret_access_key: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_token: Option<std::borrow::Cow<'a, str>>,
}

impl ProjectCredentials {
    /// Seals them for one project of one company.
    ///
    /// # Errors
    /// [`SealError::Failed`].
    pub fn seal(
        &self,
        key: &SecretsKey,
        company: CompanyId,
        project: ProjectId,
    ) -> Result<Vec<u8>, SealError> {
        let stored = Stored {
            access_key_id: self.access_key_id.as_str().into(),
            secret_access_key: self.secret_access_key.expose_secret().into(),
            session_token: self
                .session_token
                .as_ref()
                .map(|token| token.expose_secret().into()),
        };
        let plaintext = serde_json::to_vec(&stored).map_err(|_| SealError::Failed)?;
        key.seal(&plaintext, &context(company, project))
    }

    /// Opens what [`ProjectCredentials::seal`] made for the same project.
    ///
    /// # Errors
    /// [`SealError::OtherKey`] or [`SealError::Damaged`].
    pub fn open(
        sealed: &[u8],
        key: &SecretsKey,
        company: CompanyId,
        project: ProjectId,
    ) -> Result<Self, SealError> {
        let plaintext = key.open(sealed, &context(company, project))?;
        let stored: Stored<'_> = serde_json::from_slice(&plaintext).map_err(|_| SealError::Damaged)?;
        Ok(Self {
            access_key_id: stored.access_key_id.into_owned(),
            secret_access_key: stored.secret_access_key.as_ref().into(),
            session_token: stored.session_token.map(|token| token.as_ref().into()),
        })
    }
}

/// Both ids have a fixed length, so no two pairs give the same bytes.
fn context(company: CompanyId, project: ProjectId) -> Vec<u8> {
    [
        b"project-credentials".as_slice(),
        company.0.as_bytes(),
        project.0.as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretsKey {
        SecretsKey::from_base64(&STANDARD.encode([byte; 32]).into()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_its_context_alone() {
        let sealed = key(1).seal(b"secret", b"here").unwrap();
        assert_eq!(key(1).open(&sealed, b"here").unwrap(), b"secret");
        assert_eq!(key(1).open(&sealed, b"there"), Err(SealError::Damaged));
        assert_eq!(key(1).open(&sealed, b""), Err(SealError::Damaged));
        assert_eq!(key(2).open(&sealed, b"here"), Err(SealError::OtherKey));
        assert_ne!(
            key(1).seal(b"secret", b"here").unwrap(),
            sealed,
            "a fresh nonce each time"
        );
    }

    #[test]
    fn each_changed_byte_is_noticed() {
        let sealed = key(1).seal(b"secret", b"here").unwrap();
        for index in 0..sealed.len() {
            let mut tampered = sealed.clone();
            tampered[index] ^= 1;
            assert!(key(1).open(&tampered, b"here").is_err(), "byte {index}");
        }
        for len in 0..sealed.len() {
            assert_eq!(
                key(1).open(&sealed[..len], b"here"),
                Err(SealError::Damaged),
                "cut to {len}"
            );
        }
    }

    #[test]
    fn another_key_with_the_same_id_does_not_open() {
        let other = SecretsKey {
            id: key(1).id,
            ..key(2)
        };
        let sealed = key(1).seal(b"secret", b"here").unwrap();
        assert_eq!(other.open(&sealed, b"here"), Err(SealError::Damaged));
    }

    #[test]
    fn credentials_open_for_their_project_alone() {
        let (company, project) = (CompanyId::new(), ProjectId::new());
        let credentials = ProjectCredentials {
            access_key_id: "AK".into(),
            secret_access_key: "s3cret \"quoted\" ü".into(),
            session_token: Some("token".into()),
        };
        let sealed = credentials.seal(&key(1), company, project).unwrap();
        let opened = ProjectCredentials::open(&sealed, &key(1), company, project).unwrap();
        assert_eq!(opened.access_key_id, "AK");
        assert_eq!(opened.secret_access_key.expose_secret(), "s3cret \"quoted\" ü");
        assert_eq!(opened.session_token.unwrap().expose_secret(), "token");
        for (company, project) in [(CompanyId::new(), project), (company, ProjectId::new())] {
            let error = ProjectCredentials::open(&sealed, &key(1), company, project).unwrap_err();
            assert_eq!(error, SealError::Damaged);
        }
        assert!(!sealed.windows(6).any(|bytes| bytes == b"s3cret"));
        assert!(!format!("{credentials:?}").contains("s3cret"));
    }

    #[test]
    fn a_receipt_key_opens_for_its_company_and_id_alone() {
        let (company, id) = (CompanyId::new(), Uuid::now_v7());
        let sealed = seal_receipt_key(&key(1), company, id, &[5; 32]).unwrap();
        assert_eq!(open_receipt_key(&key(1), company, id, &sealed).unwrap(), [5; 32]);
        for (company, id) in [(CompanyId::new(), id), (company, Uuid::now_v7())] {
            assert_eq!(
                open_receipt_key(&key(1), company, id, &sealed),
                Err(SealError::Damaged)
            );
        }
        assert_eq!(
            open_receipt_key(&key(2), company, id, &sealed),
            Err(SealError::OtherKey)
        );
    }

    #[test]
    fn keys_have_32_bytes() {
        for text in [
            "",
            "AAAA",
            "no base64!",
            &STANDARD.encode([1; 31]),
            &STANDARD.encode([1; 33]),
        ] {
            assert_eq!(
                SecretsKey::from_base64(&text.into()).unwrap_err(),
                SealError::BadKey,
                "{text}"
            );
        }
    }
}
