//! What requests are authorized with, and the renewal of the sign-in: one command at a time, under the lock of
//! the configuration file.

use super::Client;
use crate::config::Config;
use crate::problem::Failure;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use url::Url;

/// What the requests are authorized with.
pub(super) enum Credential {
    None {
        reason: String,
    },
    /// From `UPLOADER_TOKEN`: used as it is, never renewed or saved.
    Given(String),
    /// The access token of the configuration file.
    Saved(String),
}

impl Client {
    pub(super) async fn token(&self) -> Result<String> {
        match &*self.credential.lock().await {
            Credential::Given(token) | Credential::Saved(token) => Ok(token.clone()),
            Credential::None { reason } => Err(Failure::NotSignedIn {
                reason: reason.clone(),
            }
            .into()),
        }
    }

    /// Gets a new access token in place of `used`. None where there is nothing to renew with, or where the
    /// server does not take it: then the person has to sign in again.
    pub(super) async fn renew(&self, used: &str) -> Result<Option<String>> {
        let mut credential = self.credential.lock().await;
        if !matches!(*credential, Credential::Saved(_)) {
            return Ok(None);
        }
        let _lock = self.store.lock().await?;
        // Read again: another command may have renewed it while this one waited for the lock.
        let mut config = self.store.load()?;
        let (Some(access), Some(refresh)) = (config.access_token.clone(), config.refresh_token.clone())
        else {
            return Ok(None);
        };
        if !is_for(&config, &self.base) {
            return Ok(None);
        }
        if access != used {
            *credential = Credential::Saved(access.clone());
            return Ok(Some(access));
        }
        match self
            .post_anonymously(&["auth", "refresh"], json!({ "refresh_token": refresh }))
            .await
        {
            Ok(tokens) => {
                keep_tokens(&mut config, &tokens)?;
                self.store.save(&config)?;
                let access = config.access_token.unwrap_or_default();
                *credential = Credential::Saved(access.clone());
                Ok(Some(access))
            }
            Err(error) if !error.downcast_ref().is_some_and(Failure::is_refusal) => Err(error),
            Err(_) => {
                config.forget_sign_in();
                self.store.save(&config)?;
                let reason = format!("your sign-in at {} has ended", self.base());
                *credential = Credential::None {
                    reason: reason.clone(),
                };
                Err(Failure::NotSignedIn { reason }.into())
            }
        }
    }
}

/// Puts a pair of tokens, as the sign-in addresses answer with, into the configuration.
pub(crate) fn keep_tokens(config: &mut Config, tokens: &Value) -> Result<()> {
    let token = |name: &str| {
        tokens[name]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("the server gave no {name}"))
    };
    config.access_token = Some(token("access_token")?);
    config.refresh_token = Some(token("refresh_token")?);
    Ok(())
}

pub(super) fn saved_credential(config: &Config, base: &Url) -> Credential {
    let reason = match &config.access_token {
        Some(token) if is_for(config, base) => return Credential::Saved(token.clone()),
        Some(_) => format!(
            "you are not signed in at {} (the saved sign-in is for {})",
            base.as_str().trim_end_matches('/'),
            config.api_url.as_deref().unwrap_or("no server")
        ),
        None => format!("you are not signed in at {}", base.as_str().trim_end_matches('/')),
    };
    Credential::None { reason }
}

fn is_for(config: &Config, base: &Url) -> bool {
    let saved = config.api_url.as_deref().and_then(|text| Url::parse(text).ok());
    saved.is_some_and(|url| url.as_str().trim_end_matches('/') == base.as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_used_with_its_own_server_only() {
        let config = Config {
            api_url: Some("https://a.example/".into()),
            access_token: Some("secret".into()),
            ..Config::default()
        };
        let own = Url::parse("https://a.example").unwrap();
        let other = Url::parse("https://b.example").unwrap();
        assert!(matches!(saved_credential(&config, &own), Credential::Saved(_)));
        assert!(matches!(
            saved_credential(&config, &other),
            Credential::None { .. }
        ));
    }
}
