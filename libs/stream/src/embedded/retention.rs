//! What may go: records past their age or over the log's size that every group has passed, and in compacted topics all
//! but the newest record of each key. In steps of bounded size, so that appends never wait long.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};

use super::{batch::Batch, schema};
use crate::{StreamError, StreamErrorKind};

/// Records that a step looks at.
const STEP_RECORDS: i64 = 2000;

/// How long compaction keeps tombstones, so that readers of the whole topic see them.
const TOMBSTONE_MS: i64 = 24 * 3600 * 1000;

/// The size of a record in SQL; the same as `batch::cost`, without reading the payload.
const COST: &str = "32 + IFNULL(length(key), 0) + IFNULL(length(value), 0) + IFNULL(length(headers), 0)";

/// One step of all maintenance; true if another is needed.
pub(super) fn step(batch: &mut Batch<'_>) -> rusqlite::Result<bool> {
    let floors = floors(batch)?;
    let mut more = false;
    let entries: Vec<(bool, i64, Vec<u32>)> = batch
        .layout
        .topics
        .values()
        .map(|entry| (entry.compacted, age_ms(batch, entry.retention_ms), entry.slots.clone()))
        .collect();
    for (compacted, age_ms, slots) in entries {
        for slot in slots {
            let dropped = if compacted {
                compact(batch, slot, floor(&floors, batch, slot))?
            } else {
                drop_first(batch, slot, floor(&floors, batch, slot), Some(batch.now_ms - age_ms))?
            };
            more |= dropped.more;
        }
    }
    let tombstones = drop_tombstones(batch, &floors)?;
    Ok(more | tombstones.more)
}

/// Makes room for `bytes` under `limit` by dropping what every group has passed, oldest first. Refused if the log is full
/// of records that some group has still to read.
pub(super) fn make_room(
    batch: &mut Batch<'_>,
    bytes: i64,
    limit: i64,
) -> rusqlite::Result<Result<(), StreamError>> {
    if batch.layout.bytes() + bytes <= limit {
        return Ok(Ok(()));
    }
    let floors = floors(batch)?;
    let droppable: Vec<u32> = batch
        .layout
        .topics
        .values()
        .filter(|entry| !entry.compacted)
        .flat_map(|entry| entry.slots.clone())
        .collect();
    loop {
        let mut oldest = None;
        for slot in &droppable {
            if batch.layout.slot(*slot).start < floor(&floors, batch, *slot) {
                let first = first_timestamp(batch, *slot)?;
                oldest = oldest.into_iter().chain([(first, *slot)]).min();
            }
        }
        let Some((_, slot)) = oldest else { break };
        drop_first(batch, slot, floor(&floors, batch, slot), None)?;
        if batch.layout.bytes() + bytes <= limit {
            return Ok(Ok(()));
        }
    }
    Ok(Err(StreamError::new(
        StreamErrorKind::Unavailable,
        format!(
            "the log {} is full ({} bytes) of records that a group has still to read: let the consumers catch up, or \
             raise its size",
            batch.config.path.display(),
            batch.layout.bytes()
        ),
    )))
}

#[derive(Default)]
struct Dropped {
    records: u64,
    more: bool,
}

/// Drops a partition's first records below `floor`, and older than `before_ms` if given; one step.
fn drop_first(
    batch: &mut Batch<'_>,
    slot: u32,
    floor: i64,
    before_ms: Option<i64>,
) -> rusqlite::Result<Dropped> {
    let bounds = *batch.layout.slot(slot);
    let (first, end) = (schema::position(slot, bounds.start), schema::position(slot, floor));
    if first >= end {
        return Ok(Dropped::default());
    }
    // Timestamps never fall along a partition but by a clock set back, and then waiting longer is right.
    let (records, bytes, last): (i64, i64, Option<i64>) = batch
        .transaction
        .prepare_cached(&format!(
            "SELECT count(*), IFNULL(sum(cost), 0), max(position) FROM (
                SELECT position, {COST} AS cost FROM record WHERE position >= ?1 AND position < min(?2, IFNULL((
                    SELECT position FROM record WHERE position >= ?1 AND position < ?2 AND timestamp_ms > ?3
                    ORDER BY position LIMIT 1), ?2))
                ORDER BY position LIMIT ?4)"
        ))?
        .query_row(params![first, end, before_ms.unwrap_or(i64::MAX), STEP_RECORDS], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let Some(last) = last else { return Ok(Dropped::default()) };
    batch
        .transaction
        .prepare_cached("DELETE FROM record WHERE position BETWEEN ?1 AND ?2")?
        .execute(params![first, last])?;
    let bounds = batch.layout.slot_mut(slot);
    bounds.start = schema::offset_of(last) + 1;
    bounds.bytes -= bytes;
    batch.touch(slot);
    Ok(Dropped { records: records.unsigned_abs(), more: records == STEP_RECORDS })
}

/// Drops the records that a newer one of the same key, below `floor`, has made superfluous; one step.
fn compact(batch: &mut Batch<'_>, slot: u32, floor: i64) -> rusqlite::Result<Dropped> {
    let clean = batch.layout.slot(slot).clean;
    if clean >= floor {
        return Ok(Dropped::default());
    }
    let transaction = batch.transaction;
    let mut scan = transaction.prepare_cached(
        "SELECT position, key FROM record WHERE position >= ?1 AND position < ?2 AND key IS NOT NULL
         ORDER BY position LIMIT ?3",
    )?;
    let mut newest = transaction.prepare_cached("SELECT offset FROM newest WHERE slot = ?1 AND key = ?2")?;
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO newest (slot, key, offset) VALUES (?1, ?2, ?3)
         ON CONFLICT (slot, key) DO UPDATE SET offset = ?3",
    )?;
    let mut rows =
        scan.query(params![schema::position(slot, clean), schema::position(slot, floor), STEP_RECORDS])?;
    let (mut seen, mut last, mut dropped) = (0, clean, Dropped::default());
    while let Some(row) = rows.next()? {
        let (position, key): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let older: Option<i64> = newest.query_row(params![slot, key], |row| row.get(0)).optional()?;
        if let Some(older) = older {
            drop_one(batch, slot, older)?;
            dropped.records += 1;
        }
        last = schema::offset_of(position);
        upsert.execute(params![slot, key, last])?;
        seen += 1;
    }
    dropped.more = seen == STEP_RECORDS;
    batch.layout.slot_mut(slot).clean = if dropped.more { last + 1 } else { floor };
    batch.touch(slot);
    Ok(dropped)
}

/// Drops tombstones of compacted topics that are a day old and that compaction and every group have passed.
fn drop_tombstones(batch: &mut Batch<'_>, floors: &HashMap<u32, i64>) -> rusqlite::Result<Dropped> {
    let transaction = batch.transaction;
    let mut scan = transaction.prepare_cached(
        "SELECT position, key FROM record INDEXED BY record_tombstone WHERE value IS NULL AND timestamp_ms <= ?1
         AND key IS NOT NULL ORDER BY timestamp_ms LIMIT ?2",
    )?;
    let mut rows = scan.query(params![batch.now_ms - TOMBSTONE_MS, STEP_RECORDS])?;
    let mut dropped = Dropped::default();
    while let Some(row) = rows.next()? {
        let (position, key): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let (slot, offset) = (schema::slot_of(position), schema::offset_of(position));
        // Only where compaction knows the record as its key's newest; that is never so in other topics.
        let known = transaction
            .prepare_cached("DELETE FROM newest WHERE slot = ?1 AND key = ?2 AND offset = ?3")?
            .execute(params![slot, key, if offset < floor(floors, batch, slot) { offset } else { -1 }])?;
        if known == 1 {
            drop_one(batch, slot, offset)?;
            dropped.records += 1;
        }
    }
    dropped.more = dropped.records == STEP_RECORDS.unsigned_abs();
    Ok(dropped)
}

fn drop_one(batch: &mut Batch<'_>, slot: u32, offset: i64) -> rusqlite::Result<()> {
    let bytes: i64 = batch
        .transaction
        .prepare_cached(&format!("DELETE FROM record WHERE position = ?1 RETURNING {COST}"))?
        .query_row([schema::position(slot, offset)], |row| row.get(0))?;
    batch.layout.slot_mut(slot).bytes -= bytes;
    batch.touch(slot);
    Ok(())
}

fn first_timestamp(batch: &Batch<'_>, slot: u32) -> rusqlite::Result<i64> {
    batch
        .transaction
        .prepare_cached("SELECT timestamp_ms FROM record WHERE position >= ?1 ORDER BY position LIMIT 1")?
        .query_row([schema::position(slot, batch.layout.slot(slot).start)], |row| row.get(0))
}

/// The lowest offset that some group has still to read, by partition.
fn floors(batch: &Batch<'_>) -> rusqlite::Result<HashMap<u32, i64>> {
    let mut query =
        batch.transaction.prepare_cached("SELECT slot, min(floor_offset) FROM group_offset GROUP BY slot")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Where dropping must stop: what a group needs, or the end.
fn floor(floors: &HashMap<u32, i64>, batch: &Batch<'_>, slot: u32) -> i64 {
    let end = batch.layout.slot(slot).end;
    floors.get(&slot).map_or(end, |floor| *floor.min(&end))
}

fn age_ms(batch: &Batch<'_>, retention_ms: Option<i64>) -> i64 {
    retention_ms
        .unwrap_or_else(|| i64::try_from(batch.config.retention_s.saturating_mul(1000)).unwrap_or(i64::MAX))
}
