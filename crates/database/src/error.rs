//! What can go wrong with the database, as far as callers treat it differently.

use diesel::result::{DatabaseErrorKind, Error};

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection, or it broke: the same call may succeed later, and whether it took effect is unknown.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
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

impl From<Error> for DatabaseError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::BrokenTransactionManager => Self::Unavailable("the connection broke".into()),
            Error::DatabaseError(kind, info) => match kind {
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction => Self::Unavailable(info.message().to_owned()),
                DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::ForeignKeyViolation => {
                    Self::Conflict {
                        constraint: info.constraint_name().unwrap_or("?").to_owned(),
                    }
                }
                // Diesel keeps no SQLSTATE; these are what a server says that goes down or starts (57P01..57P03),
                // that breaks a deadlock (40P01) or a long wait (55P03, 57014), that is full (53100, 53300), and
                // what the driver says of a connection that is gone.
                _ if [
                    "terminating connection",
                    "database system is",
                    "connection closed",
                    "error communicating",
                    "deadlock detected",
                    "canceling statement due to",
                    "No space left on device",
                    "too many clients",
                    "remaining connection slots",
                ]
                .iter()
                .any(|text| info.message().contains(text)) =>
                {
                    Self::Unavailable(info.message().to_owned())
                }
                _ => Self::Query(Error::DatabaseError(kind, info)),
            },
            other => Self::Query(other),
        }
    }
}

impl DatabaseError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
