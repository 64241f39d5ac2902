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

/// The password of an attempt to make the first admin. The next one needs it: that the first was committed may be
/// known to Postgres alone, and then nobody has been told the password.
pub(crate) struct Attempt {
    password: String,
    password_hash: String,
}

/// Makes the first admin if there is nobody at all. Without a given password, a random one is printed once and must
/// be changed at the first sign-in. Gateways that start together make one. `attempt` is that of an earlier call.
pub(crate) async fn ensure(
    state: &State,
    given: Option<&SecretString>,
    attempt: &mut Option<Attempt>,
) -> Result<(), FirstAdminError> {
    let must_change_password = given.is_none();
    let stored = state
        .database
        .system(async |conn| {
            let has_users = accounts::any_user(conn).await?;
            let admin = if has_users {
                accounts::credentials(conn, USERNAME).await?
            } else {
                None
            };
            Ok::<_, DatabaseError>((has_users, admin))
        })
        .await?;
    if let (true, admin) = stored {
        let is_ours =
            |attempt: &&mut Attempt| admin.is_some_and(|admin| admin.password_hash == attempt.password_hash);
        if let Some(attempt) = attempt.as_mut().filter(is_ours) {
            tell(&attempt.password, must_change_password);
        }
        return Ok(());
    }
    let Attempt {
        password,
        password_hash,
    } = match attempt {
        Some(attempt) => attempt,
        None => {
            let password = given.map_or_else(identity::one_time_password, |given| {
                given.expose_secret().to_owned()
            });
            let password_hash = state.passwords.hash(&password).await?;
            attempt.insert(Attempt {
                password,
                password_hash,
            })
        }
    };
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
                password_hash,
                is_platform_admin: true,
                must_change_password,
            };
            let user_id = accounts::create_user(conn, &admin).await?;
            accounts::add_membership(conn, company.id, user_id, Role::Owner).await?;
            Ok::<_, DatabaseError>(true)
        })
        .await?;
    if is_made {
        tell(password, must_change_password);
    }
    Ok(())
}

fn tell(password: &str, is_one_time: bool) {
    if is_one_time {
        announce(password);
    } else {
        tracing::info!(
            username = USERNAME,
            "made the first admin, with INITIAL_ADMIN_PASSWORD"
        );
    }
}

/// On standard output, not in the log: logs are kept and read by many.
#[allow(clippy::print_stdout, reason = "the one place where a person can read it")]
fn announce(password: &str) {
    println!(
        "First start: sign in as {USERNAME:?} with the one-time password {password:?}; it must be changed then."
    );
}
