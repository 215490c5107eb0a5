//! SQLite: the embedded default. WAL, synced at each commit; one connection writes, others read.

use std::{ops::ControlFlow, path::Path, time::Duration};

use bytes::Bytes;
use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    DocumentPut, DocumentRow, DocumentSelection, EventRow, Hash, Heads, IdempotencyRow, NewEvent,
    ReferenceMove, ReferenceRow, Refusal, Store, StoreError, Write, Written, migrate,
    rows::decode::{self, DocumentTuple, EventTuple, HeadTuple, IdempotencyTuple, ReferenceTuple},
    statements,
};

const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

const HEADS: &str = "SELECT r.access_epoch, f.name, f.tag, f.hash FROM repositories r
    LEFT JOIN branches_and_tags f ON f.repository = r.name AND f.name IN (SELECT value FROM json_each($2))
    WHERE r.name = $1";

const OBJECTS: &str = "SELECT hash, data FROM objects
    WHERE repository = $1 AND hash IN (SELECT unhex(value) FROM json_each($2))";

const CREATE_REPOSITORY: &str = "INSERT INTO repositories (name, created_at)
    VALUES ($1, CAST(unixepoch('subsec') * 1000000 AS INTEGER)) ON CONFLICT (name) DO NOTHING";

const PUT_OBJECT: &str = "INSERT INTO objects (repository, hash, data, referenced_at)
    VALUES ($1, $2, $3, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    ON CONFLICT (repository, hash) DO UPDATE SET referenced_at = excluded.referenced_at";

const CREATE_DOCUMENT: &str = "INSERT INTO documents (kind, tenant, key, version, body, updated_at)
    VALUES ($1, $2, $3, 1, $4, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    ON CONFLICT (kind, tenant, key) DO NOTHING";

const PUT_DOCUMENT: &str = "INSERT INTO documents (kind, tenant, key, version, body, updated_at)
    VALUES ($1, $2, $3, 1, $4, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    ON CONFLICT (kind, tenant, key) DO UPDATE
    SET version = version + 1, body = excluded.body, updated_at = excluded.updated_at";

const SWAP_DOCUMENT: &str = "UPDATE documents
    SET version = version + 1, body = $4, updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
    WHERE kind = $1 AND tenant = $2 AND key = $3 AND version = $5";

const DOCUMENT: &str =
    "SELECT tenant, key, version, body, updated_at, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
    FROM documents WHERE kind = $1 AND tenant = $2 AND key = $3";

const TENANT_DOCUMENTS: &str =
    "SELECT tenant, key, version, body, updated_at, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
    FROM documents WHERE kind = $1 AND tenant = $2 ORDER BY key";

const ALL_DOCUMENTS: &str =
    "SELECT tenant, key, version, body, updated_at, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
    FROM documents WHERE kind = $1 ORDER BY tenant, key";

const FORGET_IDEMPOTENCY: &str = "DELETE FROM idempotency
    WHERE repository = $1 AND created_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - $2";

const PUT_IDEMPOTENCY: &str = "INSERT INTO idempotency
    (repository, key, principal, operation, request_hash, commit_hash, error, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    ON CONFLICT (repository, key) DO NOTHING";

const PUT_EVENT: &str = "INSERT INTO events (repository, number, kind, body, created_at)
    VALUES ($1, $2, $3, $4, CAST(unixepoch('subsec') * 1000000 AS INTEGER))";

const CREATE_REFERENCE: &str =
    "INSERT INTO branches_and_tags (repository, name, tag, hash) VALUES ($1, $2, $3, $4)
    ON CONFLICT (repository, name) DO NOTHING";

const MOVE_REFERENCE: &str =
    "UPDATE branches_and_tags SET hash = $5 WHERE repository = $1 AND name = $2 AND tag = $3 AND hash = $4";

const DELETE_REFERENCE: &str =
    "DELETE FROM branches_and_tags WHERE repository = $1 AND name = $2 AND tag = $3 AND hash = $4";

const REFERENCE_HASH: &str = "SELECT hash FROM branches_and_tags WHERE repository = $1 AND name = $2";

const DELETE_DOCUMENT: &str =
    "DELETE FROM documents WHERE kind = $1 AND tenant = $2 AND key = $3 AND ($4 < 0 OR version = $4)";

const RAISE_EPOCH: &str = "UPDATE repositories SET access_epoch = access_epoch + 1 WHERE name = $1";

const TAKE_EVENT_NUMBERS: &str =
    "UPDATE repositories SET last_event = last_event + $2 WHERE name = $1 RETURNING last_event";

/// A store in one file.
pub struct SqliteStore {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

impl SqliteStore {
    /// Opens a file, creating it if it is missing, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let explain = |error: sqlx::Error| {
            StoreError::Refused(format!(
                "can't open the catalog's database '{}': {error}; its folder must exist and be writable",
                path.display()
            ))
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT);
        let writer = pool(1).connect_with(options.clone()).await.map_err(explain)?;
        migrate(&writer).await?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await.map_err(explain)?;
        Ok(Self { writer, readers })
    }
}

/// Runs what is missing in one transaction, so that a crash leaves the old schema or the new one.
async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    transact(writer, async |connection| {
        for table in migrate::CREATE_TABLES {
            sqlx::query(table).execute(&mut *connection).await?;
        }
        let applied: i64 = sqlx::query_scalar(migrate::APPLIED).fetch_one(&mut *connection).await?;
        let floor: i64 = sqlx::query_scalar(migrate::FLOOR).fetch_one(&mut *connection).await?;
        for migration in migrate::pending(migrate::SQLITE, applied, floor)? {
            sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
            sqlx::query(migrate::RECORD).bind(migration.number).execute(&mut *connection).await?;
            let floor = sqlx::query(migrate::RECORD_FLOOR).bind(migration.number).bind(migration.oldest);
            floor.execute(&mut *connection).await?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// Runs a write transaction: commits on `Continue`, rolls back on `Break` or an error.
///
/// After an error its connection is never used again: where a commit or rollback failed, as on a full disk, it takes the
/// transaction for open, and would refuse whatever came next.
pub(super) async fn transact<T>(
    writer: &SqlitePool,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<ControlFlow<T, T>, StoreError>,
) -> Result<T, StoreError> {
    let mut connection = writer.acquire().await?;
    let done = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        match work(&mut transaction).await? {
            ControlFlow::Break(answer) => {
                transaction.rollback().await?;
                Ok(answer)
            }
            ControlFlow::Continue(answer) => {
                transaction.commit().await.map_err(StoreError::Unknown)?;
                Ok(answer)
            }
        }
    }
    .await;
    if done.is_err() {
        connection.close_on_drop();
    }
    done
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError> {
        let names = serde_json::Value::from(names.to_vec()).to_string();
        let rows: Vec<HeadTuple> =
            sqlx::query_as(HEADS).bind(repository).bind(names).fetch_all(&self.readers).await?;
        decode::heads(rows)
    }

    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError> {
        let rows: Vec<ReferenceTuple> =
            sqlx::query_as(statements::REFERENCES).bind(repository).fetch_all(&self.readers).await?;
        rows.into_iter().map(decode::reference).collect()
    }

    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError> {
        let names =
            serde_json::Value::from(hashes.iter().map(Hash::to_string).collect::<Vec<_>>()).to_string();
        let rows: Vec<(Vec<u8>, Vec<u8>)> =
            sqlx::query_as(OBJECTS).bind(repository).bind(names).fetch_all(&self.readers).await?;
        rows.into_iter().map(|(hash, data)| Ok((decode::hash(&hash)?, Bytes::from(data)))).collect()
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        transact(&self.writer, async |connection| {
            Ok(match apply(connection, write).await? {
                Some(refusal) => ControlFlow::Break(Written::Refused(refusal)),
                None => ControlFlow::Continue(Written::Done),
            })
        })
        .await
    }

    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        let row: Option<IdempotencyTuple> = sqlx::query_as(statements::IDEMPOTENCY)
            .bind(repository)
            .bind(key)
            .fetch_optional(&self.readers)
            .await?;
        row.map(decode::idempotency).transpose()
    }

    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows: Vec<EventTuple> = sqlx::query_as(statements::EVENTS)
            .bind(repository)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        Ok(rows.into_iter().map(decode::event).collect())
    }

    async fn last_events(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(sqlx::query_as(statements::LAST_EVENTS).fetch_all(&self.readers).await?)
    }

    async fn documents(
        &self,
        kind: &str,
        selection: DocumentSelection<'_>,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let query = match selection {
            DocumentSelection::One { tenant, key } => {
                sqlx::query_as(DOCUMENT).bind(kind).bind(tenant).bind(key)
            }
            DocumentSelection::Tenant(tenant) => sqlx::query_as(TENANT_DOCUMENTS).bind(kind).bind(tenant),
            DocumentSelection::All => sqlx::query_as(ALL_DOCUMENTS).bind(kind),
        };
        let rows: Vec<DocumentTuple> = query.fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(decode::document).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    fn reconnect(&self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Refused("another database file is taken at the next start".to_owned()))
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Everything a write does, in the order that [`Write`] gives.
async fn apply(connection: &mut SqliteConnection, write: &Write) -> Result<Option<Refusal>, StoreError> {
    let repository = write.repository.as_str();
    if write.create_repository {
        sqlx::query(CREATE_REPOSITORY).bind(repository).execute(&mut *connection).await?;
    }
    for moved in &write.references {
        if let Some(refusal) = move_reference(connection, repository, moved).await? {
            return Ok(Some(refusal));
        }
    }
    for put in &write.documents {
        if put_document(connection, put).await? == 0 && put.expected_version.is_some() {
            return Ok(Some(Refusal::Document { kind: put.kind.clone(), key: put.key.clone() }));
        }
    }
    if let Some(key) = put_idempotency(connection, repository, &write.idempotency).await? {
        return Ok(Some(Refusal::Idempotency { key }));
    }
    for (hash, data) in &write.objects {
        let query = sqlx::query(PUT_OBJECT).bind(repository).bind(hash.0.as_slice()).bind(data.as_ref());
        query.execute(&mut *connection).await?;
    }
    if write.raise_access_epoch {
        let raised = sqlx::query(RAISE_EPOCH).bind(repository).execute(&mut *connection).await?;
        if raised.rows_affected() == 0 {
            return Ok(Some(Refusal::Repository));
        }
    }
    put_events(connection, repository, &write.events).await
}

async fn move_reference(
    connection: &mut SqliteConnection,
    repository: &str,
    moved: &ReferenceMove,
) -> Result<Option<Refusal>, StoreError> {
    let statement = match (&moved.from, &moved.to) {
        (None, None) => return Ok(None),
        (None, Some(_)) => CREATE_REFERENCE,
        (Some(_), Some(_)) => MOVE_REFERENCE,
        (Some(_), None) => DELETE_REFERENCE,
    };
    let mut query = sqlx::query(statement).bind(repository).bind(&moved.name).bind(moved.tag);
    for hash in [&moved.from, &moved.to].into_iter().flatten() {
        query = query.bind(hash.0.as_slice());
    }
    if query.execute(&mut *connection).await?.rows_affected() == 1 {
        return Ok(None);
    }
    let found: Option<Vec<u8>> = sqlx::query_scalar(REFERENCE_HASH)
        .bind(repository)
        .bind(&moved.name)
        .fetch_optional(&mut *connection)
        .await?;
    let found = found.as_deref().map(decode::hash).transpose()?;
    Ok(Some(Refusal::Reference { name: moved.name.clone(), found }))
}

/// Answers the number of rows changed.
async fn put_document(connection: &mut SqliteConnection, put: &DocumentPut) -> Result<u64, StoreError> {
    let statement = match (&put.body, put.expected_version) {
        (None, _) => DELETE_DOCUMENT,
        (Some(_), None) => PUT_DOCUMENT,
        (Some(_), Some(0)) => CREATE_DOCUMENT,
        (Some(_), Some(_)) => SWAP_DOCUMENT,
    };
    let mut query = sqlx::query(statement).bind(&put.kind).bind(&put.tenant).bind(&put.key);
    query = match (&put.body, put.expected_version) {
        (None, version) => query.bind(version.unwrap_or(-1)),
        (Some(body), None | Some(0)) => query.bind(body.as_ref()),
        (Some(body), Some(version)) => query.bind(body.as_ref()).bind(version),
    };
    Ok(query.execute(connection).await?.rows_affected())
}

/// Answers the first key that was there already. Forgets what is older than it needs to be kept.
async fn put_idempotency(
    connection: &mut SqliteConnection,
    repository: &str,
    rows: &[IdempotencyRow],
) -> Result<Option<String>, StoreError> {
    if !rows.is_empty() {
        let age_us = IdempotencyRow::KEPT_SECONDS * 1_000_000;
        sqlx::query(FORGET_IDEMPOTENCY).bind(repository).bind(age_us).execute(&mut *connection).await?;
    }
    for row in rows {
        let inserted = sqlx::query(PUT_IDEMPOTENCY)
            .bind(repository)
            .bind(&row.key)
            .bind(&row.principal)
            .bind(&row.operation)
            .bind(row.request_hash.0.as_slice())
            .bind(row.commit_hash.as_ref().map(|hash| hash.0.as_slice()))
            .bind(&row.error)
            .execute(&mut *connection)
            .await?;
        if inserted.rows_affected() == 0 {
            return Ok(Some(row.key.clone()));
        }
    }
    Ok(None)
}

async fn put_events(
    connection: &mut SqliteConnection,
    repository: &str,
    events: &[NewEvent],
) -> Result<Option<Refusal>, StoreError> {
    if events.is_empty() {
        return Ok(None);
    }
    let count = events.len() as i64;
    let last: Option<i64> = sqlx::query_scalar(TAKE_EVENT_NUMBERS)
        .bind(repository)
        .bind(count)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(last) = last else { return Ok(Some(Refusal::Repository)) };
    for (number, event) in (last - count + 1..).zip(events) {
        sqlx::query(PUT_EVENT)
            .bind(repository)
            .bind(number)
            .bind(event.kind)
            .bind(event.body.as_ref())
            .execute(&mut *connection)
            .await?;
    }
    Ok(None)
}
