//! Taking one table back to an earlier state, on any branch.
//!
//! A snapshot that is in the table's log becomes the current one again. Of one that has expired there, the catalog's history
//! still has the files: those come back in a new snapshot.

use std::collections::BTreeMap;

use firn_table::{Operation, SnapshotInfo, Table, TableOperation, TableState, Transaction};
use serde::Serialize;

use crate::{
    CompactorError,
    lineage::POSITION,
    promotion::{HASH_PROPERTY, PARTIALS_PROPERTY, ROLLED_BACK},
};

/// The state to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackTarget {
    /// A snapshot of the table's log.
    Snapshot(i64),
    /// The snapshot that was current at a time, in milliseconds since the epoch.
    Time(i64),
    /// The snapshot that was current at a commit of the catalog, in Nessie's syntax.
    Commit(String),
}

/// A rollback that can be made: the snapshot is known and all its files are there.
#[derive(Clone, Debug, Serialize)]
pub struct Rollback {
    /// The table.
    pub table: String,
    /// The branch.
    pub reference: String,
    /// The current snapshot.
    pub from_snapshot: Option<i64>,
    /// The one to go back to.
    pub to_snapshot: i64,
    /// Whether that one has expired from the table's log, so that its files come back in a new snapshot.
    pub restores: bool,
    /// Rows now, if the snapshot says so.
    pub rows_before: Option<u64>,
    /// Rows afterwards, if the snapshot says so.
    pub rows_after: Option<u64>,
    /// Whether a model makes the table: the next promotion then computes it anew, from its inputs as they are.
    pub made_by_model: bool,
    #[serde(skip)]
    operation: Operation,
}

impl Rollback {
    /// Looks what a rollback of a table, loaded at the branch, would do. Refused are tables that say what was taken from the
    /// log, and snapshots that are no ancestors of the current one unless `any` snapshot will do; one whose files are gone is
    /// `NotFound`.
    pub async fn plan(table: &Table, target: &RollbackTarget, any: bool) -> Result<Self, CompactorError> {
        refuse_positions(table)?;
        let state = state_at(table, target).await?;
        let (current, wanted) = (table.current_snapshot(), state.snapshot.clone());
        let from_snapshot = current.as_ref().map(|snapshot| snapshot.id);
        let name = format!("table {} on {}", table.ident(), table.reference());
        if from_snapshot == Some(wanted.id) {
            return Err(CompactorError::Refused(format!("{name} is at snapshot {} already", wanted.id)));
        }
        let restores = table.snapshots().iter().all(|snapshot| snapshot.id != wanted.id);
        if !restores && !any && !table.descends_from(wanted.id) {
            return Err(CompactorError::Refused(format!(
                "snapshot {} of {name} is no ancestor of the current one, so this would be no rollback: it may be ahead, or \
                 from before another rollback; ask for any snapshot if that is meant",
                wanted.id
            )));
        }
        let operation = match restores {
            false => Operation::SetCurrent { snapshot_id: wanted.id, base_snapshot_id: from_snapshot },
            true => Operation::Restore { state, base_snapshot_id: from_snapshot },
        };
        Ok(Self {
            table: table.ident().to_string(),
            reference: table.reference().to_owned(),
            from_snapshot,
            to_snapshot: wanted.id,
            restores,
            rows_before: current.as_ref().map_or(Some(0), rows),
            rows_after: rows(&wanted),
            made_by_model: model_properties(table).next().is_some(),
            operation,
        })
    }

    /// Makes it, unless the table moved since; answers the table's current snapshot.
    pub async fn commit(self, table: &Table) -> Result<i64, CompactorError> {
        // Its rows no longer are what it says of its inputs, or of its partials.
        let set_properties = model_properties(table).map(|name| (name.to_owned(), ROLLED_BACK.to_owned()));
        let set_properties = set_properties.collect();
        let restored = self.to_snapshot.to_string();
        let operation = TableOperation {
            table: table.ident().clone(),
            operation: self.operation,
            summary: BTreeMap::from([
                ("firn.reason".to_owned(), "rollback".to_owned()),
                ("firn.restored-snapshot".to_owned(), restored),
            ]),
            assert_properties: BTreeMap::new(),
            set_properties,
        };
        let transaction = Transaction {
            reference: self.reference,
            operations: vec![operation],
            max_attempts: super::ATTEMPTS,
        };
        let reference = transaction.reference.clone();
        let outcome = transaction.commit(table.client(), table.file_io()).await?;
        let current = outcome.snapshots.get(table.ident()).copied().unwrap_or(self.to_snapshot);
        if self.restores {
            // Until the commit nothing but an old commit may have needed the files, and a collection may have been about to
            // remove them.
            let table = Table::load(table.client(), table.file_io(), &reference, table.ident()).await?;
            table.state(current).await?;
        }
        Ok(current)
    }
}

/// Properties by which a model knows the table's rows for its own.
fn model_properties(table: &Table) -> impl Iterator<Item = &'static str> {
    let properties = table.properties();
    [HASH_PROPERTY, PARTIALS_PROPERTY].into_iter().filter(move |name| properties.contains_key(*name))
}

fn rows(snapshot: &SnapshotInfo) -> Option<u64> {
    snapshot.summary.get("total-records")?.parse().ok()
}

/// Rows and positions belong together, and positions that go back mean nothing to a reader of the log that has passed them.
fn refuse_positions(table: &Table) -> Result<(), CompactorError> {
    if !table.properties().keys().any(|key| key.starts_with(POSITION)) {
        return Ok(());
    }
    Err(CompactorError::Refused(format!(
        "table {} says what was taken from the log, so its rows can't go back alone: make a branch of an earlier commit, which \
         has rows and positions as they were ('firn branch create NAME --from COMMIT'), and take what is missing there from the \
         log ('firn ingest replay --branch NAME')",
        table.ident()
    )))
}

async fn state_at(table: &Table, target: &RollbackTarget) -> Result<TableState, CompactorError> {
    match target {
        RollbackTarget::Snapshot(id) => Ok(table.state(*id).await?),
        RollbackTarget::Time(time_ms) => {
            let snapshot = table.snapshot_at(*time_ms).ok_or_else(|| {
                CompactorError::Refused(format!(
                    "the log of table {} has no snapshot of that time: it was younger, or the snapshot has expired; a commit of \
                     the catalog may still have it",
                    table.ident()
                ))
            })?;
            Ok(table.state(snapshot.id).await?)
        }
        RollbackTarget::Commit(commit) => {
            let earlier = Table::load(table.client(), table.file_io(), commit, table.ident()).await?;
            let (now, then) = (&table.metadata()["table-uuid"], &earlier.metadata()["table-uuid"]);
            if now != then {
                return Err(CompactorError::Refused(format!(
                    "table {} at {commit} is another one, which was dropped since: it has the uuid {then}, the present one {now}",
                    table.ident()
                )));
            }
            let snapshot = earlier.current_snapshot().ok_or_else(|| {
                CompactorError::Refused(format!("table {} had no snapshot yet at {commit}", table.ident()))
            })?;
            Ok(earlier.state(snapshot.id).await?)
        }
    }
}
