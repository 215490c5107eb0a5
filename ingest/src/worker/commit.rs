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

/// Records decoded at once: large enough for good batches, small enough that their columns stay in the processor's caches, and that
/// the memory of one chunk's is the next one's.
const CHUNK_RECORDS: usize = 1024;

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

/// Files that are written and not yet committed.
#[derive(Default)]
struct Written {
    taken: Vec<WrittenFile>,
    quarantine: Vec<WrittenFile>,
    /// The table of the latter, if a record went there.
    quarantine_table: Option<Table>,
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
        if base.positions.is_empty() {
            // Whoever asks for a tenant's quarantine finds it from the first commit on; later ones load it if they need it.
            self.quarantine(&base.client).await?;
        }
        // One snapshot for all of the batch.
        let organizations = self.organizations(&base.client).await;
        let written = self.write(base, stay, &organizations).await?;
        let rows = |files: &[WrittenFile]| files.iter().map(|file| file.record_count).sum();
        let (taken, quarantined) = (rows(&written.taken), rows(&written.quarantine));
        let mut after = base.positions.clone();
        after.extend(&moved);
        let tables: Vec<Table> =
            std::iter::once(base.table.clone()).chain(written.quarantine_table.clone()).collect();
        let mut transaction = self.transaction(written, &base.positions, &moved, &after);
        if let Some(snapshot_id) = organizations.snapshot_id().filter(|_| taken > 0) {
            let summary = &mut transaction.operations[0].summary;
            summary.insert(SNAPSHOT_PROPERTY.to_owned(), snapshot_id.to_string());
        }
        if let Some(guard) = guard {
            let first = &mut transaction.operations[0];
            first.assert_properties.insert(guard.property.clone(), guard.expected);
            first.set_properties.insert(guard.property, guard.value);
        }
        self.post(&base.client, transaction, &tables).await?;
        Ok(Committed { positions: after, taken, quarantined, newest_us })
    }

    /// Decodes chunks side by side and writes them in order; removes the files again if that fails.
    async fn write(
        &self,
        base: &Base,
        records: Vec<Taken>,
        organizations: &Arc<Organizations>,
    ) -> Result<Written, Failure> {
        let mut writers =
            Writers { bronze: DataFileWriter::new(&base.table, self.write.clone())?, quarantine: None };
        let decoding = chunks(records).map(|chunk| self.judge(base.client.name(), chunk, organizations));
        let mut decoded = stream::iter(decoding).buffered(decoders());
        while let Some(rows) = decoded.next().await {
            let written = match rows {
                Ok(rows) => self.write_rows(&mut writers, base, &rows).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = written {
                writers.abort().await;
                return Err(failure);
            }
        }
        writers.close().await
    }

    async fn write_rows(&self, writers: &mut Writers, base: &Base, rows: &Rows) -> Result<(), Failure> {
        if rows.taken.num_rows() > 0 {
            writers.bronze.write(&rows.taken).await?;
        }
        if rows.quarantine.num_rows() == 0 {
            return Ok(());
        }
        let (_, quarantine) = match &mut writers.quarantine {
            Some(open) => open,
            none => {
                let table = self.quarantine(&base.client).await?;
                let writer = DataFileWriter::new(&table, self.write.clone())?;
                none.insert((table, writer))
            }
        };
        Ok(quarantine.write(&rows.quarantine).await?)
    }

    /// The records' memory is free again once they are rows.
    async fn judge(
        &self,
        tenant: &str,
        records: Vec<Taken>,
        organizations: &Arc<Organizations>,
    ) -> Result<Rows, Failure> {
        let (judge, tenant, topic_id) = (self.feed.judge, tenant.to_owned(), self.topic_id.clone());
        let organizations = Arc::clone(organizations);
        let judging = tokio::task::spawn_blocking(move || {
            let rows = judge(&tenant, &topic_id, &records);
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

    /// `tables`: those of the transaction as they were loaded.
    async fn post(
        &self,
        client: &TenantClient,
        transaction: Transaction,
        tables: &[Table],
    ) -> Result<(), Failure> {
        let mut failures = 0;
        loop {
            let committed = transaction.clone().commit_from(client, &self.file_io, tables).await;
            let Err(error) = committed else { return Ok(()) };
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

/// Where the rows of a batch go.
struct Writers {
    bronze: DataFileWriter,
    /// With its table; opened for the first row.
    quarantine: Option<(Table, DataFileWriter)>,
}

impl Writers {
    async fn close(self) -> Result<Written, Failure> {
        let taken = match self.bronze.close().await {
            Ok(files) => files,
            Err(error) => {
                if let Some((_, quarantine)) = self.quarantine {
                    quarantine.abort().await;
                }
                return Err(error.into());
            }
        };
        let Some((table, quarantine)) = self.quarantine else {
            return Ok(Written { taken, ..Written::default() });
        };
        // If this fails, the files of the first stay behind unreferenced; maintenance removes such files.
        Ok(Written { taken, quarantine: quarantine.close().await?, quarantine_table: Some(table) })
    }

    async fn abort(self) {
        self.bronze.abort().await;
        if let Some((_, quarantine)) = self.quarantine {
            quarantine.abort().await;
        }
    }
}

/// So many records at once are decoded.
fn chunks(records: Vec<Taken>) -> impl Iterator<Item = Vec<Taken>> {
    let mut records = records.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<_> = records.by_ref().take(CHUNK_RECORDS).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Whether a record lies at or above the positions.
pub(super) fn is_new(positions: &Positions, taken: &Taken) -> bool {
    positions.get(&taken.partition).is_none_or(|next| taken.offset >= *next)
}
