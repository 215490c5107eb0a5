//! Sorting any number of rows in bounded memory.
//!
//! Rows are kept until the memory is used up; then they are ordered by their keys alone, and gathered once, into a file. DataFusion,
//! which merges the files, has a sorter of its own, but that gathers rows twice before they are written, batch by batch first, and
//! reserves memory for that.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::{SortOptions, interleave_record_batch},
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

use super::order::SortColumn;

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
            held: Held::default(),
            memory: MemoryConsumer::new(SORTER).with_can_spill(true).register(&runtime.memory_pool),
            spills: SpillManager::new(Arc::clone(&runtime), metrics, Arc::clone(schema)),
            runtime,
            files: Vec::new(),
            batch_rows: session.state().config().batch_size(),
        })
    }

    /// Takes rows; those before them go to a file if the memory isn't enough.
    pub(super) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let by = self.columns.iter().map(|index| Arc::clone(batch.column(*index))).collect::<Vec<_>>();
        let keys = self.keys.convert_columns(&by)?;
        let rows = get_record_batch_memory_size(&batch);
        let bytes = rows + keys.size() + batch.num_rows() * size_of::<Place>();
        // The first rows count twice, since as many are gathered at a time.
        let room = |held: &Held| if held.batches.is_empty() { bytes + rows } else { bytes };
        if self.memory.try_grow(room(&self.held)).is_err() {
            self.spill().await?;
            self.memory.try_grow(room(&self.held))?;
        }
        self.held.batches.push(batch);
        self.held.keys.push(keys);
        Ok(())
    }

    /// All rows in order.
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
            .with_spill_manager(self.spills)
            .with_schema(self.schema)
            .with_expressions(&self.order)
            .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
            .with_batch_size(self.batch_rows)
            .with_reservation(MemoryConsumer::new(MERGE).register(&self.runtime.memory_pool))
            .build()
    }

    async fn spill(&mut self) -> Result<()> {
        let (held, spills, batch_rows) =
            (std::mem::take(&mut self.held), self.spills.clone(), self.batch_rows);
        if !held.batches.is_empty() {
            self.files.extend(blocking(move || held.write(&spills, batch_rows)).await??);
        }
        self.memory.free();
        Ok(())
    }

    /// Rows from memory, which is given back when they were read.
    fn gathered(self, places: Vec<(usize, usize)>) -> SendableRecordBatchStream {
        let (schema, batch_rows) = (Arc::clone(&self.schema), self.batch_rows);
        let rows = stream::unfold((self, places, 0), move |(sorter, places, from)| async move {
            let next = places.len().min(from + batch_rows);
            let batch = (next > from).then(|| sorter.held.gather(&places[from..next]))?;
            Some((batch, (sorter, places, next)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

impl Held {
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

    fn gather(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        Ok(interleave_record_batch(&self.batches.iter().collect::<Vec<_>>(), places)?)
    }

    /// Writes all rows in order; nothing if there are none.
    fn write(mut self, spills: &SpillManager, batch_rows: usize) -> Result<Option<SortedSpillFile>> {
        let mut file = spills.create_in_progress_file(SORTER)?;
        let mut max_record_batch_memory = 0;
        for places in self.order().chunks(batch_rows) {
            max_record_batch_memory = max_record_batch_memory.max(file.append_batch(&self.gather(places)?)?);
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::{
        array::{AsArray, Int64Array, StringArray},
        compute::{concat_batches, lexsort_to_indices, take_record_batch},
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use datafusion::{
        execution::runtime_env::RuntimeEnvBuilder, physical_plan::common::collect, prelude::SessionConfig,
    };
    use proptest::prelude::*;

    use super::*;

    const ROWS: usize = 500;

    /// Batches of hosts that begin alike, some of them missing, at times of which many are equal, with what tells rows apart.
    fn batches(rows: &[(Option<u16>, i64)]) -> Vec<RecordBatch> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("host", DataType::Utf8, true),
            Field::new("at", DataType::Int64, false),
            Field::new("number", DataType::Int64, false),
        ]));
        let numbered = rows.iter().zip(0_i64..).collect::<Vec<_>>();
        let batch = |rows: &[(&(Option<u16>, i64), i64)]| {
            let host = |host: u16| format!("a computer by the number of {host}");
            let hosts = rows.iter().map(|(row, _)| row.0.map(host)).collect::<StringArray>();
            let at = rows.iter().map(|(row, _)| row.1).collect::<Int64Array>();
            let number = rows.iter().map(|(_, number)| *number).collect::<Int64Array>();
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(hosts), Arc::new(at), Arc::new(number)])
        };
        numbered.chunks(ROWS).map(|rows| batch(rows).unwrap()).collect()
    }

    fn by(name: &str, descending: bool, nulls_first: bool) -> SortColumn {
        SortColumn { name: name.to_owned(), descending, nulls_first }
    }

    /// The sorted rows, and how many files it took.
    fn sorted(batches: &[RecordBatch], by: &[SortColumn], bytes: usize) -> (RecordBatch, usize) {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
        let config = SessionConfig::new().with_batch_size(ROWS);
        let session = SessionContext::new_with_config_rt(config, Arc::clone(&runtime));
        let schema = batches[0].schema();
        let sorting = async {
            let mut sorter = Sorter::new(&session, &schema, by).unwrap();
            for batch in batches {
                sorter.push(batch.clone()).await.unwrap();
            }
            let files = sorter.files.len();
            (collect(sorter.finish().await.unwrap()).await.unwrap(), files)
        };
        let (sorted, files) = tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(sorting);
        assert_eq!(runtime.memory_pool.reserved(), 0, "memory is given back");
        (concat_batches(&schema, &sorted).unwrap(), files)
    }

    /// By arrow's own sort, with the rows' numbers last.
    fn expected(batches: &[RecordBatch], by: &[SortColumn]) -> RecordBatch {
        let rows = concat_batches(&batches[0].schema(), batches).unwrap();
        let column = |by: &SortColumn| arrow::compute::SortColumn {
            values: Arc::clone(rows.column_by_name(&by.name).unwrap()),
            options: Some(SortOptions { descending: by.descending, nulls_first: by.nulls_first }),
        };
        let number = SortColumn { name: "number".to_owned(), descending: false, nulls_first: true };
        let columns = by.iter().chain([&number]).map(column).collect::<Vec<_>>();
        take_record_batch(&rows, &lexsort_to_indices(&columns, None).unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn rows_come_in_order_from_memory_and_from_files(
            rows in prop::collection::vec((prop::option::weighted(0.95, 0..300_u16), 0..20_i64), 1..6_000),
            [descending, nulls_first] in any::<[bool; 2]>(),
        ) {
            let batches = batches(&rows);
            let order = [by("host", descending, nulls_first), by("at", !descending, true)];
            let expected = expected(&batches, &order);
            // Rows with one key come as they came.
            let (in_memory, files) = sorted(&batches, &order, 64 << 20);
            prop_assert_eq!((&in_memory, files), (&expected, 0));
            // Of several files, rows with one key come in any order.
            let unique = [&order[..], &[by("number", false, true)]].concat();
            let (from_files, files) = sorted(&batches, &unique, 400 << 10);
            prop_assert_eq!(from_files, expected);
            // A row takes 150 bytes or more, as long as few are without a host.
            prop_assert!(files > 0 || rows.len() < 4_000, "{files} files of {} rows", rows.len());
        }
    }

    #[test]
    fn what_has_no_room_is_refused_by_name() {
        let batches = batches(&[(Some(1), 1); ROWS]);
        let session = SessionContext::new_with_config_rt(
            SessionConfig::new(),
            RuntimeEnvBuilder::new().with_memory_limit(1_000, 1.0).build_arc().unwrap(),
        );
        let mut sorter = Sorter::new(&session, &batches[0].schema(), &[by("at", false, true)]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let error = runtime.block_on(sorter.push(batches[0].clone())).unwrap_err();
        assert!(error.to_string().contains(SORTER), "{error}");
    }

    #[test]
    fn nothing_sorted_is_nothing() {
        let empty = batches(&[(None, 1)])[0].slice(0, 0);
        let (sorted, files) = sorted(&[empty], &[by("at", false, true)], 1 << 20);
        assert_eq!((sorted.num_rows(), files), (0, 0));
        assert_eq!(sorted.column(1).as_primitive::<Int64Type>().len(), 0);
    }
}
