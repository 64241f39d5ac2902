//! Who somebody is, and what stays secret: passwords, access and refresh tokens, sealed credentials.
//!
//! No database and no clock: rows are read and written elsewhere, and the time is an argument.

pub mod csrf;
pub mod one_time_password;
pub mod passwords;
pub mod refresh;
pub mod sealing;
pub mod tokens;

pub use csrf::CsrfKey;
pub use one_time_password::one_time_password;
pub use passwords::{PasswordError, PasswordProblem, Passwords};
pub use refresh::RefreshToken;
pub use sealing::{ProjectCredentials, SealError, SecretsKey};
pub use tokens::{
    AccessToken, Claims, KeyError, Subject, TokenError, TokenSigner, TokenVerifier, generate_signing_key_pem,
};
