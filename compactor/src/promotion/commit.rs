//! Committing a model's output with where it stands, on the run's branch.

use std::collections::BTreeMap;

use firn_table::{Operation, TableOperation, Transaction, WrittenFile};

use super::{
    execute::ModelRun,
    receipt::{ModelReceipt, RUN_PROPERTY},
    state::{COMPUTED_AT_PROPERTY, HASH_PROPERTY, INPUT_PROPERTY, NEWEST_PROPERTY},
};
use crate::{CompactorError, compactor::now_ms};

/// What happens to the output.
pub(super) enum Change {
    /// Its rows stay; it only learns where it stands.
    PositionsOnly,
    /// Rows are added.
    Add(Vec<WrittenFile>),
    /// These are all its rows.
    Replace(Vec<WrittenFile>),
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
        let mut summary = BTreeMap::from([(RUN_PROPERTY.to_owned(), self.run.to_owned())]);
        let operation = match change {
            Change::PositionsOnly => Operation::Append { files: Vec::new() },
            Change::Add(files) => Operation::Append { files },
            Change::Replace(add) => {
                let base = output.current_snapshot().map(|snapshot| snapshot.id);
                Operation::Overwrite { remove: None, add, base_snapshot_id: Some(base) }
            }
        };
        if matches!(&operation, Operation::Append { files } if files.is_empty()) {
            summary.clear();
        }
        let transaction = Transaction {
            reference: self.branch.to_owned(),
            operations: vec![TableOperation {
                table: self.model.table.clone(),
                operation,
                summary,
                assert_properties: BTreeMap::new(),
                set_properties: self.positions(newest_received_us),
            }],
            // Nobody else commits to the run's branch.
            max_attempts: 1,
        };
        let outcome = transaction.commit(self.client, output.file_io()).await?;
        receipt.snapshot = outcome.snapshots.get(&self.model.table).copied();
        Ok(())
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
