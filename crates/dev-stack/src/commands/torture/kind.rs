//! The kinds of faults, their names, and how often each is drawn.

use rand::Rng as _;
use rand::rngs::StdRng;

/// What somebody does to files of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Edit {
    /// In place, with as many bytes, and the modification time put back.
    Rewritten,
    /// Another file is renamed over it.
    Replaced,
    Grown,
    Shrunk,
    Removed,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    WorkerKilled,
    WorkersKilled,
    WorkerStopped,
    WorkerTerminated,
    /// Another takes its place, whose clock is an hour off.
    ClockShifted,
    GatewayKilled,
    RedisFlushed,
    RedisAway,
    RedisAwayLong,
    RedisFull,
    PostgresFast,
    PostgresImmediate,
    PostgresHangs,
    ConnectionsExhausted,
    CommitsLost,
    S3Away,
    S3Refuses,
    S3AnswersLost,
    SourceEdited(Edit),
    SessionCancelled,
    SessionPaused,
}

impl Kind {
    /// Those that the injector does, with how often: sessions are cancelled and paused by their clients.
    const INJECTED: [(Self, u32); 23] = [
        (Self::WorkerKilled, 60),
        (Self::WorkersKilled, 5),
        (Self::WorkerStopped, 12),
        (Self::WorkerTerminated, 8),
        (Self::ClockShifted, 6),
        (Self::GatewayKilled, 7),
        (Self::RedisFlushed, 8),
        (Self::RedisAway, 5),
        (Self::RedisAwayLong, 2),
        (Self::RedisFull, 5),
        (Self::PostgresFast, 4),
        (Self::PostgresImmediate, 4),
        (Self::PostgresHangs, 3),
        (Self::ConnectionsExhausted, 4),
        (Self::CommitsLost, 8),
        (Self::S3Away, 4),
        (Self::S3Refuses, 7),
        (Self::S3AnswersLost, 7),
        (Self::SourceEdited(Edit::Rewritten), 10),
        (Self::SourceEdited(Edit::Replaced), 6),
        (Self::SourceEdited(Edit::Grown), 6),
        (Self::SourceEdited(Edit::Shrunk), 6),
        (Self::SourceEdited(Edit::Removed), 2),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker killed (SIGKILL)",
            Self::WorkersKilled => "all workers killed",
            Self::WorkerStopped => "worker stopped 1-8 s (SIGSTOP)",
            Self::WorkerTerminated => "worker deployed (SIGTERM)",
            Self::ClockShifted => "worker's clock an hour off",
            Self::GatewayKilled => "gateway killed",
            Self::RedisFlushed => "Redis FLUSHALL",
            Self::RedisAway => "Redis away 1-5 s",
            Self::RedisAwayLong => "Redis away 10-20 s",
            Self::RedisFull => "Redis full 1-5 s",
            Self::PostgresFast => "Postgres restarted (fast)",
            Self::PostgresImmediate => "Postgres crashed (immediate)",
            Self::PostgresHangs => "Postgres hangs 1-8 s",
            Self::ConnectionsExhausted => "no connection to Postgres 1-5 s",
            Self::CommitsLost => "20 % of COMMITs lose their answer",
            Self::S3Away => "S3 away 0.5-3 s",
            Self::S3Refuses => "S3 503 for 30 % of requests",
            Self::S3AnswersLost => "S3 loses 15 % of answers",
            Self::SourceEdited(Edit::Rewritten) => "files rewritten, mtime as before",
            Self::SourceEdited(Edit::Replaced) => "files replaced by rename",
            Self::SourceEdited(Edit::Grown) => "files grown",
            Self::SourceEdited(Edit::Shrunk) => "files shrunk",
            Self::SourceEdited(Edit::Removed) => "files removed",
            Self::SessionCancelled => "session cancelled",
            Self::SessionPaused => "session paused 1-5 s",
        }
    }

    /// One of those that the injector does.
    pub(super) fn draw(dice: &mut StdRng) -> Self {
        let all: u32 = Self::INJECTED.iter().map(|(_, weight)| weight).sum();
        let mut point = dice.random_range(0..all);
        for (kind, weight) in Self::INJECTED {
            match point.checked_sub(weight) {
                Some(rest) => point = rest,
                None => return kind,
            }
        }
        Self::WorkerKilled
    }
}
