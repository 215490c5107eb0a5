//! Committing a model's output with where it stands, on the run's branch.

use std::collections::BTreeMap;

use firn_table::{Operation, RowPositions, Table, TableOperation, Transaction, WrittenFile};

use super::{
    execute::ModelRun,
    receipt::{ModelReceipt, RUN_PROPERTY},
    state::{COMPUTED_AT_PROPERTY, HASH_PROPERTY, INPUT_PROPERTY, NEWEST_PROPERTY, PARTIALS_PROPERTY},
};
use crate::{CompactorError, ModelKind, compactor::now_ms};

/// What happens to the output.
pub(super) enum Change {
    /// Its rows stay; it only learns where it stands.
    PositionsOnly,
    /// Rows are added.
    Add(Vec<WrittenFile>),
    /// Rows at some places go, others are added.
    Delta(RowPositions, Vec<WrittenFile>),
    /// These are all its rows.
    Replace(Vec<WrittenFile>),
}

impl Change {
    fn operation(self, table: &Table) -> Operation {
        match self {
            Self::PositionsOnly => Operation::Append { files: Vec::new() },
            Self::Add(files) => Operation::Append { files },
            Self::Delta(delete, add) => Operation::RowDelta { delete, add },
            Self::Replace(add) => {
                let base = table.current_snapshot().map(|snapshot| snapshot.id);
                Operation::Overwrite { remove: None, add, base_snapshot_id: Some(base) }
            }
        }
    }
}

impl ModelRun<'_> {
    /// Commits the change and the positions at once.
    pub(super) async fn commit(
        &self,
        change: Change,
        newest_received_us: Option<i64>,
        receipt: &mut ModelReceipt,
    ) -> Result<(), CompactorError> {
        let Some(output) = &self.loaded.output else { return Ok(()) };
        let mut properties = self.positions(newest_received_us);
        if self.model.kind == ModelKind::Aggregate && !matches!(change, Change::PositionsOnly) {
            properties.insert(PARTIALS_PROPERTY.to_owned(), self.run.to_owned());
        }
        receipt.snapshot = self.commit_to(output, change, properties).await?;
        Ok(())
    }

    /// Commits what an output is kept from, ahead of the output.
    pub(super) async fn commit_partials(&self, table: &Table, change: Change) -> Result<(), CompactorError> {
        let token = BTreeMap::from([(PARTIALS_PROPERTY.to_owned(), self.run.to_owned())]);
        self.commit_to(table, change, token).await?;
        Ok(())
    }

    async fn commit_to(
        &self,
        table: &Table,
        change: Change,
        set_properties: BTreeMap<String, String>,
    ) -> Result<Option<i64>, CompactorError> {
        let operation = change.operation(table);
        let mut summary = BTreeMap::from([(RUN_PROPERTY.to_owned(), self.run.to_owned())]);
        if matches!(&operation, Operation::Append { files } if files.is_empty()) {
            summary.clear();
        }
        let transaction = Transaction {
            reference: self.branch.to_owned(),
            operations: vec![TableOperation {
                table: table.ident().clone(),
                operation,
                summary,
                assert_properties: BTreeMap::new(),
                set_properties,
            }],
            // Nobody else commits to this table on the run's branch.
            max_attempts: 1,
        };
        let outcome = transaction.commit(self.client, table.file_io()).await?;
        Ok(outcome.snapshots.get(table.ident()).copied())
    }

    fn positions(&self, newest_received_us: Option<i64>) -> BTreeMap<String, String> {
        let mut properties: BTreeMap<_, _> = self
            .loaded
            .positions
            .iter()
            .map(|(name, position)| (format!("{INPUT_PROPERTY}{name}"), position.clone()))
            .collect();
        properties.insert(HASH_PROPERTY.to_owned(), self.model.hash());
        properties.insert(COMPUTED_AT_PROPERTY.to_owned(), now_ms().to_string());
        let held = self.loaded.held.as_ref().and_then(|held| held.newest_received_us);
        if let Some(newest) = newest_received_us.max(held) {
            properties.insert(NEWEST_PROPERTY.to_owned(), newest.to_string());
        }
        properties
    }
}
