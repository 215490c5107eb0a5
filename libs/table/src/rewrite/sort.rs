//! Sorting any number of rows in bounded memory.
//!
//! Rows are kept until the memory is used up; then they are ordered by their keys alone, and gathered once, into a file. DataFusion,
//! which merges the files, has a sorter of its own, but that gathers rows twice before they are written, batch by batch first, and
//! reserves memory for that.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::SortOptions,
    datatypes::SchemaRef,
    row::{RowConverter, Rows, SortField},
};
use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        SendableRecordBatchStream,
        memory_pool::{MemoryConsumer, MemoryReservation},
        runtime_env::RuntimeEnv,
    },
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column},
    physical_plan::{
        SpillManager,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, SpillMetrics},
        sorts::streaming_merge::{SortedSpillFile, StreamingMergeBuilder},
        spill::get_record_batch_memory_size,
        stream::RecordBatchStreamAdapter,
    },
    prelude::SessionContext,
};
use futures::stream;

use super::{
    gather::{Buffers, Nulls, gather},
    order::SortColumn,
};
use crate::views::{plain_rows, without_views};

/// What holds the rows.
const SORTER: &str = "RewriteSorter";
/// What merges files; pools know it by the name that DataFusion gives it.
const MERGE: &str = "ExternalSorterMerge[rewrite]";

/// Takes rows, and answers them in order.
pub(super) struct Sorter {
    schema: SchemaRef,
    order: LexOrdering,
    /// Positions of the columns that it is by.
    columns: Vec<usize>,
    keys: RowConverter,
    nulls: Nulls,
    held: Held,
    memory: MemoryReservation,
    runtime: Arc<RuntimeEnv>,
    spills: SpillManager,
    files: Vec<SortedSpillFile>,
    batch_rows: usize,
}

/// Rows in memory.
#[derive(Default)]
struct Held {
    batches: Vec<RecordBatch>,
    buffers: Buffers,
    /// Of each batch's rows, such that they compare as bytes.
    keys: Vec<Rows>,
}

/// Where a row is, with the first bytes of its key that tell keys apart.
type Place = (u128, u32, u32);

impl Sorter {
    pub(super) fn new(session: &SessionContext, schema: &SchemaRef, by: &[SortColumn]) -> Result<Self> {
        let columns = by.iter().map(|column| schema.index_of(&column.name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = |column: &SortColumn| SortOptions {
            descending: column.descending,
            nulls_first: column.nulls_first,
        };
        let fields = by.iter().zip(&columns).map(|(column, index)| {
            SortField::new_with_options(schema.field(*index).data_type().clone(), options(column))
        });
        let order = by.iter().zip(&columns).map(|(column, index)| {
            PhysicalSortExpr::new(Arc::new(Column::new(&column.name, *index)), options(column))
        });
        let order = LexOrdering::new(order)
            .ok_or_else(|| DataFusionError::Plan("rows are sorted by no column".to_owned()))?;
        let runtime = session.runtime_env();
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        Ok(Self {
            keys: RowConverter::new(fields.collect())?,
            schema: Arc::clone(schema),
            order,
            columns,
            nulls: Nulls::default(),
            held: Held::default(),
            memory: MemoryConsumer::new(SORTER).with_can_spill(true).register(&runtime.memory_pool),
            spills: SpillManager::new(Arc::clone(&runtime), metrics, without_views(schema)),
            runtime,
            files: Vec::new(),
            batch_rows: session.state().config().batch_size(),
        })
    }

    /// Takes rows; those before them go to a file if the memory isn't enough. Views of what isn't compressed refer to the bytes as they
    /// were read, with all that was read at once, so those count as well, spread evenly over the rows.
    pub(super) async fn push(&mut self, batch: RecordBatch, read_bytes: u64) -> Result<()> {
        let by = self.columns.iter().map(|index| Arc::clone(batch.column(*index))).collect::<Vec<_>>();
        let keys = self.keys.convert_columns(&by)?;
        let batch = self.nulls.share(batch)?;
        let read_bytes = usize::try_from(read_bytes).unwrap_or(usize::MAX / 2);
        let beside = keys.size() + batch.num_rows() * size_of::<Place>() + read_bytes;
        let bytes = beside + self.held.add(&batch)?;
        if self.memory.try_grow(bytes).is_err() {
            self.spill().await?;
            let bytes = beside + self.held.add(&batch)?;
            self.memory.try_grow(bytes)?;
        }
        self.held.batches.push(batch);
        self.held.keys.push(keys);
        Ok(())
    }

    /// All rows in order: in the schema that they came in, or without views if they were too many for the memory.
    pub(super) async fn finish(mut self) -> Result<SendableRecordBatchStream> {
        if self.files.is_empty() {
            let places = blocking(move || {
                let places = self.held.order();
                (self, places)
            });
            let (sorter, places) = places.await?;
            return Ok(sorter.gathered(places));
        }
        self.spill().await?;
        StreamingMergeBuilder::new()
            .with_sorted_spill_files(self.files)
            .with_schema(Arc::clone(self.spills.schema()))
            .with_spill_manager(self.spills)
            .with_expressions(&self.order)
            .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
            .with_batch_size(self.batch_rows)
            .with_reservation(MemoryConsumer::new(MERGE).register(&self.runtime.memory_pool))
            .build()
    }

    async fn spill(&mut self) -> Result<()> {
        let (held, schema) = (std::mem::take(&mut self.held), Arc::clone(&self.schema));
        let (spills, batch_rows) = (self.spills.clone(), self.batch_rows);
        if !held.batches.is_empty() {
            self.files.extend(blocking(move || held.write(&schema, &spills, batch_rows)).await??);
        }
        self.memory.free();
        Ok(())
    }

    /// Rows from memory, which is given back when they were read.
    fn gathered(self, places: Vec<(usize, usize)>) -> SendableRecordBatchStream {
        let (schema, batch_rows) = (Arc::clone(&self.schema), self.batch_rows);
        let rows = stream::unfold((self, places, 0), move |(sorter, places, from)| async move {
            let next = places.len().min(from + batch_rows);
            let batch = (next > from).then(|| sorter.held.gather(&sorter.schema, &places[from..next]))?;
            Some((batch, (sorter, places, next)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

impl Held {
    /// Bytes that a batch takes beside those that are held.
    fn add(&mut self, batch: &RecordBatch) -> Result<usize> {
        let bytes = self.buffers.add(batch);
        if !self.batches.is_empty() {
            return Ok(bytes);
        }
        // As many rows as the first are gathered at a time, and then each has its own texts.
        let gathered = plain_rows(batch, &without_views(batch.schema_ref()))?;
        Ok(bytes + get_record_batch_memory_size(&gathered))
    }

    /// Batch and row of each row, in order; rows with the same key as they came.
    fn order(&mut self) -> Vec<(usize, usize)> {
        let keys = std::mem::take(&mut self.keys);
        let alike = common_prefix(&keys);
        let mut places: Vec<Place> = Vec::with_capacity(keys.iter().map(Rows::num_rows).sum());
        for (batch, keys) in (0..).zip(&keys) {
            places.extend((0..).zip(keys).map(|(row, key)| (beginning(&key.as_ref()[alike..]), batch, row)));
        }
        let key = |&(_, batch, row): &Place| keys[batch as usize].row(row as usize);
        places.sort_unstable_by(|one, other| {
            let by_key = one.0.cmp(&other.0).then_with(|| key(one).cmp(&key(other)));
            by_key.then_with(|| (one.1, one.2).cmp(&(other.1, other.2)))
        });
        places.into_iter().map(|(_, batch, row)| (batch as usize, row as usize)).collect()
    }

    fn gather(&self, schema: &SchemaRef, places: &[(usize, usize)]) -> Result<RecordBatch> {
        Ok(gather(schema, &self.batches, places)?)
    }

    /// Writes all rows in order; nothing if there are none. A file would hold each view's buffers in each of its batches, so texts are
    /// copied into it.
    fn write(
        mut self,
        schema: &SchemaRef,
        spills: &SpillManager,
        batch_rows: usize,
    ) -> Result<Option<SortedSpillFile>> {
        let mut file = spills.create_in_progress_file(SORTER)?;
        let mut max_record_batch_memory = 0;
        for places in self.order().chunks(batch_rows) {
            let rows = plain_rows(&self.gather(schema, places)?, spills.schema())?;
            max_record_batch_memory = max_record_batch_memory.max(file.append_batch(&rows)?);
        }
        Ok(file.finish()?.map(|file| SortedSpillFile { file, max_record_batch_memory }))
    }
}

/// Bytes that all keys begin with.
fn common_prefix(keys: &[Rows]) -> usize {
    let mut keys = keys.iter().flatten();
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.as_ref().len(), |alike, key| {
        let pairs = first.as_ref()[..alike].iter().zip(key.as_ref());
        pairs.take_while(|(one, other)| one == other).count()
    })
}

/// The first bytes as a number that compares as they do.
fn beginning(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}

/// Work that takes a thread for a while.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DataFusionError::External(Box::new(error)))
}

#[cfg(test)]
mod tests;
