//! Where objects and rows are kept. One trait, two backends, one conformance suite.
//!
//! Two kinds of state: objects, which are found by their hash and never change; and rows that move (references, documents,
//! idempotency records, events). Everything that moves, moves through [`Store::write`], in one database transaction.

mod error;
mod hash;
mod migrate;
mod postgres;
mod rows;
mod sqlite;
mod statements;
mod sweep;

#[cfg(test)]
pub(crate) mod conformance;

use std::sync::Arc;

use bytes::Bytes;

pub use error::StoreError;
pub use hash::{Hash, HashError};
pub use postgres::PostgresStore;
pub use rows::{
    DocumentPut, DocumentRow, DocumentSelection, EventRow, Heads, IdempotencyRow, NewEvent, ReferenceMove,
    ReferenceRow, Refusal, Write, Written,
};
pub use sqlite::SqliteStore;
pub use sweep::{ObjectAge, Sweep};

/// A database that holds objects and rows.
///
/// Reads see every write that was acknowledged before they began. Errors say whether something was done: see [`StoreError`].
#[async_trait::async_trait]
pub trait Store: Sweep + Send + Sync {
    /// The named references that exist and the access epoch, in one statement; `None` if there is no such repository.
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError>;

    /// All references of a repository by name.
    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError>;

    /// Those of the objects that exist, in no order.
    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError>;

    /// Applies everything or nothing. References are compared and swapped first; a refusal says which one was elsewhere.
    ///
    /// A move from a hash to itself changes nothing but waits for any transaction that holds the reference. An earlier write of
    /// unknown outcome has then ended, unless the database was sent it and hadn't begun: such a one can still land, as long as
    /// the reference is where it expects it.
    async fn write(&self, write: &Write) -> Result<Written, StoreError>;

    /// The record of a request that ran, kept for at least [`IdempotencyRow::KEPT_SECONDS`].
    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError>;

    /// Events with a number above `after`, in order; a number never appears after a higher one.
    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError>;

    /// The number of each repository's newest event, by repository; 0 where there is none.
    async fn last_events(&self) -> Result<Vec<(String, i64)>, StoreError>;

    /// Documents of a kind, by tenant and key.
    async fn documents(
        &self,
        kind: &str,
        selection: DocumentSelection<'_>,
    ) -> Result<Vec<DocumentRow>, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// New connections are made with this URL, such as one with another password; those that are open stay. Refused where
    /// there is only a file, and for a URL that is none.
    fn reconnect(&self, database_url: &str) -> Result<(), StoreError>;

    /// Closes all connections, waiting for those in use.
    async fn close(&self);
}

/// Number of the newest schema that this program knows; a database that it opened has this one or a newer.
pub(crate) fn schema_number() -> i64 {
    migrate::newest()
}

/// Opens `sqlite:PATH` (created if missing) or `postgres://…`, running migrations.
pub async fn open(database_url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(path) = database_url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        Ok(Arc::new(SqliteStore::open(path.as_ref()).await?))
    } else if database_url.starts_with("postgres:") || database_url.starts_with("postgresql:") {
        Ok(Arc::new(PostgresStore::open(database_url).await?))
    } else {
        let scheme = database_url.split(':').next().unwrap_or_default();
        Err(StoreError::Refused(format!(
            "a database URL starts with 'sqlite:' or 'postgres:', this one with '{scheme}'"
        )))
    }
}
