//! Snapshots that change nothing, so that commits that began on replaced files fail.

use std::collections::BTreeMap;

use firn_catalog_client::{ErasureJob, ErasureState, TenantClient, iceberg::TableIdent, nessie::Reference};
use firn_table::{FileIo, Operation, Table, TableOperation, Transaction};

use super::Erasures;
use crate::CompactorError;

/// Tries of one commit.
const ATTEMPTS: usize = 10;

impl Erasures {
    /// Fences every table that was changed, on every branch that has it.
    pub(super) async fn fence(
        &self,
        client: &TenantClient,
        job: &mut ErasureJob,
    ) -> Result<(), CompactorError> {
        if job.unfenced.is_empty() {
            return Ok(());
        }
        // Keeping it makes the catalog read the tables' metadata anew, which the fence is built on.
        let message = "letting writers begin anew on the new files";
        self.keep(client, job, ErasureState::Running, message).await?;
        tokio::time::sleep(self.config.erasure.replica_lag).await;
        for (branch, table) in tables(client, &self.file_io, is_branch).await? {
            if job.unfenced.contains(uuid(&table)) && table.current_snapshot().is_some() {
                commit(&branch, &table, &job.erasure.id).await?;
            }
        }
        job.unfenced.clear();
        Ok(())
    }
}

async fn commit(branch: &str, table: &Table, id: &str) -> Result<(), CompactorError> {
    let summary = [("firn.reason", "erasure"), ("firn.erasure", id)];
    let transaction = Transaction {
        reference: branch.to_owned(),
        operations: vec![TableOperation {
            table: table.ident().clone(),
            operation: Operation::Append { files: Vec::new() },
            summary: summary.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            assert_properties: BTreeMap::new(),
            set_properties: BTreeMap::new(),
        }],
        max_attempts: ATTEMPTS,
    };
    transaction.commit(table.client(), table.file_io()).await?;
    Ok(())
}

/// All tables of the references that are `wanted`, with the reference's name.
pub(super) async fn tables(
    client: &TenantClient,
    file_io: &FileIo,
    wanted: impl Fn(&Reference) -> bool,
) -> Result<Vec<(String, Table)>, CompactorError> {
    let mut tables = Vec::new();
    for reference in client.references().await? {
        if !wanted(&reference) {
            continue;
        }
        let name = reference.name().to_owned();
        for entry in client.entries(&name, None, false).await? {
            let mut elements = entry.name.elements;
            let Some(table) = elements.pop().filter(|_| entry.content_type == "ICEBERG_TABLE") else {
                continue;
            };
            let ident = TableIdent { namespace: elements, name: table };
            match Table::load(client, file_io, &name, &ident).await.map_err(CompactorError::from) {
                Ok(table) => tables.push((name.clone(), table)),
                // It was dropped meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(tables)
}

fn is_branch(reference: &Reference) -> bool {
    matches!(reference, Reference::Branch { .. })
}

/// What tells a table from all others, whatever its names.
pub(super) fn uuid(table: &Table) -> &str {
    table.metadata()["table-uuid"].as_str().unwrap_or_default()
}
