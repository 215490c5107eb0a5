//! Rows added between two snapshots.

use crate::{Table, TableError, TableScan};

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
pub async fn increment(_table: &Table, _from: Option<i64>, _to: Option<i64>) -> Result<Increment, TableError> {
    todo!()
}
