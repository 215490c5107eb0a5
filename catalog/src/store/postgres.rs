//! PostgreSQL: for production. Every session commits synchronously; lists travel as arrays, one statement each.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use bytes::Bytes;
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    DocumentPut, DocumentRow, DocumentSelection, EventRow, Hash, Heads, IdempotencyRow, NewEvent,
    ReferenceMove, ReferenceRow, Refusal, Store, StoreError, Write, Written, migrate,
    rows::decode::{self, DocumentTuple, EventTuple, HeadTuple, IdempotencyTuple, ReferenceTuple},
    statements,
};

const CONNECTIONS: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// Any number: what matters is that all replicas lock the same one while they migrate.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7361901224)";

const HEADS: &str = "SELECT r.access_epoch, f.name, f.tag, f.hash FROM repositories r
    LEFT JOIN branches_and_tags f ON f.repository = r.name AND f.name = ANY($2)
    WHERE r.name = $1";

const OBJECTS: &str = "SELECT hash, data FROM objects WHERE repository = $1 AND hash = ANY($2)";

const CREATE_REPOSITORY: &str = "INSERT INTO repositories (name, created_at)
    VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) ON CONFLICT (name) DO NOTHING";

const PUT_OBJECTS: &str = "INSERT INTO objects (repository, hash, data, referenced_at)
    SELECT $1, hash, data, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM unnest($2::bytea[], $3::bytea[]) AS given (hash, data)
    ON CONFLICT (repository, hash) DO UPDATE SET referenced_at = excluded.referenced_at";

const CREATE_DOCUMENT: &str = "INSERT INTO documents (kind, tenant, key, version, body, updated_at)
    VALUES ($1, $2, $3, 1, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    ON CONFLICT (kind, tenant, key) DO NOTHING";

const PUT_DOCUMENT: &str = "INSERT INTO documents (kind, tenant, key, version, body, updated_at)
    VALUES ($1, $2, $3, 1, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    ON CONFLICT (kind, tenant, key) DO UPDATE
    SET version = documents.version + 1, body = excluded.body, updated_at = excluded.updated_at";

const SWAP_DOCUMENT: &str = "UPDATE documents
    SET version = version + 1, body = $4, updated_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    WHERE kind = $1 AND tenant = $2 AND key = $3 AND version = $5";

const DOCUMENT: &str =
    "SELECT tenant, key, version, body, updated_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM documents WHERE kind = $1 AND tenant = $2 AND key = $3";

const TENANT_DOCUMENTS: &str =
    "SELECT tenant, key, version, body, updated_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM documents WHERE kind = $1 AND tenant = $2 ORDER BY key";

const ALL_DOCUMENTS: &str =
    "SELECT tenant, key, version, body, updated_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM documents WHERE kind = $1 ORDER BY tenant, key";

const FORGET_IDEMPOTENCY: &str = "DELETE FROM idempotency
    WHERE repository = $1 AND created_at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2";

const PUT_IDEMPOTENCY: &str = "INSERT INTO idempotency
    (repository, key, principal, operation, request_hash, commit_hash, error, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    ON CONFLICT (repository, key) DO NOTHING";

const PUT_EVENTS: &str = "INSERT INTO events (repository, number, kind, body, created_at)
    SELECT $1, number, kind, body, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM unnest($2::bigint[], $3::text[], $4::bytea[]) AS given (number, kind, body)";

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Connects and brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        // The URL holds a password: errors repeat the host alone.
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Refused(format!("the catalog's database URL is wrong: {error}")))?;
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.options([("synchronous_commit", "on")]))
            .await
            .map_err(|error| {
                StoreError::Refused(format!("can't open the catalog's database at {host}:{port}: {error}"))
            })?;
        migrate(&pool).await?;
        Ok(Self { pool })
    }
}

/// Runs what is missing in one transaction, one replica at a time.
async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query(MIGRATION_LOCK).execute(&mut *transaction).await?;
    sqlx::query(migrate::CREATE_TABLE).execute(&mut *transaction).await?;
    let applied: i64 = sqlx::query_scalar(migrate::APPLIED).fetch_one(&mut *transaction).await?;
    for migration in migrate::pending(migrate::POSTGRES, applied)? {
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
        sqlx::query(migrate::RECORD).bind(migration.number).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError> {
        let rows: Vec<HeadTuple> =
            sqlx::query_as(HEADS).bind(repository).bind(names).fetch_all(&self.pool).await?;
        decode::heads(rows)
    }

    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError> {
        let rows: Vec<ReferenceTuple> =
            sqlx::query_as(statements::REFERENCES).bind(repository).fetch_all(&self.pool).await?;
        rows.into_iter().map(decode::reference).collect()
    }

    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError> {
        let names: Vec<&[u8]> = hashes.iter().map(|hash| hash.0.as_slice()).collect();
        let rows: Vec<(Vec<u8>, Vec<u8>)> =
            sqlx::query_as(OBJECTS).bind(repository).bind(names).fetch_all(&self.pool).await?;
        rows.into_iter().map(|(hash, data)| Ok((decode::hash(&hash)?, Bytes::from(data)))).collect()
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        let mut transaction = self.pool.begin().await?;
        if let Some(refusal) = apply(&mut transaction, write).await? {
            transaction.rollback().await?;
            return Ok(Written::Refused(refusal));
        }
        transaction.commit().await.map_err(StoreError::Unknown)?;
        Ok(Written::Done)
    }

    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        let row: Option<IdempotencyTuple> = sqlx::query_as(statements::IDEMPOTENCY)
            .bind(repository)
            .bind(key)
            .fetch_optional(&self.pool)
            .await?;
        row.map(decode::idempotency).transpose()
    }

    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows: Vec<EventTuple> = sqlx::query_as(statements::EVENTS)
            .bind(repository)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(decode::event).collect())
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
        let rows: Vec<DocumentTuple> = query.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(decode::document).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// Everything a write does, in the order that [`Write`] gives.
async fn apply(connection: &mut PgConnection, write: &Write) -> Result<Option<Refusal>, StoreError> {
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
    put_objects(connection, repository, &write.objects).await?;
    if write.raise_access_epoch {
        let raised = sqlx::query(statements::RAISE_EPOCH).bind(repository).execute(&mut *connection).await?;
        if raised.rows_affected() == 0 {
            return Ok(Some(Refusal::Repository));
        }
    }
    put_events(connection, repository, &write.events).await
}

/// In hash order: two transactions that share objects lock them in the same order.
async fn put_objects(
    connection: &mut PgConnection,
    repository: &str,
    objects: &[(Hash, Bytes)],
) -> Result<(), StoreError> {
    if objects.is_empty() {
        return Ok(());
    }
    let by_hash: BTreeMap<&[u8], &[u8]> =
        objects.iter().map(|(hash, data)| (hash.0.as_slice(), data.as_ref())).collect();
    let (hashes, bodies): (Vec<&[u8]>, Vec<&[u8]>) = by_hash.into_iter().unzip();
    sqlx::query(PUT_OBJECTS).bind(repository).bind(hashes).bind(bodies).execute(connection).await?;
    Ok(())
}

async fn move_reference(
    connection: &mut PgConnection,
    repository: &str,
    moved: &ReferenceMove,
) -> Result<Option<Refusal>, StoreError> {
    let name = moved.name.as_str();
    let query = match (&moved.from, &moved.to) {
        (None, None) => return Ok(None),
        (None, Some(to)) => sqlx::query(statements::CREATE_REFERENCE)
            .bind(repository)
            .bind(name)
            .bind(moved.tag)
            .bind(to.0.as_slice()),
        (Some(from), Some(to)) => sqlx::query(statements::MOVE_REFERENCE)
            .bind(repository)
            .bind(name)
            .bind(from.0.as_slice())
            .bind(to.0.as_slice()),
        (Some(from), None) => {
            sqlx::query(statements::DELETE_REFERENCE).bind(repository).bind(name).bind(from.0.as_slice())
        }
    };
    if query.execute(&mut *connection).await?.rows_affected() == 1 {
        return Ok(None);
    }
    let found: Option<Vec<u8>> = sqlx::query_scalar(statements::REFERENCE_HASH)
        .bind(repository)
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    let found = found.as_deref().map(decode::hash).transpose()?;
    Ok(Some(Refusal::Reference { name: moved.name.clone(), found }))
}

/// Answers the number of rows changed.
async fn put_document(connection: &mut PgConnection, put: &DocumentPut) -> Result<u64, StoreError> {
    let statement = match (&put.body, put.expected_version) {
        (None, _) => statements::DELETE_DOCUMENT,
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
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    repository: &str,
    events: &[NewEvent],
) -> Result<Option<Refusal>, StoreError> {
    if events.is_empty() {
        return Ok(None);
    }
    let count = events.len() as i64;
    let last: Option<i64> = sqlx::query_scalar(statements::TAKE_EVENT_NUMBERS)
        .bind(repository)
        .bind(count)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(last) = last else { return Ok(Some(Refusal::Repository)) };
    let numbers: Vec<i64> = (last - count + 1..=last).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind).collect();
    let bodies: Vec<&[u8]> = events.iter().map(|event| event.body.as_ref()).collect();
    let query = sqlx::query(PUT_EVENTS).bind(repository).bind(numbers).bind(kinds).bind(bodies);
    query.execute(connection).await?;
    Ok(None)
}
