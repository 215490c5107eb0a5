//! Commits: operations that can be re-applied to a fresh base.
//!
//! Validate against the base, build manifests and a snapshot, POST; on 409 reload and re-apply; on an unknown outcome ask
//! again with the same idempotency key and never guess. Files of a lost commit are removed, of an unknown one never.

mod deletes;
mod expire;
mod post;
mod prepare;
mod row_deletes;
mod snapshot;
mod summary;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use futures::future::{join_all, try_join_all};

use crate::{FileIo, RowPositions, Table, TableError, TableErrorKind, TableState, WrittenFile};
pub(crate) use expire::expirable;
use prepare::Prepared;
pub(crate) use row_deletes::{position_delete_file, vector_file};

/// First pause after a conflict; it doubles, with jitter, up to the longest.
const FIRST_PAUSE_MS: u64 = 20;
const LONGEST_PAUSE_MS: u64 = 1_000;

/// What to do to one table.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Adds files. No files and no summary: only properties are changed, without a snapshot.
    Append {
        /// Files to add.
        files: Vec<WrittenFile>,
    },
    /// Replaces files by files with the same rows (`replace`), without those that were deleted in `base_snapshot_id`, and removes
    /// delete files that apply to nothing any more. Conflicts if a removed file is gone from the base, or if rows of it were
    /// deleted by position since then; equality deletes since then apply to the new files too.
    Rewrite {
        /// Locations of live data files to remove.
        remove: Vec<String>,
        /// Files to add.
        add: Vec<WrittenFile>,
        /// The snapshot that the rows were read from.
        base_snapshot_id: i64,
    },
    /// Replaces files by files with other rows (`overwrite`). Conflicts if a removed file is gone, or, where
    /// `base_snapshot_id` is given, if the base's current snapshot is another.
    Overwrite {
        /// Locations of live data files to remove; `None` removes all.
        remove: Option<Vec<String>>,
        /// Files to add.
        add: Vec<WrittenFile>,
        /// Snapshot the caller computed from: `Some(None)` for an empty table.
        base_snapshot_id: Option<Option<i64>>,
    },
    /// Deletes rows where they are, without rewriting their files (`delete`): by position delete files in format 2, by deletion
    /// vectors in format 3. Rows that are deleted already stay so. Conflicts if a file is gone from the base.
    DeleteRows {
        /// Positions of rows by the location of their data file.
        rows: BTreeMap<String, BTreeSet<u64>>,
    },
    /// Deletes rows where they are and adds files, at once (`overwrite`, or `delete` and `append` where it is only that). Conflicts
    /// as [`Operation::DeleteRows`] does.
    RowDelta {
        /// Rows to delete.
        delete: RowPositions,
        /// Files to add.
        add: Vec<WrittenFile>,
    },
    /// Removes snapshots older than a time, keeping the newest `keep_last` and what references need.
    ExpireSnapshots {
        /// Milliseconds since the epoch.
        older_than_ms: i64,
        /// At least this many of `main`'s ancestors stay.
        keep_last: usize,
    },
    /// Makes another snapshot of the table's log the current one; no snapshot is made. Conflicts if `base_snapshot_id` is no
    /// longer the current one.
    SetCurrent {
        /// The snapshot; `NotFound` if it isn't in the log.
        snapshot_id: i64,
        /// The snapshot that is left.
        base_snapshot_id: Option<i64>,
    },
    /// Brings back the files of an earlier state in a new snapshot (`overwrite`), for a state whose own snapshot has expired.
    /// Conflicts if `base_snapshot_id` is no longer the current one.
    Restore {
        /// The files.
        state: TableState,
        /// The snapshot that is left.
        base_snapshot_id: Option<i64>,
    },
}

/// One table's part of a transaction.
#[derive(Clone, Debug)]
pub struct TableOperation {
    /// The table.
    pub table: TableIdent,
    /// What to do.
    pub operation: Operation,
    /// Entries for the new snapshot's summary.
    pub summary: BTreeMap<String, String>,
    /// Table properties that must hold (`None`: absent), checked by the server at the commit.
    pub assert_properties: BTreeMap<String, Option<String>>,
    /// Table properties to set in the same commit.
    pub set_properties: BTreeMap<String, String>,
}

/// Several tables' operations that become visible at once on one reference.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Branch to commit to.
    pub reference: String,
    /// At most one operation per table.
    pub operations: Vec<TableOperation>,
    /// Tries before a conflict is given up; an `assert_properties` that fails is never tried again.
    pub max_attempts: usize,
}

/// What a commit made.
#[derive(Clone, Debug, Default)]
pub struct CommitOutcome {
    /// New current snapshot by table; absent where no snapshot was made.
    pub snapshots: BTreeMap<TableIdent, i64>,
    /// Tries it took.
    pub attempts: usize,
}

impl Operation {
    /// The data files that the operation brings along.
    fn added(&self) -> &[WrittenFile] {
        match self {
            Self::Append { files } => files,
            Self::Rewrite { add, .. } | Self::Overwrite { add, .. } | Self::RowDelta { add, .. } => add,
            Self::DeleteRows { .. }
            | Self::ExpireSnapshots { .. }
            | Self::SetCurrent { .. }
            | Self::Restore { .. } => &[],
        }
    }
}

impl Transaction {
    /// Commits all or nothing. `Conflict` names the table and what differs (for a failed `assert_properties` the message
    /// holds `property`), `Unknown` means that nobody can tell yet: load the tables again before going on.
    ///
    /// After `Conflict` and `Invalid` the data files that the transaction brought are deleted: write them anew. After any
    /// other error they stay, and the same transaction may be committed again unless the outcome is `Unknown`.
    pub async fn commit(self, client: &TenantClient, file_io: &FileIo) -> Result<CommitOutcome, TableError> {
        self.commit_from(client, file_io, &[]).await
    }

    /// The same, beginning with tables as the caller loaded them from the transaction's reference: they need not be loaded again
    /// unless one of them has changed since.
    pub async fn commit_from(
        self,
        client: &TenantClient,
        file_io: &FileIo,
        loaded: &[Table],
    ) -> Result<CommitOutcome, TableError> {
        let mut tables = BTreeSet::new();
        if let Some(twice) = self.operations.iter().find(|operation| !tables.insert(&operation.table)) {
            return Err(TableError::invalid(format!("table {} is twice in one transaction", twice.table)));
        }
        let result = self.attempt_all(client, file_io, loaded).await;
        if let Err(error) = &result
            && matches!(error.kind, TableErrorKind::Conflict | TableErrorKind::Invalid)
        {
            for operation in &self.operations {
                let locations =
                    operation.operation.added().iter().map(|file| file.location.clone()).collect::<Vec<_>>();
                file_io.delete_unreferenced(&locations).await;
            }
        }
        result
    }

    async fn attempt_all(
        &self,
        client: &TenantClient,
        file_io: &FileIo,
        mut loaded: &[Table],
    ) -> Result<CommitOutcome, TableError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let prepared = self.prepare(client, file_io, std::mem::take(&mut loaded)).await?;
            match post::post(client, &self.reference, &prepared).await {
                Ok(()) => {
                    let snapshots =
                        prepared.iter().filter_map(|part| Some((part.ident.clone(), part.snapshot_id?)));
                    return Ok(CommitOutcome { snapshots: snapshots.collect(), attempts });
                }
                Err(error) if error.kind == TableErrorKind::Unknown => return Err(error),
                Err(error) => {
                    discard(file_io, &prepared).await;
                    if error.kind != TableErrorKind::Conflict || attempts >= self.max_attempts {
                        return Err(error);
                    }
                    tracing::debug!(
                        attempts,
                        error = &error as &dyn std::error::Error,
                        "commit lost a race, again"
                    );
                }
            }
            pause(attempts).await;
        }
    }

    /// Applies every operation to its table, as loaded or as it is now, writing manifests; all or nothing.
    async fn prepare(
        &self,
        client: &TenantClient,
        file_io: &FileIo,
        loaded: &[Table],
    ) -> Result<Vec<Prepared>, TableError> {
        let load = |operation: &TableOperation| {
            let ident = operation.table.clone();
            let known = loaded.iter().find(|table| *table.ident() == ident).cloned();
            async move {
                match known {
                    Some(table) => Ok(table),
                    None => Table::load(client, file_io, &self.reference, &ident).await,
                }
            }
        };
        let tables = try_join_all(self.operations.iter().map(load)).await?;
        let parts =
            tables.iter().zip(&self.operations).map(|(table, operation)| prepare::prepare(table, operation));
        let (mut prepared, mut failure) = (Vec::new(), None);
        for part in join_all(parts).await {
            match part {
                Ok(part) => prepared.push(part),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            None => Ok(prepared),
            Some(error) => {
                discard(file_io, &prepared).await;
                Err(error)
            }
        }
    }
}

/// Removes the manifests of an attempt that can't have landed.
async fn discard(file_io: &FileIo, prepared: &[Prepared]) {
    for part in prepared {
        // Through the table's own access, which may differ from the caller's.
        part.file_io.as_ref().unwrap_or(file_io).delete_unreferenced(&part.written).await;
    }
}

async fn pause(attempts: usize) {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let longest = (FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS);
    tokio::time::sleep(Duration::from_millis(longest / 2 + random_u64() % (longest / 2 + 1))).await;
}

/// Random bits from the operating system, by way of a version 4 UUID (whose lowest 62 bits are all random).
fn random_u64() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high.rotate_left(32) ^ low
}
