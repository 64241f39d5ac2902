//! The ledger of leftovers: multipart uploads that are open in a project's bucket, and what they belong to. Nothing of
//! it is stored here: the store is asked, and Postgres says who refers to what it lists.

mod abort;
mod list;

use crate::actor::Actor;
use crate::error::{ApiError, Code};
use crate::state::State;
use buckets::CannotOpen;
use database::{leftovers, projects};
use domain::{ProjectId, SessionErrorCode};
use std::time::Duration;
use storage::{Bucket, StorageError, StorageErrorKind};
use utoipa_actix_web::service_config::ServiceConfig;

/// Somebody waits: fewer attempts than for files.
const STORE_ATTEMPTS: u32 = 2;

pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list::list).service(abort::abort);
}

/// A project's bucket, and the prefixes of the project's own keys in it.
struct Place {
    bucket: Bucket,
    prefixes: Vec<String>,
}

impl Place {
    async fn of(state: &State, actor: &Actor, id: ProjectId) -> Result<Self, ApiError> {
        let (project, prefixes) = state
            .database
            .tenant(actor.company_id, async move |conn| {
                let project = projects::get(conn, id).await?;
                Ok::<_, ApiError>((project, leftovers::prefixes(conn, id).await?))
            })
            .await?;
        let bucket = state
            .buckets
            .of(actor.company_id, &project)
            .map_err(cannot_open)?;
        Ok(Self {
            bucket: bucket.with_max_attempts(STORE_ATTEMPTS),
            prefixes,
        })
    }
}

/// Waits for the store, but not for ever.
async fn within<T>(
    patience: Duration,
    asking: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout(patience, asking)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(ApiError::new(Code::StorageUnreachable).detail(format!(
                "The store did not answer within {} seconds. Try again later.",
                patience.as_secs()
            )))
        })
}

fn cannot_open(error: CannotOpen) -> ApiError {
    let code = match error.code {
        SessionErrorCode::CredentialsMissing => Code::CredentialsMissing,
        SessionErrorCode::CredentialsUnreadable => Code::CredentialsUnreadable,
        _ => Code::StorageMisconfigured,
    };
    ApiError::new(code).detail(error.detail)
}

/// The store's refusal, in its own words: they name the bucket and the request, and no secret.
fn refused(error: StorageError) -> ApiError {
    use StorageErrorKind as Kind;
    let code = match error.kind() {
        Kind::AccessDenied => Code::StorageAccessDenied,
        Kind::NoSuchBucket => Code::NoSuchBucket,
        Kind::CredentialsMissing => Code::CredentialsMissing,
        Kind::WrongRegion | Kind::ClockSkewed | Kind::InvalidRequest => Code::StorageMisconfigured,
        Kind::Unreachable | Kind::Timeout | Kind::ConnectionLost | Kind::Throttled => {
            Code::StorageUnreachable
        }
        _ if error.is_retryable() => Code::StorageUnreachable,
        _ => Code::StorageError,
    };
    ApiError::new(code).detail(error.to_string()).cause(error)
}
