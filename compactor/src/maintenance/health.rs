//! How much a table would gain from maintenance.

use firn_table::{DataFileEntry, SnapshotInfo};
use serde::Serialize;

use super::plan::{Settings, WORTH_EXPIRING, bins};

/// What a full share of small files, or of files with many deletes, takes from the score.
const FILES_WEIGHT: usize = 45;
/// What snapshots that are due take from it.
const SNAPSHOTS_WEIGHT: usize = 10;

/// A table's state and a score from 0 (all work undone) to 100 (nothing to gain).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableHealth {
    /// 0 to 100.
    pub score: usize,
    /// Live data files.
    pub files: usize,
    /// Files under a quarter of the target size.
    pub small_files: usize,
    /// Files that many delete files apply to, or of which many rows are deleted.
    pub worn_files: usize,
    /// Files that maintenance would rewrite now.
    pub files_to_rewrite: usize,
    /// Rows that are deleted by position and not yet dropped, as far as manifests tell.
    pub deleted_rows: u64,
    /// Snapshots in the table's log.
    pub snapshots: usize,
    /// Snapshots that maintenance would expire now.
    pub expirable_snapshots: usize,
}

pub(super) fn health(
    files: &[DataFileEntry],
    snapshots: &[SnapshotInfo],
    expirable_snapshots: usize,
    settings: &Settings,
) -> TableHealth {
    let rewritten = bins(files, settings).into_iter().flatten().collect::<Vec<_>>();
    let worn = |file: &&DataFileEntry| settings.is_worn(file);
    let share = |count: usize| FILES_WEIGHT * count / files.len().max(1);
    let worn_to_rewrite = rewritten.iter().filter(worn).count();
    let due = if expirable_snapshots >= WORTH_EXPIRING { SNAPSHOTS_WEIGHT } else { 0 };
    TableHealth {
        score: 100 - share(rewritten.len() - worn_to_rewrite) - share(worn_to_rewrite) - due,
        files: files.len(),
        small_files: files.iter().filter(|file| settings.is_small(file)).count(),
        worn_files: files.iter().filter(worn).count(),
        files_to_rewrite: rewritten.len(),
        deleted_rows: files.iter().map(|file| file.deleted_rows).sum(),
        snapshots: snapshots.len(),
        expirable_snapshots,
    }
}
