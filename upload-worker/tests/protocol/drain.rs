//! The trouble stops: one worker that does everything right, and a sweeper, must bring all to an end (I1).

use super::gateway::let_all_go_on;
use super::trouble::{all_is_due, lapse, sweep};
use super::unless_redis_is_away;
use super::worker::WorkerActor;
use super::world::World;
use anyhow::ensure;

/// More than crashes and retries of jobs can need.
const MAX_SWEEPS: usize = 20;

pub(super) async fn to_the_end(world: &World) -> anyhow::Result<()> {
    let mut worker = WorkerActor::new("last");
    unless_redis_is_away(let_all_go_on(world).await)?;
    lapse(world, "true").await?;
    for _ in 0..MAX_SWEEPS {
        all_is_due(world).await?;
        unless_redis_is_away(sweep(world).await)?;
        while unless_redis_is_away(worker.take_and_run(world).await)? {
            world.check().await?;
        }
        if world.statuses().await?.values().all(|status| status.is_ended()) {
            return judge(world).await;
        }
    }
    let statuses = world.statuses().await?;
    anyhow::bail!("I1: after {MAX_SWEEPS} sweeps not all sessions have ended: {statuses:?}")
}

async fn judge(world: &World) -> anyhow::Result<()> {
    world.check().await?;
    world.check_transitions().await?;
    let sessions = world.sessions.lock().unwrap().clone();
    for (_, id, files) in sessions {
        let statement =
            "SELECT (SELECT count(*) FROM file_uploads f WHERE f.session_id = s.id) FROM sync_sessions s
             WHERE id::text = $1 AND status IN ('completed', 'completed_with_errors')";
        let row = world.sql.query_opt(statement, &[&id.to_string()]).await?;
        let recorded: Option<i64> = row.map(|row| row.get(0));
        ensure!(
            recorded.is_none_or(|recorded| recorded == files),
            "I6: session {id} has {recorded:?} rows for {files} files"
        );
    }
    Ok(())
}
