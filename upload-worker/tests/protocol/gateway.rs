//! The gateway: sessions made, started, paused, resumed, cancelled, retried. What it pushes after its commit may get
//! lost: it was killed.

use super::world::{LOCATION, World};
use database::TenantConn;
use database::sessions::{self, Moved, NewSession, SessionError};
use domain::{FileErrorCode, SessionId, SessionSettings, UserId};
use rand::Rng;
use rand::rngs::StdRng;

const MAX_SESSIONS: usize = 6;

pub(super) struct Gateway;

impl Gateway {
    pub(super) async fn step(&mut self, world: &World, rng: &mut StdRng) -> anyhow::Result<String> {
        let sessions = world.sessions.lock().unwrap().clone();
        if sessions.is_empty() || (sessions.len() < MAX_SESSIONS && rng.random_bool(0.3)) {
            return create(world, rng, sessions.len()).await;
        }
        let (company, id, _) = sessions[rng.random_range(0..sessions.len())];
        let (what, moved) = match rng.random_range(0..14) {
            0..2 => (
                "start",
                world
                    .db
                    .tenant(company, async move |conn: &mut TenantConn| {
                        sessions::start(conn, id).await
                    })
                    .await,
            ),
            2..5 => {
                let pause = async move |conn: &mut TenantConn| sessions::pause(conn, id).await;
                (
                    "pause",
                    world.db.tenant(company, pause).await.map(nothing_to_push),
                )
            }
            5..9 => (
                "resume",
                world
                    .db
                    .tenant(company, async move |conn: &mut TenantConn| {
                        sessions::resume(conn, id).await
                    })
                    .await,
            ),
            9..10 => (
                "cancel",
                world
                    .db
                    .tenant(company, async move |conn: &mut TenantConn| {
                        sessions::cancel(conn, id).await
                    })
                    .await,
            ),
            _ => {
                let cause = rng.random_bool(0.3).then_some(FileErrorCode::FileVanished);
                let retry = async move |conn: &mut TenantConn| sessions::retry(conn, id, cause).await;
                ("retry", world.db.tenant(company, retry).await)
            }
        };
        let told = format!("gateway: {what} session {id}");
        match moved {
            Ok(moved) => Ok(format!("{told}{}", push(world, rng, &moved).await?)),
            Err(SessionError::WrongStatus { .. } | SessionError::NothingToRetry) => {
                Ok(format!("{told}: refused"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn nothing_to_push(session: sessions::Session) -> Moved {
    Moved {
        session,
        jobs: Vec::new(),
        is_replay: false,
    }
}

async fn create(world: &World, rng: &mut StdRng, number: usize) -> anyhow::Result<String> {
    let (start, files) = (rng.random_bool(0.8), rng.random_range(0..9));
    let moved = made(world, number, files, start).await?;
    let told = format!(
        "gateway: make session {} of {files} files, started: {start}",
        moved.session.id
    );
    Ok(format!("{told}{}", push(world, rng, &moved).await?))
}

/// Makes a session of the company whose turn it is; its source has so many files.
pub(super) async fn made(
    world: &World,
    number: usize,
    files: i64,
    start: bool,
) -> Result<Moved, SessionError> {
    let (company, cycle_id) = world.companies[number % world.companies.len()];
    let new = NewSession {
        cycle_id,
        user_id: UserId::new(),
        source_root: LOCATION.into(),
        source_path: String::new(),
        settings: SessionSettings {
            // Of their own, so that they do not exclude each other.
            target_prefix: format!("{}/", SessionId::new()),
            ..SessionSettings::default()
        },
        repeats: None,
        idempotency: None,
        start,
    };
    let create = async move |conn: &mut TenantConn| sessions::create(conn, new).await;
    let moved = world.db.tenant(company, create).await?;
    world
        .sessions
        .lock()
        .unwrap()
        .push((company, moved.session.id, files));
    Ok(moved)
}

async fn push(world: &World, rng: &mut StdRng, moved: &Moved) -> anyhow::Result<&'static str> {
    if moved.jobs.is_empty() {
        Ok("")
    } else if rng.random_bool(0.8) {
        world.queue.push(&moved.jobs).await?;
        Ok(", pushed")
    } else {
        Ok(", killed before the push")
    }
}

/// Everything goes on: what was not started is, what is paused is resumed.
pub(super) async fn let_all_go_on(world: &World) -> anyhow::Result<()> {
    let sessions = world.sessions.lock().unwrap().clone();
    for (company, id, _) in sessions {
        let started = world
            .db
            .tenant(company, async move |conn: &mut TenantConn| {
                sessions::start(conn, id).await
            })
            .await;
        let resumed = world
            .db
            .tenant(company, async move |conn: &mut TenantConn| {
                sessions::resume(conn, id).await
            })
            .await;
        for outcome in [started, resumed] {
            match outcome {
                Ok(moved) => world.queue.push(&moved.jobs).await?,
                Err(SessionError::WrongStatus { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
