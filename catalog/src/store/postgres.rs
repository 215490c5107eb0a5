//! PostgreSQL: for production. Every session commits synchronously; lists travel as arrays, one statement each.

mod kept;

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use bytes::Bytes;
use sqlx::{
    Connection as _, PgPool,
    postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgPoolOptions},
};

use super::{
    DocumentRow, DocumentSelection, EventRow, Hash, Heads, IdempotencyRow, ReferenceRow, Refusal, Store,
    StoreError, Write, Written, migrate,
    rows::decode::{self, DocumentTuple, EventTuple, HeadTuple, IdempotencyTuple, ReferenceTuple},
    statements,
};
use kept::Kept;

const CONNECTIONS: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that were idle for longer are tested before they are used; one more round trip for each use would be dear.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Any number: what matters is that all replicas lock the same one while they migrate.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7361901224)";

const HEADS: &str = "SELECT r.access_epoch, f.name, f.tag, f.hash FROM repositories r
    LEFT JOIN branches_and_tags f ON f.repository = r.name AND f.name = ANY($2)
    WHERE r.name = $1";

const OBJECTS: &str = "SELECT hash, data FROM objects WHERE repository = $1 AND hash = ANY($2)";

/// One statement, so that a write costs one round trip and PostgreSQL commits it by itself.
const WRITE: &str =
    "SELECT catalog_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23)";

const DOCUMENT: &str =
    "SELECT tenant, key, version, body, updated_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM documents WHERE kind = $1 AND tenant = $2 AND key = $3";

const TENANT_DOCUMENTS: &str =
    "SELECT tenant, key, version, body, updated_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM documents WHERE kind = $1 AND tenant = $2 ORDER BY key";

const ALL_DOCUMENTS: &str =
    "SELECT tenant, key, version, body, updated_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM documents WHERE kind = $1 ORDER BY tenant, key";

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    pub(super) pool: PgPool,
    /// For heads and writes.
    kept: Kept,
}

impl PostgresStore {
    /// Connects and brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        // The URL holds a password: errors repeat the host alone.
        let options = options(url)?;
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, usage| {
                Box::pin(async move { Ok(usage.idle_for < TRUSTED_IDLE || connection.ping().await.is_ok()) })
            })
            .connect_with(options)
            .await
            .map_err(|error| {
                StoreError::Refused(format!("can't open the catalog's database at {host}:{port}: {error}"))
            })?;
        migrate(&pool).await?;
        Ok(Self { pool, kept: Kept::default() })
    }
}

/// How connections are made.
fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::Refused(format!("the catalog's database URL is wrong: {error}")))?;
    Ok(options.options([("synchronous_commit", "on")]))
}

/// Runs what is missing in one transaction, one replica at a time.
async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query(MIGRATION_LOCK).execute(&mut *transaction).await?;
    for table in migrate::CREATE_TABLES {
        sqlx::query(table).execute(&mut *transaction).await?;
    }
    let applied: i64 = sqlx::query_scalar(migrate::APPLIED).fetch_one(&mut *transaction).await?;
    let floor: i64 = sqlx::query_scalar(migrate::FLOOR).fetch_one(&mut *transaction).await?;
    for migration in migrate::pending(migrate::POSTGRES, applied, floor)? {
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
        sqlx::query(migrate::RECORD).bind(migration.number).execute(&mut *transaction).await?;
        let floor = sqlx::query(migrate::RECORD_FLOOR).bind(migration.number).bind(migration.oldest);
        floor.execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError> {
        let rows: Vec<HeadTuple> = read(|| async {
            let mut connection = self.kept.take(&self.pool).await?;
            let query = sqlx::query_as(HEADS).bind(repository).bind(names);
            let rows = query.fetch_all(&mut *connection).await?;
            self.kept.give(connection);
            Ok(rows)
        })
        .await?;
        decode::heads(rows)
    }

    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError> {
        let rows: Vec<ReferenceTuple> =
            read(|| sqlx::query_as(statements::REFERENCES).bind(repository).fetch_all(&self.pool)).await?;
        rows.into_iter().map(decode::reference).collect()
    }

    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError> {
        let names: Vec<&[u8]> = hashes.iter().map(|hash| hash.0.as_slice()).collect();
        let rows: Vec<(Vec<u8>, Vec<u8>)> = read(|| async {
            let mut connection = self.kept.take(&self.pool).await?;
            let found =
                sqlx::query_as(OBJECTS).bind(repository).bind(&names).fetch_all(&mut *connection).await?;
            self.kept.give(connection);
            Ok(found)
        })
        .await?;
        rows.into_iter().map(|(hash, data)| Ok((decode::hash(&hash)?, Bytes::from(data)))).collect()
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        let mut connection = self.kept.take(&self.pool).await?;
        match bind(write).execute(&mut *connection).await {
            Ok(_) => {
                self.kept.give(connection);
                Ok(Written::Done)
            }
            Err(error) => match refusal(&error)? {
                Some(refusal) => Ok(Written::Refused(refusal)),
                None if connection_lost(&error) => Err(StoreError::Unknown(error)),
                None => Err(error.into()),
            },
        }
    }

    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        let row: Option<IdempotencyTuple> = read(|| {
            sqlx::query_as(statements::IDEMPOTENCY).bind(repository).bind(key).fetch_optional(&self.pool)
        })
        .await?;
        row.map(decode::idempotency).transpose()
    }

    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows: Vec<EventTuple> = read(|| {
            let query =
                sqlx::query_as(statements::EVENTS).bind(repository).bind(after).bind(i64::from(limit));
            query.fetch_all(&self.pool)
        })
        .await?;
        Ok(rows.into_iter().map(decode::event).collect())
    }

    async fn last_events(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(read(|| sqlx::query_as(statements::LAST_EVENTS).fetch_all(&self.pool)).await?)
    }

    async fn documents(
        &self,
        kind: &str,
        selection: DocumentSelection<'_>,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let rows: Vec<DocumentTuple> = read(|| {
            let query = match selection {
                DocumentSelection::One { tenant, key } => {
                    sqlx::query_as(DOCUMENT).bind(kind).bind(tenant).bind(key)
                }
                DocumentSelection::Tenant(tenant) => sqlx::query_as(TENANT_DOCUMENTS).bind(kind).bind(tenant),
                DocumentSelection::All => sqlx::query_as(ALL_DOCUMENTS).bind(kind),
            };
            query.fetch_all(&self.pool)
        })
        .await?;
        Ok(rows.into_iter().map(decode::document).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        read(|| sqlx::query("SELECT 1").execute(&self.pool)).await?;
        Ok(())
    }

    fn reconnect(&self, database_url: &str) -> Result<(), StoreError> {
        self.pool.set_connect_options(options(database_url)?);
        Ok(())
    }

    async fn close(&self) {
        self.kept.clear();
        self.pool.close().await;
    }
}

/// Runs a statement that can be repeated, and again if its connection was dead, which the pool can't know: after a restart of the database all of them are.
pub(super) async fn read<T, F>(query: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    for _ in 0..CONNECTIONS {
        match query().await {
            Err(error) if connection_lost(&error) => {}
            answer => return answer,
        }
    }
    query().await
}

/// [`WRITE`] with its parameters: lists by column.
fn bind(write: &Write) -> sqlx::query::Query<'_, sqlx::Postgres, PgArguments> {
    // A move from nowhere to nowhere says nothing.
    let moves: Vec<_> =
        write.references.iter().filter(|moved| moved.from.is_some() || moved.to.is_some()).collect();
    // In hash order: two transactions that share objects lock them in the same order.
    let objects: BTreeMap<&[u8], &[u8]> =
        write.objects.iter().map(|(hash, data)| (hash.0.as_slice(), data.as_ref())).collect();
    let (hashes, data): (Vec<&[u8]>, Vec<&[u8]>) = objects.into_iter().unzip();
    let (documents, requests) = (&write.documents, &write.idempotency);
    sqlx::query(WRITE)
        .bind(&write.repository)
        .bind(write.create_repository)
        .bind(write.raise_access_epoch)
        .bind(column(&moves, |moved| moved.name.as_str()))
        .bind(column(&moves, |moved| moved.tag))
        .bind(column(&moves, |moved| moved.from.as_ref().map(|hash| hash.0.as_slice())))
        .bind(column(&moves, |moved| moved.to.as_ref().map(|hash| hash.0.as_slice())))
        .bind(column(documents, |put| put.kind.as_str()))
        .bind(column(documents, |put| put.tenant.as_str()))
        .bind(column(documents, |put| put.key.as_str()))
        .bind(column(documents, |put| put.expected_version))
        .bind(column(documents, |put| put.body.as_deref()))
        .bind(column(requests, |row| row.key.as_str()))
        .bind(column(requests, |row| row.principal.as_str()))
        .bind(column(requests, |row| row.operation.as_str()))
        .bind(column(requests, |row| row.request_hash.0.as_slice()))
        .bind(column(requests, |row| row.commit_hash.as_ref().map(|hash| hash.0.as_slice())))
        .bind(column(requests, |row| row.error.as_deref()))
        .bind(IdempotencyRow::KEPT_SECONDS * 1_000_000)
        .bind(hashes)
        .bind(data)
        .bind(column(&write.events, |event| event.kind))
        .bind(column(&write.events, |event| event.body.as_ref()))
}

fn column<'a, Row, Value>(rows: &'a [Row], value: impl Fn(&'a Row) -> Value) -> Vec<Value> {
    rows.iter().map(value).collect()
}

/// What the function found elsewhere than expected, if it was that.
fn refusal(error: &sqlx::Error) -> Result<Option<Refusal>, StoreError> {
    let Some(error) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) else {
        return Ok(None);
    };
    let (named, detail) = (error.message().to_owned(), error.detail().unwrap_or_default());
    Ok(Some(match error.code() {
        "FR001" => {
            let found = hex::decode(detail).unwrap_or_default();
            let found = if found.is_empty() { None } else { Some(decode::hash(&found)?) };
            Refusal::Reference { name: named, found }
        }
        "FR002" => Refusal::Document { kind: detail.to_owned(), key: named },
        "FR003" => Refusal::Idempotency { key: named },
        "FR004" => Refusal::Repository,
        _ => return Ok(None),
    }))
}

/// Whether the connection went down, or the server was going down: a write may have been committed before that.
fn connection_lost(error: &sqlx::Error) -> bool {
    match error.as_database_error().and_then(|error| error.code()) {
        Some(code) => code.starts_with("08") || code.starts_with("57P"),
        None => matches!(
            error,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed
        ),
    }
}
