//! The file: its tables, and how connections to it are opened.
//!
//! Statements bind `?1`, not `$1`: to SQLite `$1` is a name, numbered by where it first stands.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::{StreamError, StreamErrorKind};

/// Version of the tables, in `PRAGMA user_version`.
const VERSION: i64 = 1;

/// A record's row id is its slot (one number per partition of a topic) and its offset: the records of a partition lie
/// together in the order they are read, and an append goes to the end of its run.
const TABLES: &str = "
CREATE TABLE topic (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    compacted INTEGER NOT NULL,
    retention_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE slot (
    slot INTEGER PRIMARY KEY,
    topic TEXT NOT NULL REFERENCES topic (name),
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    clean_offset INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (topic, partition)
) STRICT;

CREATE TABLE record (
    position INTEGER PRIMARY KEY,
    timestamp_ms INTEGER NOT NULL,
    key BLOB,
    value BLOB,
    headers BLOB
) STRICT;

CREATE INDEX record_tombstone ON record (timestamp_ms) WHERE value IS NULL;

-- The newest record of each key, up to a compacted partition's clean_offset.
CREATE TABLE newest (
    slot INTEGER NOT NULL,
    key BLOB NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (slot, key)
) STRICT, WITHOUT ROWID;

-- next_offset is null until the group commits; floor_offset is what it may still have to read until then.
CREATE TABLE group_offset (
    group_name TEXT NOT NULL,
    slot INTEGER NOT NULL,
    next_offset INTEGER,
    floor_offset INTEGER NOT NULL,
    PRIMARY KEY (group_name, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE producer (
    transactional_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Bits of a record's row id that hold its offset.
const OFFSET_BITS: u32 = 40;

/// The row id of a record.
pub(super) fn position(slot: u32, offset: i64) -> i64 {
    (i64::from(slot) << OFFSET_BITS) | offset
}

/// The offset in a record's row id.
pub(super) fn offset_of(position: i64) -> i64 {
    position & ((1 << OFFSET_BITS) - 1)
}

/// The slot in a record's row id.
pub(super) fn slot_of(position: i64) -> u32 {
    u32::try_from(position >> OFFSET_BITS).unwrap_or(u32::MAX)
}

/// The lock that keeps a second process out; the system releases it when the process ends, however it ends.
pub(super) fn lock(path: &Path) -> Result<File, StreamError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name)
        .map_err(|error| unusable(path, &error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StreamError::new(
            StreamErrorKind::Config,
            format!(
                "the log {} is in use by another process: stop that one, or use another data directory",
                path.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error.to_string())),
    }
}

/// The writer's connection, with the tables made if they are not there.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StreamError> {
    // Inventories are personal data: SQLite gives its other files the mode of this one.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unusable(path, &error.to_string()))?;
    let mut connection =
        connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| failed(path, &error))?;
    prepare(&mut connection).map_err(|error| failed(path, &error))?;
    let version: i64 = connection
        .query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))
        .map_err(|error| failed(path, &error))?;
    if version != VERSION {
        return Err(StreamError::new(
            StreamErrorKind::Config,
            format!(
                "the log {} has version {version}, this Firn knows {VERSION}: use the Firn that wrote it",
                path.display()
            ),
        ));
    }
    Ok(connection)
}

/// A reader's connection.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -8192;
         PRAGMA temp_store = MEMORY;",
    )?;
    let transaction = connection.transaction()?;
    let version: i64 =
        transaction.query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

fn unusable(path: &Path, reason: &str) -> StreamError {
    StreamError::new(
        StreamErrorKind::Config,
        format!("can't open the log {}: {reason}; check the directory and its permissions", path.display()),
    )
}

/// What a failed statement means to a caller.
pub(super) fn failed(path: &Path, error: &rusqlite::Error) -> StreamError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StreamError::new(
            StreamErrorKind::Unavailable,
            format!("the disk of the log {} is full: free space, then try again", path.display()),
        ),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StreamError::new(
            StreamErrorKind::Broken,
            format!("the log {} is damaged ({error}): restore it from a backup", path.display()),
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            unusable(path, &error.to_string())
        }
        _ => StreamError::new(
            StreamErrorKind::Broken,
            format!("the log {} failed: {error}; check the disk and restart", path.display()),
        ),
    }
}
