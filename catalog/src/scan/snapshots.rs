//! The snapshots of a scan.

use std::collections::BTreeSet;

use serde_json::Value;

use super::request::{Range, snapshot};
use crate::{
    CatalogError,
    metadata::Document,
    replay::{REPLAY_BASE, REPLAYS},
};

/// Where to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) snapshot_id: i64,
    pub(crate) manifest_list: String,
}

/// The snapshots whose manifest lists a scan reads: the one that it is of, or those that appended, oldest first.
pub(crate) fn steps(document: &Document, range: Range) -> Result<Vec<Step>, CatalogError> {
    match range {
        Range::At(None) => Ok(Vec::new()),
        Range::At(Some(id)) => Ok(vec![step(snapshot(document, id)?, id)?]),
        Range::Appended { after, to } => appended(document, after, to),
    }
}

/// Snapshots of appends after one snapshot up to another.
///
/// A merge may have replayed the line that the client follows onto another one: then it lacks what that line has since both
/// parted.
fn appended(document: &Document, after: i64, to: i64) -> Result<Vec<Step>, CatalogError> {
    let mut steps = Vec::new();
    let mut from = after;
    let mut next = Some(to);
    // Each step is another snapshot, so the walk ends; the set guards against a malformed circle.
    let mut seen = BTreeSet::new();
    while let Some(id) = next {
        if id == from {
            steps.reverse();
            return Ok(steps);
        }
        if !seen.insert(id) {
            break;
        }
        let snapshot = snapshot(document, id)?;
        next = snapshot["parent-snapshot-id"].as_i64();
        let summary = &snapshot["summary"];
        match replay_base(summary, from) {
            Some(base) => from = base,
            None if summary["operation"] == "append" => steps.push(step(snapshot, id)?),
            None => {}
        }
    }
    let text = format!("$.start-snapshot-id: snapshot {after} is no ancestor of snapshot {to}");
    Err(CatalogError::Invalid(text))
}

/// Where the lines parted, if a snapshot replays one that ends in `from`.
fn replay_base(summary: &Value, from: i64) -> Option<i64> {
    let last = summary[REPLAYS].as_str()?.rsplit(',').next()?;
    if last.parse() != Ok(from) {
        return None;
    }
    summary[REPLAY_BASE].as_str()?.parse().ok()
}

fn step(snapshot: &Value, id: i64) -> Result<Step, CatalogError> {
    match snapshot["manifest-list"].as_str() {
        Some(list) => Ok(Step { snapshot_id: id, manifest_list: list.to_owned() }),
        None => Err(CatalogError::Invalid(format!("snapshot {id} has no manifest list: rewrite the table"))),
    }
}
