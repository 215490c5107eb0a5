//! Maintenance: packs small files, drops deleted rows for good, and expires snapshots of `main`'s tables.
//!
//! Retention takes outdated partitions, rows and values out of the tables. Expiry shortens a table's log, nothing more: earlier commits of the
//! catalog still reach their snapshots and files. Branches and tags go when their time is over. Files are removed by the catalog's
//! garbage collection alone, which is started by schedule.

mod health;
mod on_demand;
mod pack;
mod plan;
mod pressure;
mod retention;
mod rewrites;
mod rollback;
mod schedule;
mod visit;
mod worth;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use firn_catalog_client::{Tenant, TenantClient, iceberg::TableIdent};
use firn_runtime::{StageState, StatusBoard, with_causes};
use firn_table::{FileIo, Operation, Pace, Table, TableOperation, Transaction};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    CompactorConfig, CompactorError, ModelGraph, TenantModels,
    engine::Engine,
    lease::HeldLease,
    promotion::{MAIN, model_state},
};
pub use health::TableHealth;
pub use on_demand::{Compacted, FileGroup, TableMaintenance};
use plan::{Settings, bins, expiry};
use pressure::Waiting;
pub use retention::Retained;
use retention::TableRetention;
use rewrites::{Resting, Rewrite, Rewritten, by_worth};
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
    /// How fast rewrites read and write.
    pace: Option<Pace>,
    /// Places for rewrites.
    rewriting: Arc<Semaphore>,
}

/// What is remembered of a tenant between two visits.
#[derive(Debug, Default)]
pub(crate) struct MaintenancePlace {
    visited_at: Option<Instant>,
    /// Snapshots at which a table had nothing to pack.
    packed: BTreeMap<TableIdent, i64>,
    /// Groups of files that could not be rewritten.
    resting: Resting,
    /// If ingest is behind.
    waiting: Waiting,
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
#[derive(Clone, Debug, Default)]
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
    /// Rewrites that were given up since others changed the files.
    conflicts: u64,
    /// Rewrites for which there was no time.
    postponed: u64,
    /// Why no rewrite was begun.
    waits_for: Option<String>,
}

impl Maintenance {
    pub(crate) fn new(
        config: Arc<CompactorConfig>,
        graph: Arc<ModelGraph>,
        engine: Engine,
        file_io: FileIo,
        board: StatusBoard,
    ) -> Self {
        let pace = config.maintenance.max_bytes_per_s.map(Pace::new);
        let rewriting = Arc::new(Semaphore::new(config.maintenance.parallel_rewrites.max(1)));
        Self { config, graph, engine, file_io, board, pace, rewriting }
    }

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
            Ok(done) => {
                if done.postponed > 0 {
                    // The next visit goes on with them.
                    place.visited_at = None;
                }
                (StageState::Running, done.message(place.resting.count()), done)
            }
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
            add("rewrites_conflicting", done.conflicts);
            add("rewrites_waiting", u64::from(done.waits_for.is_some()));
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

impl Done {
    fn message(&self, resting: usize) -> String {
        match (&self.waits_for, self.postponed, resting) {
            (Some(reason), ..) => reason.clone(),
            (None, 0, 0) => "up to date".to_owned(),
            (None, 0, resting) => {
                format!("{resting} groups of files could not be rewritten and are tried again later")
            }
            (None, postponed, _) => format!("{postponed} more groups of files are to be rewritten"),
        }
    }
}

/// Milliseconds of a duration.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
