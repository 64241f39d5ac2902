//! The kinds of faults, their names, and how often each is drawn.

use dev_stack::s3::Trouble;
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
    S3Fails,
    S3Resets,
    S3Hangs,
    S3Stalls,
    S3Corrupts,
    S3Disguises,
    S3Expires,
    S3Bucketless,
    S3Narrow,
    SourceEdited(Edit),
    SessionCancelled,
    SessionPaused,
    /// SIGKILL to itself, at a fail-point.
    KilledAt(&'static str),
    /// SIGSTOP to itself, at a fail-point.
    StoppedAt(&'static str),
}

impl Kind {
    /// Those that the injector does, with how often: sessions are cancelled and paused by their clients, and processes
    /// that are armed die by themselves.
    const INJECTED: [(Self, u32); 32] = [
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
        (Self::S3Fails, 4),
        (Self::S3Resets, 4),
        (Self::S3Hangs, 4),
        (Self::S3Stalls, 4),
        (Self::S3Corrupts, 4),
        (Self::S3Disguises, 4),
        (Self::S3Expires, 2),
        (Self::S3Bucketless, 2),
        (Self::S3Narrow, 4),
        (Self::SourceEdited(Edit::Rewritten), 10),
        (Self::SourceEdited(Edit::Replaced), 6),
        (Self::SourceEdited(Edit::Grown), 6),
        (Self::SourceEdited(Edit::Shrunk), 6),
        (Self::SourceEdited(Edit::Removed), 2),
    ];

    pub(super) fn name(self) -> String {
        let name = match self {
            Self::KilledAt(point) => return format!("kill at {point}"),
            Self::StoppedAt(point) => return format!("stop at {point}"),
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
            Self::S3Fails => "S3 500 for 30 % of requests",
            Self::S3Resets => "S3 resets 30 % of connections",
            Self::S3Hangs => "S3 hangs on 10 % of requests",
            Self::S3Stalls => "S3 at 1 byte/s for 10 %",
            Self::S3Corrupts => "S3 tells 20 % wrong checksums",
            Self::S3Disguises => "S3 errors inside 200 of Complete",
            Self::S3Expires => "S3 credentials expired",
            Self::S3Bucketless => "S3 knows no bucket",
            Self::S3Narrow => "S3 503 above 4 at a time",
            Self::SourceEdited(Edit::Rewritten) => "files rewritten, mtime as before",
            Self::SourceEdited(Edit::Replaced) => "files replaced by rename",
            Self::SourceEdited(Edit::Grown) => "files grown",
            Self::SourceEdited(Edit::Shrunk) => "files shrunk",
            Self::SourceEdited(Edit::Removed) => "files removed",
            Self::SessionCancelled => "session cancelled",
            Self::SessionPaused => "session paused 1-5 s",
        };
        name.to_owned()
    }

    /// What an S3 server does that is there, but in trouble.
    pub(super) fn trouble(self) -> Option<Trouble> {
        let mut trouble = Trouble::default();
        match self {
            Self::S3Refuses => trouble.refused_per_mille = 300,
            Self::S3AnswersLost => trouble.lost_per_mille = 150,
            Self::S3Fails => trouble.failed_per_mille = 300,
            Self::S3Resets => trouble.reset_per_mille = 300,
            Self::S3Hangs => trouble.hung_per_mille = 100,
            Self::S3Stalls => trouble.stalled_per_mille = 100,
            Self::S3Corrupts => trouble.corrupted_per_mille = 200,
            Self::S3Disguises => trouble.disguised_per_mille = 500,
            Self::S3Expires => trouble.expired_per_mille = 1_000,
            Self::S3Bucketless => trouble.bucketless_per_mille = 1_000,
            Self::S3Narrow => trouble.in_flight_limit = Some(4),
            _ => return None,
        }
        Some(trouble)
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
