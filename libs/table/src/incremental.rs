//! Rows added and removed between two snapshots.

mod changes;

use std::collections::HashSet;

use crate::{SnapshotInfo, Table, TableError, TableScan};
use changes::Changes;

/// Value of the summary's `firn.reason` of snapshots whose deletes are retention: what follows from the rows stays.
pub const RETENTION: &str = "retention";

/// What to read to get from one snapshot to another.
pub enum Increment {
    /// Nothing was added or removed.
    Empty,
    /// The rows added, skipping replaces.
    Appended(Box<TableScan>),
    /// Rows were added and removed. Taken as bags of equal rows, `added` less `removed` is the difference; a row that was
    /// moved by a compaction between its adding and its removal is in both.
    Changed {
        /// Rows added.
        added: Box<TableScan>,
        /// Rows removed.
        removed: Box<TableScan>,
    },
    /// The range can't be told row by row, or the start is no longer an ancestor: read everything. Says why.
    Full(String),
}

/// The increment after `from` (exclusive; `None` for the beginning) up to `to` (inclusive; current if `None`).
///
/// From the beginning, the rows are those of `to`, however they came about. Rows that retention removed don't count as
/// removed.
pub async fn increment(table: &Table, from: Option<i64>, to: Option<i64>) -> Result<Increment, TableError> {
    let to = table.resolve_snapshot(to)?;
    let Some(from) = from else {
        return match to {
            None => Ok(Increment::Empty),
            Some(to) => Ok(Increment::Appended(Box::new(TableScan::new(table, Some(to)).await?))),
        };
    };
    let range = match steps_since(table, from, to) {
        Ok(range) => range,
        Err(reason) => return Ok(Increment::Full(reason)),
    };
    let mut changes = Changes::default();
    for step in range.iter().rev().filter(|step| step.operation != "replace") {
        if step.operation == "append" {
            changes.append(table, step.id).await?;
        } else if let Err(reason) = changes.overwrite(table, step).await? {
            return Ok(Increment::Full(reason));
        }
    }
    let (added, removed) = changes.into_rows();
    Ok(match (added.is_empty(), removed.is_empty()) {
        (true, true) => Increment::Empty,
        (false, true) => Increment::Appended(Box::new(TableScan::of_rows(table, added)?)),
        _ => Increment::Changed {
            added: Box::new(TableScan::of_rows(table, added)?),
            removed: Box::new(TableScan::of_rows(table, removed)?),
        },
    })
}

/// Snapshots that a merge's snapshot stands for, oldest first, and the snapshot that they were built on.
const REPLAYS: &str = "firn.replays";
const REPLAY_BASE: &str = "firn.replay-base";

/// Snapshots after `from` up to `to`, newest first, or why there is no such line.
///
/// A merge may replay the line that a reader follows onto another one. Who stood at its last snapshot has the rows of the
/// replay already, and lacks those that the other line has since both parted.
fn steps_since(table: &Table, from: i64, to: Option<i64>) -> Result<Vec<SnapshotInfo>, String> {
    let mut from = from;
    let mut steps = Vec::new();
    let mut next = to;
    // Each step is another snapshot of the document, so the walk ends; the set guards against a malformed circle.
    let mut seen = HashSet::new();
    while let Some(id) = next {
        if id == from {
            return Ok(steps);
        }
        let Some(snapshot) = table.snapshot(id).filter(|_| seen.insert(id)) else {
            return Err(format!("snapshot {id}, after {from}, has expired"));
        };
        next = snapshot.parent_id;
        match replay_base(&snapshot, from) {
            None => steps.push(snapshot),
            Some(Some(base)) => from = base,
            Some(None) => {
                return Err(format!("snapshot {from} was merged as part of {id}, and its start is unknown"));
            }
        }
    }
    Err(match table.snapshot(from) {
        Some(_) => format!(
            "snapshot {from} is no ancestor of the one to read: the table was rolled back or replaced"
        ),
        None => format!("snapshot {from} does not exist; it has expired, or the table was replaced"),
    })
}

/// Where the lines parted, if `snapshot` replays a line that ends in `from`; `Some(None)` if that isn't known.
fn replay_base(snapshot: &SnapshotInfo, from: i64) -> Option<Option<i64>> {
    let last = snapshot.summary.get(REPLAYS)?.rsplit(',').next()?;
    if last.parse() != Ok(from) {
        return None;
    }
    Some(snapshot.summary.get(REPLAY_BASE).and_then(|base| base.parse().ok()))
}
