//! Starting and stopping: the schema, the first admin, the server, and a clean end.

use crate::first_admin::{self, FirstAdminError};
use crate::server;
use crate::state::{State, StateError};
use actix_web::web;
use database::migrate::MigrateError;
use identity::PasswordProblem;
use secrecy::{ExposeSecret as _, SecretString};
use settings::{Gateway, Migration};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// How long Postgres may be away when a gateway starts, and when it is asked again.
#[derive(Clone, Copy)]
struct Patience {
    limit: Duration,
    pause: Duration,
}
const PATIENCE: Patience = Patience {
    limit: Duration::from_secs(30),
    pause: Duration::from_secs(2),
};

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error("LISTEN_ADDR: cannot listen on {address}: {cause}")]
    Listen {
        address: std::net::SocketAddr,
        cause: std::io::Error,
    },
    #[error("INITIAL_ADMIN_PASSWORD {0}")]
    InitialAdminPassword(PasswordProblem),
    #[error("the first admin cannot be made: {0}")]
    FirstAdmin(#[from] FirstAdminError),
    #[error("the server failed: {0}")]
    Server(#[from] std::io::Error),
}

impl StartError {
    /// Whether a person must change the configuration.
    pub(crate) fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::State(StateError::SigningKey(_) | StateError::SecretsKey(_) | StateError::Queue(_))
                | Self::InitialAdminPassword(_)
        )
    }

    /// Whether the same may succeed later without anybody changing anything.
    fn may_pass(&self) -> bool {
        match self {
            Self::Migrate(MigrateError::Connect { .. }) => true,
            Self::Migrate(MigrateError::Database(error))
            | Self::FirstAdmin(FirstAdminError::Database(error)) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// Brings the schema up to date.
pub(crate) async fn migrate(settings: Migration) -> Result<(), StartError> {
    let apply = async || apply_migrations(&settings.database_url, &settings.runtime_database_url).await;
    patiently(PATIENCE, apply).await
}

/// Serves until told to stop.
pub(crate) async fn serve(settings: Gateway) -> Result<(), StartError> {
    if let Some(password) = &settings.initial_admin_password {
        identity::passwords::check(password.expose_secret()).map_err(StartError::InitialAdminPassword)?;
    }
    let listen = |cause| StartError::Listen {
        address: settings.listen_addr,
        cause,
    };
    let listener = TcpListener::bind(settings.listen_addr).map_err(listen)?;
    let public_url = settings.public_url(listener.local_addr().map_err(listen)?);
    let state = web::Data::new(State::new(&settings, &public_url).await?);

    let mut first_admin = None;
    patiently(PATIENCE, async || {
        apply_migrations(&settings.migration_database_url, &settings.database_url).await?;
        let given = settings.initial_admin_password.as_ref();
        first_admin::ensure(&state, given, &mut first_admin).await?;
        Ok(())
    })
    .await
    .inspect_err(|error| tracing::error!("{error}"))?;

    let server = server::serve(state.clone(), listener)?;
    let handle = server.handle();
    let stopping = state.stopping.clone();
    actix_web::rt::spawn(async move {
        wait_for_signal().await;
        tracing::info!("stopping");
        // Streams first: they would keep the server from coming to its end.
        stopping.cancel();
        handle.stop(true).await;
    });
    tracing::info!(address = %public_url, "serving");
    server.await?;
    tracing::info!("stopped");
    Ok(())
}

/// Does what needs Postgres, which may be starting, too, or go away in the middle. It is safe to do it again.
async fn patiently(
    patience: Patience,
    mut step: impl AsyncFnMut() -> Result<(), StartError>,
) -> Result<(), StartError> {
    let mut away_since = None;
    loop {
        match step().await {
            Err(error)
                if error.may_pass()
                    && away_since.get_or_insert_with(Instant::now).elapsed() < patience.limit =>
            {
                tracing::warn!("Postgres cannot be reached; trying again: {error}");
                tokio::time::sleep(patience.pause).await;
            }
            outcome => return outcome,
        }
    }
}

async fn apply_migrations(owner_url: &SecretString, runtime_url: &SecretString) -> Result<(), StartError> {
    let (owner, runtime) = (
        owner_url.expose_secret().to_owned(),
        runtime_url.expose_secret().to_owned(),
    );
    let report = database::migrate::migrate(owner, runtime).await?;
    tracing::info!(applied = report.applied.len(), "the schema is up to date");
    Ok(())
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; the gateway will not end cleanly");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::DatabaseError;

    const LONG: Patience = Patience {
        limit: Duration::from_secs(3600),
        pause: Duration::ZERO,
    };
    const SHORT: Patience = Patience {
        limit: Duration::from_millis(50),
        pause: Duration::from_millis(1),
    };

    /// How often a step is tried that fails like this, the third time succeeds, and what it comes to.
    async fn tried(error: impl Fn() -> StartError) -> (u32, Result<(), StartError>) {
        let mut times = 0;
        let outcome = patiently(LONG, async || {
            times += 1;
            if times < 3 { Err(error()) } else { Ok(()) }
        });
        let outcome = outcome.await;
        (times, outcome)
    }

    fn away() -> DatabaseError {
        DatabaseError::Unavailable("connection closed".to_owned())
    }

    #[tokio::test]
    async fn postgres_may_go_away_at_any_step_of_the_start() {
        let (times, outcome) = tried(|| MigrateError::Database(away()).into()).await;
        assert!(times == 3 && outcome.is_ok(), "{times}, {outcome:?}");
        let (times, outcome) = tried(|| FirstAdminError::from(away()).into()).await;
        assert!(times == 3 && outcome.is_ok(), "{times}, {outcome:?}");
    }

    #[tokio::test]
    async fn what_does_not_pass_ends_the_start_at_once() {
        let failed = || MigrateError::Migration("it does not apply".to_owned()).into();
        let (times, outcome) = tried(failed).await;
        assert!(times == 1 && outcome.is_err(), "{times}, {outcome:?}");
    }

    #[tokio::test]
    async fn postgres_is_not_waited_for_without_end() {
        let outcome = patiently(SHORT, async || Err(MigrateError::Database(away()).into())).await;
        assert!(outcome.is_err());
    }
}
