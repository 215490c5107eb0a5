//! Reading: connections beside the writer's, and their queries.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Semaphore;

use super::{headers, schema};
use crate::{MAX_READ_BYTES, OffsetRange, Record, StreamError, StreamErrorKind};

/// Connections open at once.
const CONNECTIONS: usize = 4;

/// Connections that only read.
pub(super) struct Readers {
    path: PathBuf,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, permits: Semaphore::new(CONNECTIONS), idle: Mutex::new(Vec::new()) }
    }

    /// Runs a query off the async threads. Waits while all connections are busy.
    pub(super) async fn run<T, F>(self: &Arc<Self>, query: F) -> Result<T, StreamError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| stopped())?;
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let connection = readers.take().map_err(|error| schema::failed(&readers.path, &error))?;
            let answer = query(&connection).map_err(|error| schema::failed(&readers.path, &error));
            let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < CONNECTIONS {
                idle.push(connection);
            }
            answer
        })
        .await
        .map_err(|_| stopped())?
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.path), Ok)
    }
}

pub(super) fn stopped() -> StreamError {
    StreamError::new(StreamErrorKind::Broken, "the embedded log has stopped: restart")
}

/// Records of a partition within a range, in order. The range ends where the published layout does: the file may hold more
/// already, of a transaction that is just being published, and a reader that went past the end would take it for a truncated log.
pub(super) fn records(
    connection: &Connection,
    slot: u32,
    partition: i32,
    range: OffsetRange,
    max_records: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare_cached(
        "SELECT position, timestamp_ms, key, value, headers FROM record
         WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
    )?;
    let limit = i64::try_from(max_records).unwrap_or(i64::MAX);
    let (first, end) = (schema::position(slot, range.start), schema::position(slot, range.end));
    let mut rows = statement.query(params![first, end, limit])?;
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let headers: Option<Vec<u8>> = row.get(4)?;
        let record = Record {
            partition,
            offset: schema::offset_of(row.get(0)?),
            timestamp_ms: row.get(1)?,
            key: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
            value: row.get::<_, Option<Vec<u8>>>(3)?.map(Bytes::from),
            headers: match headers {
                None => Vec::new(),
                Some(blob) => headers::decode(blob).ok_or_else(damaged_headers)?,
            },
        };
        bytes += record.payload_bytes();
        records.push(record);
        if bytes >= MAX_READ_BYTES {
            break;
        }
    }
    Ok(records)
}

fn damaged_headers() -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Blob, "headers are damaged".into())
}

/// A group's committed offsets.
pub(super) fn committed(
    connection: &Connection,
    group: &str,
    slots: &[u32],
) -> rusqlite::Result<Vec<Option<i64>>> {
    slots.iter().map(|slot| committed_offset(connection, group, *slot)).collect()
}

/// A group's committed offset in one partition.
pub(super) fn committed_offset(
    connection: &Connection,
    group: &str,
    slot: u32,
) -> rusqlite::Result<Option<i64>> {
    let row = connection
        .prepare_cached("SELECT next_offset FROM group_offset WHERE group_name = ?1 AND slot = ?2")?
        .query_row(params![group, slot], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(row.flatten())
}
