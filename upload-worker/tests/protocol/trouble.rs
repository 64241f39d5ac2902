//! The sweeper, and what it is there for.

use super::world::World;
use crate::sweeper::{Watched, expire, push_all, settle};
use database::SystemConn;
use database::sweep::{self, Overdue};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::Duration;

/// The real sweep, and its first half taken apart: others may move between the look and the deed.
#[derive(Default)]
pub(super) struct SweeperActor {
    seen: Vec<Overdue>,
}

impl SweeperActor {
    pub(super) async fn step(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        match rng.random_range(0..4) {
            0 => {
                self.seen = world
                    .db
                    .system(async |conn: &mut SystemConn| sweep::overdue(conn).await)
                    .await?;
                Ok(format!("sweeper: sees {} overdue", self.seen.len()))
            }
            1 if !self.seen.is_empty() => {
                let job = self.seen.swap_remove(rng.random_range(0..self.seen.len()));
                let id = job.id;
                let finish = world
                    .db
                    .system(async move |conn: &mut SystemConn| sweep::expire(conn, &job).await)
                    .await?;
                if let Some(finish) = finish.filter(|_| rng.random_bool(0.8)) {
                    world.queue.push(&[finish]).await?;
                }
                Ok(format!("sweeper: job {id} has expired, if it is as it was"))
            }
            2 => {
                push_all(&world.db, &world.queue, &[]).await?;
                Ok("sweeper: pushes what is missing".to_owned())
            }
            _ => {
                sweep(world).await?;
                Ok("sweeper: sweeps".to_owned())
            }
        }
    }
}

/// The whole sweep. What is overdue has been for long: its term is nothing.
pub(super) async fn sweep(world: &World) -> anyhow::Result<()> {
    let expired = expire(&world.db, Duration::ZERO, &mut Watched::default()).await?;
    world.queue.push(&expired).await?;
    match settle(&world.db).await? {
        Some(finishes) => push_all(&world.db, &world.queue, &finishes).await,
        None => Ok(()),
    }
}

/// What goes wrong, or only takes its time.
pub(super) struct Trouble;

impl Trouble {
    pub(super) async fn step(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        let which = rng.random_range(0..1000);
        match rng.random_range(0..10) {
            0..5 => {
                let Some(id) = world.any_job("state = 'running'", which).await? else {
                    return Ok("trouble: nothing runs".to_owned());
                };
                lapse(world, &format!("id = {id}")).await?;
                Ok(format!("trouble: the lease of job {id} is over"))
            }
            5..7 => {
                all_is_due(world).await?;
                Ok("trouble: time passes".to_owned())
            }
            7 => {
                world.forget().await?;
                Ok("trouble: Redis forgets everything".to_owned())
            }
            8 => {
                world.lose_key(which).await?;
                Ok("trouble: Redis loses a key".to_owned())
            }
            _ => {
                // Of any state: ready, running, ended.
                let Some(id) = world.any_job("true", which).await? else {
                    return Ok("trouble: no job yet".to_owned());
                };
                let job = world.queued(id).await?;
                world.queue.push(&vec![job.unwrap(); 100]).await?;
                Ok(format!("trouble: job {id} is pushed 100 times"))
            }
        }
    }
}

/// Ends the leases of running jobs, without a word to their workers.
pub(super) async fn lapse(world: &World, condition: &str) -> anyhow::Result<()> {
    let lapse = format!(
        "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running' AND {condition}"
    );
    Ok(world.sql.batch_execute(&lapse).await?)
}

/// Waits after errors are over.
pub(super) async fn all_is_due(world: &World) -> anyhow::Result<()> {
    // It waits for nobody, as time does: else it would meet those that change several jobs, in a circle.
    let due = "UPDATE jobs SET run_after = now() WHERE id IN (
                   SELECT id FROM jobs WHERE state = 'ready' AND run_after > now() AND run_after < 'infinity'
                   FOR UPDATE SKIP LOCKED)";
    Ok(world.sql.batch_execute(due).await?)
}
