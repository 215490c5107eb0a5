//! Maintenance: packs small files, drops deleted rows for good, and expires snapshots of `main`'s tables.
//!
//! Retention takes outdated partitions, rows and values out of the tables. Expiry shortens a table's log, nothing more: earlier commits of the
//! catalog still reach their snapshots and files. Branches and tags go when their time is over. Files are removed by the catalog's
//! garbage collection alone, which is started by schedule.

mod health;
mod on_demand;
mod pack;
mod plan;
mod retention;
mod rollback;
mod schedule;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use firn_catalog_client::{Tenant, TenantClient, iceberg::TableIdent};
use firn_runtime::{StageState, StatusBoard, with_causes};
use firn_table::{FileIo, Operation, Table, TableOperation, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{
    CompactorConfig, CompactorError, ModelGraph, TenantModels,
    compactor::now_ms,
    engine::Engine,
    lease::HeldLease,
    promotion::{MAIN, model_state},
};
pub use health::TableHealth;
pub use on_demand::{Compacted, FileGroup, TableMaintenance};
use plan::{Settings, bins, expiry};
pub use retention::Retained;
use retention::TableRetention;
pub use rollback::{Rollback, RollbackTarget};

/// Name of the lease, and of the stage on the status board.
pub(crate) const MAINTENANCE: &str = "maintenance";
/// Namespaces that are maintained.
const LAYERS: [&str; 3] = ["bronze", "silver", "gold"];
/// Tries of one commit before it is left to the next visit.
const ATTEMPTS: usize = 5;

/// Maintains tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Maintenance {
    pub(crate) config: Arc<CompactorConfig>,
    pub(crate) graph: Arc<ModelGraph>,
    pub(crate) engine: Engine,
    pub(crate) file_io: FileIo,
    pub(crate) board: StatusBoard,
}

/// What is remembered of a tenant between two visits.
#[derive(Debug, Default)]
pub(crate) struct MaintenancePlace {
    visited_at: Option<Instant>,
    /// Snapshots at which a table had nothing to pack.
    packed: BTreeMap<TableIdent, i64>,
    /// When tables were looked through for rows beyond the retention.
    looked_through: BTreeMap<TableIdent, Instant>,
    /// When a removal of orphans was started last, as far as is known.
    collected_at: Option<Instant>,
}

/// What a tenant wants of a visit.
struct Duties {
    /// While anything is held, nothing expires.
    is_held: bool,
    tenant: Tenant,
}

/// What a visit did.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    rewritten_files: u64,
    written_files: u64,
    copied_files: u64,
    outdated_files: u64,
    outdated_rows: u64,
    emptied_rows: u64,
    expiries: u64,
    expired_references: u64,
    collections: u64,
}

impl Maintenance {
    /// Maintains a tenant's tables if it is time. Errors go to the status board.
    pub(crate) async fn visit(
        &self,
        client: &TenantClient,
        place: &mut MaintenancePlace,
        stop: &CancellationToken,
    ) {
        let interval = self.config.maintenance.interval;
        if place.visited_at.is_some_and(|visited_at| visited_at.elapsed() < interval) {
            return;
        }
        place.visited_at = Some(Instant::now());
        let (state, message, done) = match self.maintain(client, place, stop).await {
            Ok(done) => (StageState::Running, "up to date".to_owned(), done),
            Err(CompactorError::Stopped) => return,
            Err(error @ CompactorError::LeaseHeld(_)) => {
                (StageState::Running, error.to_string(), Done::default())
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(tenant = client.name(), error, "maintenance failed");
                (StageState::Failing, error, Done::default())
            }
        };
        self.board.update(MAINTENANCE, client.name(), |status| {
            status.state = state;
            status.message = message;
            let mut add = |name: &str, count| *status.totals.entry(name.to_owned()).or_default() += count;
            add("runs", 1);
            add("files_rewritten", done.rewritten_files);
            add("files_written", done.written_files);
            add("files_copied", done.copied_files);
            add("files_outdated", done.outdated_files);
            add("rows_outdated", done.outdated_rows);
            add("rows_emptied", done.emptied_rows);
            add("expiries", done.expiries);
            add("references_expired", done.expired_references);
            add("collections", done.collections);
        });
    }

    async fn maintain(
        &self,
        client: &TenantClient,
        place: &mut MaintenancePlace,
        stop: &CancellationToken,
    ) -> Result<Done, CompactorError> {
        let lease =
            HeldLease::acquire(client, MAINTENANCE, &self.config.holder, self.config.lease_ttl).await?;
        let done = lease.guard(stop, self.maintain_tables(client, place)).await;
        lease.release().await;
        done
    }

    async fn maintain_tables(
        &self,
        client: &TenantClient,
        place: &mut MaintenancePlace,
    ) -> Result<Done, CompactorError> {
        let mut done = Done::default();
        let mut failed = None;
        let duties = Duties {
            is_held: client.holds().await?.iter().any(|hold| hold.active),
            tenant: client.tenant().await?,
        };
        if !duties.is_held {
            done.expired_references += self.prune_references(client).await?;
            done.collections += u64::from(self.remove_orphans(client, &duties.tenant, place).await?);
        }
        for namespace in LAYERS {
            let tables =
                match client.list_tables(MAIN, &[namespace.to_owned()]).await.map_err(CompactorError::from) {
                    Err(error) if error.is_not_found() => continue,
                    listed => listed?,
                };
            for ident in tables {
                // One table in trouble does not keep the others from being maintained.
                if let Err(error) = self.maintain_table(client, &ident, &duties, place, &mut done).await {
                    tracing::warn!(tenant = client.name(), table = %ident, %error, "table not maintained");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(done), Err)
    }

    async fn maintain_table(
        &self,
        client: &TenantClient,
        ident: &TableIdent,
        duties: &Duties,
        place: &mut MaintenancePlace,
        done: &mut Done,
    ) -> Result<(), CompactorError> {
        let table = Table::load(client, &self.file_io, MAIN, ident).await?;
        let Some(current) = table.current_snapshot() else { return Ok(()) };
        let settings = Settings::of_table(&self.config.maintenance, &table);
        if place.packed.get(ident) != Some(&current.id) {
            let bins = bins(&table.data_files(None).await?, &settings);
            if bins.is_empty() {
                place.packed.insert(ident.clone(), current.id);
            }
            for bin in bins {
                done.rewritten_files += bin.len() as u64;
                let packed = self.pack(&table, &bin, &settings).await?;
                done.written_files += packed.written as u64;
                done.copied_files += packed.copied as u64;
            }
        }
        if duties.is_held {
            return Ok(());
        }
        let retention = TableRetention::of(&duties.tenant.retention, &table);
        let retained = self.retain_if_due(&table, &retention, place).await?;
        done.outdated_files += retained.removed_files as u64;
        done.outdated_rows += retained.deleted_rows;
        done.emptied_rows += retained.emptied_rows;
        let unread_since = self.unread_since(client, &table).await?;
        if let Some(older_than_ms) = expiry(&table.snapshots(), &settings, unread_since, now_ms()) {
            let keep_last = settings.min_snapshots;
            let operation = Operation::ExpireSnapshots { older_than_ms, keep_last };
            self.commit(&table, operation, MAINTENANCE).await?;
            done.expiries += 1;
        }
        Ok(())
    }

    /// Time of the oldest snapshot of `table` that a model has not gone beyond.
    async fn unread_since(
        &self,
        client: &TenantClient,
        table: &Table,
    ) -> Result<Option<i64>, CompactorError> {
        let mut oldest: Option<i64> = None;
        let name = table.ident().to_string();
        let snapshots = table.snapshots();
        let models = TenantModels::read(client, &self.file_io, MAIN, &self.graph).await?;
        for model in models.graph.models().iter().filter(|model| model.inputs.contains(table.ident())) {
            let output = match Table::load(client, &self.file_io, MAIN, &model.table)
                .await
                .map_err(CompactorError::from)
            {
                // Before its first run a model reads the whole table, whatever its log says.
                Err(error) if error.is_not_found() => continue,
                loaded => loaded?,
            };
            let held = model_state(&output).and_then(|state| state.inputs.get(&name).cloned());
            let read = snapshots.iter().find(|snapshot| held == Some(snapshot.id.to_string()));
            if let Some(read) = read {
                oldest = Some(oldest.map_or(read.timestamp_ms, |known| known.min(read.timestamp_ms)));
            }
        }
        Ok(oldest)
    }

    async fn commit(&self, table: &Table, operation: Operation, reason: &str) -> Result<(), CompactorError> {
        let transaction = Transaction {
            reference: MAIN.to_owned(),
            operations: vec![TableOperation {
                table: table.ident().clone(),
                operation,
                summary: BTreeMap::from([("firn.reason".to_owned(), reason.to_owned())]),
                assert_properties: BTreeMap::new(),
                set_properties: BTreeMap::new(),
            }],
            max_attempts: ATTEMPTS,
        };
        transaction.commit(table.client(), table.file_io()).await?;
        Ok(())
    }
}

/// Milliseconds of a duration.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
