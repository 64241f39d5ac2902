//! What can go wrong with the database, as far as callers treat it differently.

use diesel::result::{DatabaseErrorKind, Error};

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection, or it broke: the same call may succeed later, and whether it took effect is unknown.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// It has no room for what was to be written: nothing was, and the same call succeeds when there is room.
    #[error("the disk of the database is full: {0}")]
    DiskFull(String),
    /// No such row in this scope.
    #[error("no such row")]
    NotFound,
    /// A unique or foreign key stands against it.
    #[error("it contradicts the constraint {constraint}")]
    Conflict {
        /// The constraint's or index's name.
        constraint: String,
    },
    /// A stored value is none this program knows: written by a newer one, or by hand.
    #[error("a stored value is unknown: {0}")]
    UnknownValue(#[from] domain::status::UnknownValue),
    /// Anything else; a fault of ours.
    #[error(transparent)]
    Query(Error),
}

// Diesel keeps no SQLSTATE: errors without a kind of their own are told by what the server says, in English
// (`lc_messages`).

/// What a server says that is full (53100).
const FULL: &[&str] = &["No space left on device", "Disk quota exceeded", "wrote only"];

/// What passes: a server that goes down or starts (57P01 to 57P03), a deadlock (40P01), a wait or a statement that
/// took too long (55P03, 57014), too little memory or connections (53200, 53300), a disk with errors (58030).
const PASSING: &[&str] = &[
    "terminating connection",
    "database system is",
    "deadlock detected",
    "canceling statement due to",
    "out of memory",
    "out of shared memory",
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "Input/output error",
];

/// What the driver says without having asked the server, or of an answer that it does not understand: faults of ours.
/// Whatever else it says means that the connection is gone.
const FAULTS: &[&str] = &[
    "error serializing",
    "error deserializing",
    "error encoding",
    "invalid column",
    "query returned",
    "parameters but got",
];

impl From<Error> for DatabaseError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::BrokenTransactionManager => Self::Unavailable("the connection broke".into()),
            Error::DatabaseError(kind, info) => {
                let text = info.message().to_owned();
                let says = |texts: &[&str]| texts.iter().any(|part| text.contains(part));
                match kind {
                    DatabaseErrorKind::ClosedConnection
                    | DatabaseErrorKind::SerializationFailure
                    | DatabaseErrorKind::ReadOnlyTransaction => Self::Unavailable(text),
                    DatabaseErrorKind::UnableToSendCommand if !says(FAULTS) => Self::Unavailable(text),
                    DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::ForeignKeyViolation => {
                        Self::Conflict {
                            constraint: info.constraint_name().unwrap_or("?").to_owned(),
                        }
                    }
                    DatabaseErrorKind::Unknown if says(FULL) => Self::DiskFull(text),
                    DatabaseErrorKind::Unknown if says(PASSING) => Self::Unavailable(text),
                    kind => Self::Query(Error::DatabaseError(kind, info)),
                }
            }
            other => Self::Query(other),
        }
    }
}

impl DatabaseError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::DiskFull(_))
    }
}
