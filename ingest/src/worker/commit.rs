//! One tenant's batch as one catalog transaction.

use std::{collections::BTreeMap, num::NonZero, sync::Arc, time::Duration};

use arrow::error::ArrowError;
use firn_catalog_client::{CatalogClient, TenantClient};
use firn_inventory::tables::{BRONZE_QUARANTINE, position_property};
use firn_runtime::{retry::Backoff, with_causes};
use firn_table::{
    DataFileWriter, FileIo, Operation, Table, TableError, TableErrorKind, TableOperation, Transaction,
    WriteOptions, WrittenFile, ensure_table,
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{
    Worker,
    address::Taken,
    erased::Erased,
    feed::Feed,
    positions::{self, Positions},
    reference::{Organizations, Reference, SNAPSHOT_PROPERTY},
    rows::Rows,
    tables::{ident, quarantine_table},
};

/// Records decoded at once: large enough for good batches, small enough for memory.
const CHUNK_RECORDS: usize = 4096;

/// Tries against other writers of the same tables, such as compaction.
const MAX_ATTEMPTS: usize = 10;

/// A catalog that is away for a moment should not cost a re-read.
const CATALOG_AWAY: Backoff =
    Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(2), attempts: 3 };

/// Commits batches.
pub(super) struct Committer {
    pub(super) feed: &'static Feed,
    pub(super) catalog: CatalogClient,
    pub(super) file_io: FileIo,
    pub(super) branch: String,
    pub(super) topic_id: String,
    pub(super) write: WriteOptions,
    pub(super) shutdown: CancellationToken,
    pub(super) erased: Arc<Erased>,
    pub(super) reference: Arc<Reference>,
}

/// What a commit did.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The tenant's positions now.
    pub(super) positions: Positions,
    pub(super) taken: u64,
    pub(super) quarantined: u64,
    /// Receipt of the newest record.
    pub(super) newest_us: Option<i64>,
}

/// Why nothing was committed, as far as is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Another worker moved the positions; read again.
    #[error("another worker moved the positions: {0}")]
    Raced(String),
    /// Tried later it may work.
    #[error("{0}")]
    Later(String),
    /// A person must look; the tenant is stopped meanwhile.
    #[error("{0}")]
    Stopped(String),
}

/// A tenant's tables as a batch finds them.
pub(super) struct Base {
    pub(super) client: TenantClient,
    pub(super) table: Table,
    pub(super) positions: Positions,
}

/// A property that must have one value before a commit and gets another by it, so that two writers of the same kind can't
/// both succeed.
pub(super) struct Guard {
    pub(super) property: String,
    pub(super) expected: Option<String>,
    pub(super) value: String,
}

/// Records of a tenant on their way into files.
struct Batch<'a> {
    tenant: &'a str,
    records: Arc<Vec<Taken>>,
    organizations: Arc<Organizations>,
}

/// Files that are written and not yet committed.
struct Written {
    taken: Vec<WrittenFile>,
    quarantine: Vec<WrittenFile>,
}

impl Committer {
    /// What a worker commits with, to a branch, from a topic.
    pub(super) fn new(worker: &Worker, branch: &str, topic_id: &str, shutdown: CancellationToken) -> Self {
        Self {
            feed: worker.feed,
            catalog: worker.catalog.clone(),
            file_io: worker.file_io.clone(),
            branch: branch.to_owned(),
            topic_id: topic_id.to_owned(),
            write: worker.config.write.clone(),
            shutdown,
            erased: Arc::clone(&worker.erased),
            reference: Arc::clone(&worker.reference),
        }
    }

    /// Takes what the tenant does not have yet of `records` into its tables, with the positions behind it.
    pub(super) async fn take(&self, tenant: &str, records: Vec<Taken>) -> Result<Committed, Failure> {
        let base = self.base(tenant).await?;
        let wanted = |taken: &Taken| is_new(&base.positions, taken);
        let records = records.into_iter().filter(wanted).collect();
        self.append(&base, records, None).await
    }

    /// The tenant's tables as they are now; they are created if need be.
    pub(super) async fn base(&self, tenant: &str) -> Result<Base, Failure> {
        let client = self.catalog.tenant(tenant);
        let table = ensure_table(&client, &self.file_io, &self.branch, &(self.feed.new_table)()).await?;
        let positions = positions::read(&table.properties(), &self.topic_id, self.feed.table)
            .map_err(|error| Failure::Stopped(error.to_string()))?;
        Ok(Base { client, table, positions })
    }

    /// The tenant's table of records that could not be taken.
    pub(super) async fn quarantine(&self, client: &TenantClient) -> Result<Table, Failure> {
        Ok(ensure_table(client, &self.file_io, &self.branch, &quarantine_table()).await?)
    }

    /// Appends records that are not in the tables yet, and moves the positions behind those that are new.
    pub(super) async fn append(
        &self,
        base: &Base,
        records: Vec<Taken>,
        guard: Option<Guard>,
    ) -> Result<Committed, Failure> {
        if records.is_empty() {
            return Ok(Committed { positions: base.positions.clone(), ..Committed::default() });
        }
        // The positions move behind what is left out, too.
        let mut moved = Positions::new();
        for taken in records.iter().filter(|taken| is_new(&base.positions, taken)) {
            let next = moved.entry(taken.partition).or_default();
            *next = (taken.offset + 1).max(*next);
        }
        let newest_us = records.iter().map(|taken| taken.received_at_us).max();
        let tenant = base.client.name();
        let stay = self.erased.leave_out(tenant, records).await;
        let stay = stay.map_err(|error| Failure::Later(format!("the erasure list is away: {error}")))?;
        let quarantine = self.quarantine(&base.client).await?;
        // One snapshot for all of the batch.
        let organizations = self.organizations(&base.client).await;
        let batch = Batch { tenant, records: Arc::new(stay), organizations };
        let written = self.write(&batch, &base.table, &quarantine).await?;
        let rows = |files: &[WrittenFile]| files.iter().map(|file| file.record_count).sum();
        let (taken, quarantined) = (rows(&written.taken), rows(&written.quarantine));
        let mut after = base.positions.clone();
        after.extend(&moved);
        let mut transaction = self.transaction(written, &base.positions, &moved, &after);
        if let Some(snapshot_id) = batch.organizations.snapshot_id().filter(|_| taken > 0) {
            let summary = &mut transaction.operations[0].summary;
            summary.insert(SNAPSHOT_PROPERTY.to_owned(), snapshot_id.to_string());
        }
        if let Some(guard) = guard {
            let first = &mut transaction.operations[0];
            first.assert_properties.insert(guard.property.clone(), guard.expected);
            first.set_properties.insert(guard.property, guard.value);
        }
        self.post(&base.client, transaction).await?;
        Ok(Committed { positions: after, taken, quarantined, newest_us })
    }

    /// Decodes chunks side by side and writes them in order; removes the files again if that fails.
    async fn write(&self, batch: &Batch<'_>, table: &Table, quarantine: &Table) -> Result<Written, Failure> {
        let mut writer = DataFileWriter::new(table, self.write.clone())?;
        let mut quarantine_writer = DataFileWriter::new(quarantine, self.write.clone())?;
        let ranges = (0..batch.records.len()).step_by(CHUNK_RECORDS);
        let ranges = ranges.map(|begin| begin..(begin + CHUNK_RECORDS).min(batch.records.len()));
        let decoding = ranges.map(|range| self.judge(batch, range));
        let mut decoded = stream::iter(decoding).buffered(decoders());
        while let Some(rows) = decoded.next().await {
            let written = match rows {
                Ok(rows) => write_both(&mut writer, &mut quarantine_writer, &rows).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = written {
                writer.abort().await;
                quarantine_writer.abort().await;
                return Err(failure);
            }
        }
        let taken = match writer.close().await {
            Ok(files) => files,
            Err(error) => {
                quarantine_writer.abort().await;
                return Err(error.into());
            }
        };
        // If this fails, the files of the first stay behind unreferenced; maintenance removes such files.
        let quarantine = quarantine_writer.close().await?;
        Ok(Written { taken, quarantine })
    }

    async fn judge(&self, batch: &Batch<'_>, range: std::ops::Range<usize>) -> Result<Rows, Failure> {
        let (judge, tenant, topic_id) = (self.feed.judge, batch.tenant.to_owned(), self.topic_id.clone());
        let (records, organizations) = (Arc::clone(&batch.records), Arc::clone(&batch.organizations));
        let judging = tokio::task::spawn_blocking(move || {
            let rows = judge(&tenant, &topic_id, &records[range]);
            let taken = organizations.fill(&rows.taken)?;
            Ok(Rows { taken, ..rows })
        });
        let judged: Result<Result<Rows, ArrowError>, _> = judging.await;
        let bug = |error: &dyn std::fmt::Display| {
            Failure::Stopped(format!("decoding failed, which is a bug: {error}"))
        };
        judged.map_err(|crashed| bug(&crashed))?.map_err(|error| bug(&error))
    }

    async fn organizations(&self, client: &TenantClient) -> Arc<Organizations> {
        if self.feed.has_organizations {
            self.reference.organizations(client, &self.branch).await
        } else {
            Arc::default()
        }
    }

    fn transaction(
        &self,
        written: Written,
        before: &Positions,
        moved: &Positions,
        after: &Positions,
    ) -> Transaction {
        let asserted = moved.keys().map(|partition| {
            let expected = before.get(partition).map(i64::to_string);
            (position_property(&self.topic_id, *partition), expected)
        });
        // The summary repeats all positions, so that a rollback to this snapshot can restore them.
        let summary = if written.taken.is_empty() {
            BTreeMap::new()
        } else {
            positions::properties(after, &self.topic_id)
        };
        let mut operations = vec![TableOperation {
            table: ident(self.feed.table),
            operation: Operation::Append { files: written.taken },
            summary,
            assert_properties: asserted.collect(),
            set_properties: positions::properties(moved, &self.topic_id),
        }];
        if !written.quarantine.is_empty() {
            operations.push(TableOperation {
                table: ident(BRONZE_QUARANTINE),
                operation: Operation::Append { files: written.quarantine },
                summary: BTreeMap::new(),
                assert_properties: BTreeMap::new(),
                set_properties: BTreeMap::new(),
            });
        }
        Transaction { reference: self.branch.clone(), operations, max_attempts: MAX_ATTEMPTS }
    }

    pub(super) async fn post(&self, client: &TenantClient, transaction: Transaction) -> Result<(), Failure> {
        let mut failures = 0;
        loop {
            let Err(error) = transaction.clone().commit(client, &self.file_io).await else { return Ok(()) };
            failures += 1;
            // Only a catalog that surely did nothing is asked again with the same files.
            if error.kind != TableErrorKind::Catalog || failures >= CATALOG_AWAY.attempts {
                return Err(error.into());
            }
            tracing::debug!(tenant = client.name(), %error, failures, "catalog away, trying again");
            tokio::select! {
                () = tokio::time::sleep(CATALOG_AWAY.delay(failures)) => {}
                () = self.shutdown.cancelled() => return Err(error.into()),
            }
        }
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        let text = with_causes(&error);
        match error.kind {
            TableErrorKind::Conflict => Self::Raced(text),
            // The outcome is found out by reading the positions again.
            TableErrorKind::Unknown | TableErrorKind::Storage | TableErrorKind::Catalog => Self::Later(text),
            TableErrorKind::NotFound | TableErrorKind::Invalid | TableErrorKind::Unsupported => {
                Self::Stopped(text)
            }
        }
    }
}

/// Chunks that are decoded at once, and so held in memory: one for each core, and one that is written meanwhile.
fn decoders() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get) + 1
}

async fn write_both(
    writer: &mut DataFileWriter,
    quarantine: &mut DataFileWriter,
    rows: &Rows,
) -> Result<(), Failure> {
    if rows.taken.num_rows() > 0 {
        writer.write(&rows.taken).await?;
    }
    if rows.quarantine.num_rows() > 0 {
        quarantine.write(&rows.quarantine).await?;
    }
    Ok(())
}

/// Whether a record lies at or above the positions.
pub(super) fn is_new(positions: &Positions, taken: &Taken) -> bool {
    positions.get(&taken.partition).is_none_or(|next| taken.offset >= *next)
}
