//! What garbage collection needs of a store: how old objects are, and their removal.

use std::ops::ControlFlow;

use super::{Hash, PostgresStore, SqliteStore, StoreError, postgres::read, rows::decode, sqlite::transact};

/// Objects deleted by one statement.
const DELETE_CHUNK: usize = 500;

/// An object without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectAge {
    /// Its hash.
    pub hash: Hash,
    /// When a write last needed it, in microseconds by the database's clock.
    pub referenced_at_us: i64,
    /// How long ago that is.
    pub age_us: i64,
    /// Size of its data.
    pub bytes: i64,
    /// Its format byte, which tells commits from nodes.
    pub format: u8,
}

/// A store whose objects can be swept.
#[async_trait::async_trait]
pub trait Sweep {
    /// At most `limit` objects in hash order, after `after`.
    async fn object_ages(
        &self,
        repository: &str,
        after: Option<Hash>,
        limit: u32,
    ) -> Result<Vec<ObjectAge>, StoreError>;

    /// Deletes everything of a repository but its documents of the kind `tenant` and its access epoch, which goes on. What
    /// fails half-way can be done again.
    async fn purge(&self, repository: &str) -> Result<(), StoreError>;

    /// Deletes those that no write needed since they were listed; answers how many that were.
    async fn delete_objects(&self, repository: &str, objects: &[ObjectAge]) -> Result<u64, StoreError>;
}

/// What a purge deletes, in chunks, each until nothing is left of it. The last two take the whole at once: they are small.
const PURGE: [&str; 5] = [
    "DELETE FROM objects WHERE repository = $1 AND hash IN
        (SELECT hash FROM objects WHERE repository = $1 LIMIT 1000)",
    "DELETE FROM events WHERE repository = $1 AND number IN
        (SELECT number FROM events WHERE repository = $1 LIMIT 1000)",
    "DELETE FROM idempotency WHERE repository = $1 AND key IN
        (SELECT key FROM idempotency WHERE repository = $1 LIMIT 1000)",
    "DELETE FROM branches_and_tags WHERE repository = $1",
    "DELETE FROM documents WHERE tenant = $1 AND kind <> 'tenant'",
];

type AgeTuple = (Vec<u8>, i64, i64, i64, Vec<u8>);

fn age(row: AgeTuple) -> Result<ObjectAge, StoreError> {
    let (hash, referenced_at_us, age_us, bytes, format) = row;
    let format = format.first().copied().unwrap_or_default();
    Ok(ObjectAge { hash: decode::hash(&hash)?, referenced_at_us, age_us, bytes, format })
}

/// Below every hash.
fn start(after: Option<Hash>) -> Vec<u8> {
    after.map_or_else(Vec::new, |Hash(bytes)| bytes.to_vec())
}

const SQLITE_AGES: &str = "SELECT hash, referenced_at,
    CAST(unixepoch('subsec') * 1000000 AS INTEGER) - referenced_at, length(data), substr(data, 1, 1)
    FROM objects WHERE repository = $1 AND hash > $2 ORDER BY hash LIMIT $3";

const SQLITE_DELETE: &str = "DELETE FROM objects WHERE repository = $1 AND hash = $2 AND referenced_at = $3";

#[async_trait::async_trait]
impl Sweep for SqliteStore {
    async fn object_ages(
        &self,
        repository: &str,
        after: Option<Hash>,
        limit: u32,
    ) -> Result<Vec<ObjectAge>, StoreError> {
        let query = sqlx::query_as(SQLITE_AGES).bind(repository).bind(start(after)).bind(limit);
        let rows: Vec<AgeTuple> = query.fetch_all(&self.readers).await?;
        rows.into_iter().map(age).collect()
    }

    async fn purge(&self, repository: &str) -> Result<(), StoreError> {
        for statement in PURGE {
            let run = async || {
                transact(&self.writer, async |connection| {
                    let done = sqlx::query(statement).bind(repository).execute(&mut *connection).await?;
                    Ok(ControlFlow::Continue(done.rows_affected()))
                })
                .await
            };
            while run().await? > 0 {}
        }
        Ok(())
    }

    async fn delete_objects(&self, repository: &str, objects: &[ObjectAge]) -> Result<u64, StoreError> {
        let mut deleted = 0;
        // Short transactions, since there is one writer.
        for chunk in objects.chunks(DELETE_CHUNK) {
            deleted += transact(&self.writer, async |connection| {
                let mut deleted = 0;
                for object in chunk {
                    let query = sqlx::query(SQLITE_DELETE).bind(repository).bind(object.hash.0.as_slice());
                    let done = query.bind(object.referenced_at_us).execute(&mut *connection).await?;
                    deleted += done.rows_affected();
                }
                Ok(ControlFlow::Continue(deleted))
            })
            .await?;
        }
        Ok(deleted)
    }
}

const POSTGRES_AGES: &str = "SELECT hash, referenced_at,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - referenced_at,
    length(data)::bigint, substr(data, 1, 1)
    FROM objects WHERE repository = $1 AND hash > $2 ORDER BY hash LIMIT $3";

const POSTGRES_DELETE: &str = "DELETE FROM objects o
    USING unnest($2::bytea[], $3::bigint[]) AS old (hash, referenced_at)
    WHERE o.repository = $1 AND o.hash = old.hash AND o.referenced_at = old.referenced_at";

#[async_trait::async_trait]
impl Sweep for PostgresStore {
    async fn object_ages(
        &self,
        repository: &str,
        after: Option<Hash>,
        limit: u32,
    ) -> Result<Vec<ObjectAge>, StoreError> {
        let rows: Vec<AgeTuple> = read(|| {
            let query = sqlx::query_as(POSTGRES_AGES).bind(repository).bind(start(after));
            query.bind(i64::from(limit)).fetch_all(&self.pool)
        })
        .await?;
        rows.into_iter().map(age).collect()
    }

    async fn purge(&self, repository: &str) -> Result<(), StoreError> {
        for statement in PURGE {
            while sqlx::query(statement).bind(repository).execute(&self.pool).await?.rows_affected() > 0 {}
        }
        Ok(())
    }

    async fn delete_objects(&self, repository: &str, objects: &[ObjectAge]) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for chunk in objects.chunks(DELETE_CHUNK) {
            let hashes: Vec<Vec<u8>> = chunk.iter().map(|object| object.hash.0.to_vec()).collect();
            let times: Vec<i64> = chunk.iter().map(|object| object.referenced_at_us).collect();
            // Deleting twice deletes once: as repeatable as a read.
            let done = read(|| {
                let query = sqlx::query(POSTGRES_DELETE).bind(repository).bind(&hashes).bind(&times);
                query.execute(&self.pool)
            });
            deleted += done.await?.rows_affected();
        }
        Ok(deleted)
    }
}
