//! Races that end in one way only: what has ended stays (I3), and what is pushed often is run once (I4).

use super::trouble::{lapse, sweep};
use super::worker::{claim, run_to_the_end};
use super::world::{LEASE, LOCATION, Services, World};
use super::{drain, gateway};
use database::jobs::{self, Claim, Claiming};
use database::sessions::{self, SessionError};
use database::{SystemConn, TenantConn};
use domain::{CompanyId, JobId, QueuedJob, SessionId, SessionStatus};
use futures::future::join_all;
use rand::Rng;
use std::time::Duration;

const ROUNDS: usize = 20;
const WORKERS: usize = 6;

/// Some of the racers come a little later, another one in each round.
async fn a_moment() {
    let delay = rand::rng().random_range(0..4);
    tokio::time::sleep(Duration::from_millis(delay)).await;
}

async fn made_and_started(world: &World, files: i64) -> (CompanyId, SessionId, Vec<QueuedJob>) {
    let moved = gateway::made(world, 0, files, true).await.unwrap();
    (moved.session.company_id, moved.session.id, moved.jobs)
}

/// Runs a session's only scan and upload job, so that its finish job waits; gives that job, claimed.
async fn about_to_end(world: &World, jobs: &[QueuedJob]) -> Claim {
    let mut next: JobId = jobs[0].id;
    loop {
        let Claiming::Claimed(claimed) = claim(world, next, "w").await.unwrap() else {
            panic!("job {next} is ready");
        };
        if claimed.kind == domain::JobKind::Finish {
            return claimed;
        }
        let session = claimed.session_id;
        run_to_the_end(world, claimed).await.unwrap();
        let waiting = format!("session_id = '{session}' AND state = 'ready'");
        next = world.any_job(&waiting, 0).await.unwrap().expect("a job follows");
    }
}

async fn cancel(world: &World, company: CompanyId, id: SessionId) -> bool {
    a_moment().await;
    let cancel = async move |conn: &mut TenantConn| sessions::cancel(conn, id).await;
    match world.db.tenant(company, cancel).await {
        Ok(_) => true,
        Err(SessionError::WrongStatus { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn retry(world: &World, company: CompanyId, id: SessionId) {
    a_moment().await;
    let retry = async move |conn: &mut TenantConn| sessions::retry(conn, id, None).await;
    match world.db.tenant(company, retry).await {
        Ok(_) | Err(SessionError::WrongStatus { .. } | SessionError::NothingToRetry) => {}
        Err(error) => panic!("{error}"),
    }
}

async fn finish(world: &World, claim: &Claim) {
    a_moment().await;
    let finishing = claim.clone();
    let finish = async move |conn: &mut TenantConn| jobs::finish_session(conn, &finishing, LEASE).await;
    world
        .fenced(claim, world.db.tenant(claim.company_id, finish))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finish_cancel_sweep_and_retry_race_to_one_end() {
    let services = Services::start().await;
    let world = services.world(false).await;
    for _ in 0..ROUNDS {
        let (company, id, jobs) = made_and_started(&world, 5).await;
        let held = about_to_end(&world, &jobs).await;
        let before = world.uploaded_files(id).await.unwrap();
        // Its holder was away for too long, and comes back just now.
        lapse(&world, &format!("id = {}", held.job_id)).await.unwrap();
        let sweeper = async {
            a_moment().await;
            sweep(&world).await.unwrap();
        };
        let (_, cancelled, (), ()) = tokio::join!(
            finish(&world, &held),
            cancel(&world, company, id),
            retry(&world, company, id),
            sweeper
        );
        world.check().await.unwrap();
        drain::to_the_end(&world).await.unwrap();
        let status = world.statuses().await.unwrap()[&id];
        assert!(status.is_ended());
        assert_eq!(
            status == SessionStatus::Cancelled,
            cancelled,
            "what was answered is what holds"
        );
        let after = world.uploaded_files(id).await.unwrap();
        assert!(
            before.iter().all(|file| after.contains(file)),
            "{before:?} {after:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_pushed_100_times_is_run_once() {
    let services = Services::start().await;
    let world = services.world(false).await;
    let (_, _, jobs) = made_and_started(&world, 3).await;
    let job = &jobs[0];
    let pushes = async {
        for _ in 0..100 {
            world.queue.push(std::slice::from_ref(job)).await.unwrap();
        }
    };
    let takers = join_all((0..WORKERS).map(|_| async {
        let (mut claims, mut takes) = (Vec::new(), 0);
        // Until nothing comes any more: the pushes go on meanwhile.
        while takes < 100 {
            takes += 1;
            let Some(id) = world.queue.take(&[LOCATION.to_owned()]).await.unwrap() else {
                tokio::task::yield_now().await;
                continue;
            };
            if let Claiming::Claimed(claim) = claim(&world, id, "w").await.unwrap() {
                claims.push(claim);
            }
        }
        claims
    }));
    let ((), claims) = tokio::join!(pushes, takers);
    let claims: Vec<Claim> = claims.into_iter().flatten().collect();
    assert_eq!(
        claims
            .iter()
            .map(|claim| (claim.job_id, claim.epoch))
            .collect::<Vec<_>>(),
        [(job.id, 1)]
    );

    // Ended, it may be pushed for ever.
    run_to_the_end(&world, claims[0].clone()).await.unwrap();
    world.forget().await.unwrap();
    for _ in 0..100 {
        world.queue.push(std::slice::from_ref(job)).await.unwrap();
        let id = world.queue.take(&[LOCATION.to_owned()]).await.unwrap().unwrap();
        let late = world
            .db
            .system(async move |conn: &mut SystemConn| jobs::claim(conn, id, "w", LEASE).await);
        assert!(matches!(late.await.unwrap(), Claiming::Gone));
    }
    drain::to_the_end(&world).await.unwrap();
}
