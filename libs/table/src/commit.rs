//! Commits: operations that can be re-applied to a fresh base.
//!
//! Validate against the base, build manifests and a snapshot, POST; on 409 reload and re-apply; on an unknown outcome ask
//! again with the same idempotency key and never guess. Files of a lost commit are removed, of an unknown one never.

use std::collections::BTreeMap;

use firn_catalog_client::{TenantClient, iceberg::TableIdent};

use crate::{FileIo, TableError, WrittenFile};

/// What to do to one table.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Adds files. No files and no summary: only properties are changed, without a snapshot.
    Append {
        /// Files to add.
        files: Vec<WrittenFile>,
    },
    /// Replaces files by files with the same rows (`replace`). Conflicts if a removed file is gone from the base.
    Rewrite {
        /// Locations of live data files to remove.
        remove: Vec<String>,
        /// Files to add.
        add: Vec<WrittenFile>,
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
    /// Removes snapshots older than a time, keeping the newest `keep_last` and what references need.
    ExpireSnapshots {
        /// Milliseconds since the epoch.
        older_than_ms: i64,
        /// At least this many of `main`'s ancestors stay.
        keep_last: usize,
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

impl Transaction {
    /// Commits all or nothing. `Conflict` names the table and what differs (for a failed `assert_properties` the message
    /// holds `property`), `Unknown` means that nobody can tell yet: load the tables again before going on.
    pub async fn commit(self, _client: &TenantClient, _file_io: &FileIo) -> Result<CommitOutcome, TableError> {
        todo!()
    }
}
