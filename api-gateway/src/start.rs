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

/// How long Postgres may take to appear when a gateway starts.
const POSTGRES_PATIENCE: Duration = Duration::from_secs(30);
const POSTGRES_PAUSE: Duration = Duration::from_secs(2);

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
}

/// Brings the schema up to date.
pub(crate) async fn migrate(settings: Migration) -> Result<(), StartError> {
    migrate_patiently(&settings.database_url, &settings.runtime_database_url).await
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

    migrate_patiently(&settings.migration_database_url, &settings.database_url).await?;
    first_admin::ensure(&state, settings.initial_admin_password.as_ref())
        .await
        .inspect_err(|error| tracing::error!(%error, "the first admin cannot be made"))?;

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

/// Postgres may be starting, too: it is waited for a while.
async fn migrate_patiently(owner_url: &SecretString, runtime_url: &SecretString) -> Result<(), StartError> {
    let begun = Instant::now();
    loop {
        let (owner, runtime) = (
            owner_url.expose_secret().to_owned(),
            runtime_url.expose_secret().to_owned(),
        );
        match database::migrate::migrate(owner, runtime).await {
            Ok(report) => {
                tracing::info!(
                    applied = report.applied.len(),
                    partitions_made = report.partitions_made,
                    "the schema is up to date"
                );
                return Ok(());
            }
            Err(MigrateError::Connect { variable, cause }) if begun.elapsed() < POSTGRES_PATIENCE => {
                tracing::warn!(variable, cause, "Postgres cannot be reached; trying again");
                tokio::time::sleep(POSTGRES_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
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
