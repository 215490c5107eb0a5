//! What can go wrong in a database, by what a caller may do about it.

use crate::CatalogError;

/// A store's error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was done; it may be tried again.
    #[error("the database can't be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database was told to commit and nobody knows whether it did.
    #[error("the database's answer to a commit was lost: {0}")]
    Unknown(#[source] sqlx::Error),
    /// Firn won't work with this database, and the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// A statement failed or a row is not what Firn wrote: a bug, or a damaged database. Nothing was done.
    #[error("the database refused a statement: {0}")]
    Broken(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    /// For errors before a commit was sent: the database rolls back, so nothing was done.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if !transient(database.code().as_deref()) => Self::Broken(error),
            sqlx::Error::Database(_)
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Broken(error),
        }
    }
}

/// PostgreSQL: connection lost, out of resources, shut down, rolled back for another's sake. SQLite: busy, I/O error, full, can't
/// open.
fn transient(code: Option<&str>) -> bool {
    let Some(code) = code else { return false };
    if code.len() == 5 {
        return ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25006";
    }
    code.parse::<u32>().is_ok_and(|extended| matches!(extended & 0xff, 5 | 6 | 10 | 13 | 14))
}

impl From<&StoreError> for CatalogError {
    fn from(error: &StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(text),
            StoreError::Unknown(_) => Self::Unknown(text),
            StoreError::Refused(_) | StoreError::Broken(_) => Self::Internal(text),
        }
    }
}

impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}
