//! `GET /api/queue`.

use super::view::{Live, LiveRoot, Queue};
use crate::actor::Actor;
use crate::error::ApiError;
use crate::state::State;
use actix_web::{get, web};
use database::workload::{self, MAX_NAMED_SESSIONS, RootWorkload, Workload};
use domain::{CompanyId, Permission};
use futures::future::try_join_all;
use queue::{Pace, QueueError, WorkerInfo};
use settings::SourceRoot;

/// What the company has waiting and running at each of its source roots, its place in line, and the workers alive.
///
/// Jobs, files and limits come from the database; places and workers from the queue (Redis). Where that cannot be
/// asked, `queue_available` is false and what it would have told is null.
#[utoipa::path(
    tag = "queue",
    responses((status = 200, description = "The company's work", body = Queue)),
)]
#[get("/api/queue")]
pub(crate) async fn get(state: web::Data<State>, actor: Actor) -> Result<web::Json<Queue>, ApiError> {
    actor.require(Permission::SessionRead)?;
    let mut workload = state
        .database
        .tenant(actor.company_id, async |conn| {
            workload::workload(conn).await.map_err(ApiError::from)
        })
        .await?;
    add_idle_roots(&state, &actor, &mut workload);
    let live = ask(&state, actor.company_id, &workload.roots)
        .await
        .inspect_err(|error| tracing::warn!(%error, "the queue cannot be asked"))
        .ok();
    Ok(web::Json(Queue::new(&workload, live.as_ref())))
}

/// The roots that the company may use and has nothing to do at: whether a worker serves them is worth knowing before
/// an upload is started.
fn add_idle_roots(state: &State, actor: &Actor, workload: &mut Workload) {
    let visible = state.source_roots.visible_to(&actor.company_code);
    for location in visible.map(SourceRoot::location) {
        if workload.roots.iter().all(|root| root.location != location) {
            workload.roots.push(RootWorkload::idle(location));
        }
    }
    workload.roots.sort_by(|a, b| a.location.cmp(&b.location));
}

async fn ask(state: &State, company: CompanyId, roots: &[RootWorkload]) -> Result<Live, QueueError> {
    let lines: Vec<(String, CompanyId)> = roots
        .iter()
        .map(|root| (root.location.clone(), company))
        .collect();
    let (workers, places, rates) = futures::try_join!(
        state.queue.workers(),
        state.queue.places(&lines),
        try_join_all(roots.iter().map(|root| rate(state, root))),
    )?;
    let serves = |worker: &WorkerInfo, location: &String| worker.locations.contains(location);
    let workers_alive = workers
        .iter()
        .filter(|worker| roots.iter().any(|root| serves(worker, &root.location)))
        .count();
    let roots = roots
        .iter()
        .zip(places)
        .zip(rates)
        .map(|((root, line), in_flight)| {
            let serving: Vec<&WorkerInfo> = workers
                .iter()
                .filter(|worker| serves(worker, &root.location))
                .collect();
            LiveRoot {
                workers_alive: serving.len(),
                line,
                in_flight,
                pace: serving.iter().map(|worker| worker.pace).sum::<Pace>(),
                running_uploads: serving.iter().map(|worker| worker.running.upload).sum(),
            }
        })
        .collect();
    Ok(Live { workers_alive, roots })
}

/// Bytes in flight and bytes a second of the sessions that run at a root; `None` where they are too many to ask.
async fn rate(state: &State, root: &RootWorkload) -> Result<Option<(u64, u64)>, QueueError> {
    if root.sessions.len() > MAX_NAMED_SESSIONS {
        return Ok(None);
    }
    let told = try_join_all(root.sessions.iter().map(|session| state.queue.live(*session))).await?;
    let workers = || told.iter().flatten();
    Ok(Some((
        workers().map(|live| live.bytes_in_flight).sum(),
        workers().map(|live| live.rate_bytes_per_s).sum(),
    )))
}
