//! Rows added between two snapshots.

use std::collections::HashSet;

use iceberg::spec::{ManifestEntryRef, ManifestStatus};

use crate::{
    SnapshotInfo, Table, TableError, TableScan,
    manifests::{LiveFile, load_manifest},
};

/// What to read to get from one snapshot to another.
pub enum Increment {
    /// Nothing was added.
    Empty,
    /// The rows added, skipping replaces.
    Appended(Box<TableScan>),
    /// The range holds a delete or overwrite, or the start is no longer an ancestor: read everything. Says why.
    Full(String),
}

/// The increment after `from` (exclusive; `None` for the beginning) up to `to` (inclusive; current if `None`).
///
/// From the beginning, the rows are those of `to`, however they came about.
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
    if let Some(step) = range.iter().find(|step| !matches!(step.operation.as_str(), "append" | "replace")) {
        let (id, operation) = (step.id, &step.operation);
        return Ok(Increment::Full(format!("snapshot {id} is an {operation}: rows were changed or removed")));
    }
    let mut files = Vec::new();
    for step in range.iter().filter(|step| step.operation == "append") {
        files.extend(added_files(table, step.id).await?);
    }
    if files.is_empty() {
        return Ok(Increment::Empty);
    }
    Ok(Increment::Appended(Box::new(TableScan::of_added_files(table, files)?)))
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

/// Files that an append added, as its own manifests tell it. They exist while the snapshot does, compacted or not.
async fn added_files(table: &Table, snapshot_id: i64) -> Result<Vec<LiveFile>, TableError> {
    let manifests = table.live_manifests(Some(snapshot_id)).await?.data;
    let mut files = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.added_snapshot_id == snapshot_id) {
        let entries = load_manifest(table.file_io(), manifest).await?;
        let added = |entry: &&ManifestEntryRef| {
            entry.status == ManifestStatus::Added && entry.snapshot_id == Some(snapshot_id)
        };
        let spec_id = manifest.partition_spec_id;
        files.extend(entries.iter().filter(added).map(|entry| LiveFile { spec_id, entry: entry.clone() }));
    }
    Ok(files)
}
