//! The job protocol under random interleavings, against the real Postgres and Redis.
//!
//! Actors (workers, a gateway, a sweeper, and trouble) take steps; each step is one real call of `database`, `queue` or
//! the sweeper. A seed decides who moves and how. After every step the invariants are looked at: in SQL, over everything
//! (`violations.sql`), by triggers that watch each change of a state from inside (`audit.sql`), and for each write of a
//! worker that it was taken if and only if the job was its own. At the end the trouble stops, and all must end.
//!
//! `SEEDS=first..last` or a number, and `STEPS`, run more or one again. The tests print what failed with its seed; one
//! after another the same seed takes the same steps.

mod drain;
mod gateway;
mod races;
mod trouble;
mod worker;
mod world;

use anyhow::Context;
use futures::StreamExt;
use gateway::Gateway;
use queue::QueueError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trouble::{SweeperActor, Trouble};
use worker::WorkerActor;
use world::{Services, World};

/// Each has a database of its own.
const SEEDS_AT_A_TIME: usize = 3;

/// Who takes steps.
enum Actor {
    Worker(WorkerActor),
    Gateway(Gateway),
    Sweeper(SweeperActor),
    Trouble(Trouble),
}

impl Actor {
    fn everybody() -> Vec<Self> {
        vec![
            Self::Worker(WorkerActor::new("w1")),
            Self::Worker(WorkerActor::new("w2")),
            Self::Worker(WorkerActor::new("w3")),
            Self::Gateway(Gateway),
            Self::Sweeper(SweeperActor::default()),
            Self::Trouble(Trouble),
        ]
    }

    /// Takes a step; tells it in words.
    async fn step(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        let step = match self {
            Self::Worker(worker) => worker.step(world, rng).await,
            Self::Gateway(gateway) => gateway.step(world, rng).await,
            Self::Sweeper(sweeper) => sweeper.step(world, rng).await,
            Self::Trouble(trouble) => trouble.step(world, rng).await,
        };
        unless_redis_is_away(step)
    }

    /// How often it moves: workers most.
    fn weight(&self) -> u32 {
        match self {
            Self::Worker(_) => 6,
            Self::Gateway(_) | Self::Sweeper(_) => 2,
            Self::Trouble(_) => 1,
        }
    }
}

/// On a machine that is busy Redis may not answer in time: nothing depends on it.
fn unless_redis_is_away<T: Default>(outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    match outcome {
        Err(error) if error.is::<QueueError>() => Ok(T::default()),
        outcome => outcome,
    }
}

/// One step at a time, in an order that the seed decides.
async fn one_after_another(world: &World, seed: u64, steps: usize) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut actors = Actor::everybody();
    let weights: u32 = actors.iter().map(Actor::weight).sum();
    let mut trace = Vec::new();
    let mut run = async || {
        for _ in 0..steps {
            let mut turn = rng.random_range(0..weights);
            let actor = actors.iter_mut().find(|actor| {
                let is_it = turn < actor.weight();
                turn = turn.saturating_sub(actor.weight());
                is_it
            });
            let actor = actor.context("the weights add up")?;
            trace.push("a step that failed".to_owned());
            let told = actor.step(world, &mut rng).await?;
            *trace.last_mut().context("just pushed")? = told;
            world.check().await?;
        }
        trace.push("the trouble stops".to_owned());
        drain::to_the_end(world).await
    };
    let outcome = run().await;
    outcome.with_context(|| {
        let first = trace.len().saturating_sub(40);
        format!(
            "after {} steps, the last of them:\n  {}",
            trace.len(),
            trace[first..].join("\n  ")
        )
    })
}

/// Everybody at once, each in a task, while somebody looks at the invariants.
async fn all_at_once(world: Arc<World>, seed: u64, steps: usize) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    // Two sweepers and two gateways: they race each other, too.
    let more = [Actor::Gateway(Gateway), Actor::Sweeper(SweeperActor::default())];
    let is_over = Arc::new(AtomicBool::new(false));
    for (number, mut actor) in Actor::everybody().into_iter().chain(more).enumerate() {
        let world = world.clone();
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(100).wrapping_add(number as u64));
        let steps = steps * actor.weight() as usize / 6;
        tasks.spawn(async move {
            let mut last = String::from("nothing");
            for _ in 0..steps {
                last = actor
                    .step(&world, &mut rng)
                    .await
                    .with_context(|| format!("actor {number}, after: {last}"))?;
            }
            anyhow::Ok(())
        });
    }
    let checker = tokio::spawn({
        let (world, is_over) = (world.clone(), is_over.clone());
        async move {
            while !is_over.load(Ordering::Relaxed) {
                world.check().await?;
            }
            anyhow::Ok(())
        }
    });
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        outcome = outcome.and(ended?);
    }
    is_over.store(true, Ordering::Relaxed);
    outcome.and(checker.await?)?;
    world.check().await?;
    drain::to_the_end(&world).await
}

#[allow(clippy::disallowed_methods, reason = "a test's own setting")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The seeds and steps of this run: fixed, unless the environment says more.
fn extent(seeds: Range<u64>, steps: usize) -> (Range<u64>, usize) {
    let seeds = setting("SEEDS").map_or(seeds, |text| match text.split_once("..") {
        Some((first, last)) => first.parse().unwrap()..last.parse().unwrap(),
        None => {
            let seed: u64 = text.parse().unwrap();
            seed..seed + 1
        }
    });
    (
        seeds,
        setting("STEPS").map_or(steps, |text| text.parse().unwrap()),
    )
}

/// Runs each seed in a world of its own, some at a time: most of a step is waiting for an answer.
async fn try_all(
    seeds: Range<u64>,
    steps: usize,
    is_sequential: bool,
    run: impl AsyncFn(Arc<World>, u64) -> anyhow::Result<()>,
) {
    let services = Services::start().await;
    futures::stream::iter(seeds)
        .for_each_concurrent(SEEDS_AT_A_TIME, async |seed| {
            let world = Arc::new(services.world(is_sequential).await);
            if let Err(error) = run(world, seed).await {
                panic!("SEEDS={seed} STEPS={steps}: {error:#}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_order_of_steps_the_invariants_hold() {
    let (seeds, steps) = extent(1..13, 200);
    try_all(seeds, steps, true, async |world, seed| {
        one_after_another(&world, seed, steps).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_at_once_the_invariants_hold() {
    let (seeds, steps) = extent(1..7, 120);
    try_all(seeds, steps, false, async |world, seed| {
        all_at_once(world, seed, steps).await
    })
    .await;
}
