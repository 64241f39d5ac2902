//! The first start: where nobody was ever entered, a platform admin `admin`, owner of the company `DEFAULT`.

use crate::state::State;
use database::accounts::{self, NewUser};
use database::{DatabaseError, companies};
use domain::Role;
use identity::PasswordError;
use secrecy::{ExposeSecret as _, SecretString};

const USERNAME: &str = "admin";

/// Why there is no first admin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstAdminError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// Makes the first admin if there is nobody at all. Without a given password, a random one is printed once and must
/// be changed at the first sign-in. Gateways that start together make one.
pub(crate) async fn ensure(state: &State, given: Option<&SecretString>) -> Result<(), FirstAdminError> {
    let has_users = state
        .database
        .system(async |conn| accounts::any_user(conn).await)
        .await?;
    if has_users {
        return Ok(());
    }
    let password = given.map_or_else(identity::one_time_password, |given| {
        given.expose_secret().to_owned()
    });
    let password_hash = state.passwords.hash(&password).await?;
    let must_change_password = given.is_none();
    let is_made = state
        .database
        .system(async move |conn| {
            accounts::lock_first_start(conn).await?;
            if accounts::any_user(conn).await? {
                return Ok(false);
            }
            let company = companies::create(conn, "Default company", "DEFAULT", None).await?;
            let admin = NewUser {
                username: USERNAME,
                email: "admin@localhost",
                full_name: "Administrator",
                password_hash: &password_hash,
                is_platform_admin: true,
                must_change_password,
            };
            let user_id = accounts::create_user(conn, &admin).await?;
            accounts::add_membership(conn, company.id, user_id, Role::Owner).await?;
            Ok::<_, DatabaseError>(true)
        })
        .await?;
    if is_made && must_change_password {
        announce(&password);
    } else if is_made {
        tracing::info!(
            username = USERNAME,
            "made the first admin, with INITIAL_ADMIN_PASSWORD"
        );
    }
    Ok(())
}

/// On standard output, not in the log: logs are kept and read by many.
#[allow(clippy::print_stdout, reason = "the one place where a person can read it")]
fn announce(password: &str) {
    println!(
        "First start: sign in as {USERNAME:?} with the one-time password {password:?}; it must be changed then."
    );
}
