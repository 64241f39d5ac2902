//! `GET /health/live` and `GET /health/ready`: for whoever starts, stops and balances gateways.

use crate::state::State;
use actix_web::{HttpResponse, get, web};
use queue::QueueError;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// A dependency that has not answered by then counts as down.
const TIMEOUT: Duration = Duration::from_secs(2);
const UNREACHABLE: &str = "cannot be reached";

/// Whether the gateway can serve.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `unavailable`.
    status: &'static str,
    checks: Checks,
}

/// Its dependencies.
#[derive(Serialize, ToSchema)]
struct Checks {
    postgres: Check,
    redis: Check,
}

/// One dependency.
#[derive(Serialize, ToSchema)]
struct Check {
    ok: bool,
    /// What is wrong, where something is.
    detail: Option<&'static str>,
}

/// That the process serves.
#[derive(Serialize, ToSchema)]
struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the process serves at all.
#[utoipa::path(
    tag = "service",
    security(()),
    responses((status = 200, description = "It does", body = Liveness)),
)]
#[get("/health/live")]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "live" })
}

/// Whether Postgres and Redis answer.
#[utoipa::path(
    tag = "service",
    security(()),
    responses(
        (status = 200, description = "Both answer", body = Readiness),
        (status = 503, description = "One does not; `checks` names it", body = Readiness),
    ),
)]
#[get("/health/ready")]
pub(crate) async fn ready(state: web::Data<State>) -> HttpResponse {
    let (postgres, redis) = futures::join!(
        check("postgres", state.database.ping(), |_| UNREACHABLE),
        check("redis", state.queue.ping(), |error| match error {
            QueueError::Full(_) => "is full and takes no writes",
            _ => UNREACHABLE,
        }),
    );
    let is_ready = postgres.ok && redis.ok;
    let checks = Checks { postgres, redis };
    if is_ready {
        HttpResponse::Ok().json(Readiness {
            status: "ready",
            checks,
        })
    } else {
        HttpResponse::ServiceUnavailable().json(Readiness {
            status: "unavailable",
            checks,
        })
    }
}

async fn check<E: std::fmt::Display>(
    name: &str,
    ping: impl Future<Output = Result<(), E>>,
    in_words: impl FnOnce(&E) -> &'static str,
) -> Check {
    match tokio::time::timeout(TIMEOUT, ping).await {
        Ok(Ok(())) => Check {
            ok: true,
            detail: None,
        },
        Ok(Err(error)) => {
            tracing::warn!(dependency = name, %error, "not ready");
            Check {
                ok: false,
                detail: Some(in_words(&error)),
            }
        }
        Err(_) => {
            tracing::warn!(dependency = name, "not ready: no answer in time");
            Check {
                ok: false,
                detail: Some("does not answer in time"),
            }
        }
    }
}
