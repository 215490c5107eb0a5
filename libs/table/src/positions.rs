//! Where rows are: their files and positions, for deletes by position and for reading single rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    catalog::{TableProvider, streaming::StreamingTable},
    error::{DataFusionError, Result as DataFusionResult},
    execution::TaskContext,
    logical_expr::Expr,
    physical_plan::{
        SendableRecordBatchStream, stream::RecordBatchStreamAdapter, streaming::PartitionStream,
    },
    prelude::SessionContext,
};
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;

use crate::{
    Table, TableError, TableErrorKind, TableScan,
    deletes::{DeleteIndex, LivePositions, load_deleted_rows},
    manifests::{LiveFile, live_files},
    scan::{FileRows, PlannedFile, ScanRequest, external, scan_files},
};

/// Column of a [`PositionScan`] with the number of the row's file.
pub const FILE_COLUMN: &str = "firn_file";
/// Column of a [`PositionScan`] with the row's position in its file.
pub const POSITION_COLUMN: &str = "firn_position";

/// Rows of one snapshot, by the location of their data file and position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowPositions {
    files: BTreeMap<String, RoaringTreemap>,
}

impl RowPositions {
    /// Adds a row.
    pub fn insert(&mut self, location: &str, position: u64) {
        match self.files.get_mut(location) {
            Some(rows) => _ = rows.insert(position),
            None => _ = self.files.entry(location.to_owned()).or_default().insert(position),
        }
    }

    /// Adds the other's rows.
    pub fn extend(&mut self, other: Self) {
        for (location, rows) in other.files {
            *self.files.entry(location).or_default() |= rows;
        }
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.files.values().map(RoaringTreemap::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.values().all(RoaringTreemap::is_empty)
    }

    /// These rows of the files.
    fn pick<'a>(&self, files: impl Iterator<Item = &'a LiveFile>) -> Vec<FileRows> {
        let picked = files.filter_map(|file| {
            let rows = self.files.get(file.location()).filter(|rows| !rows.is_empty())?;
            Some(FileRows::only(file.clone(), rows))
        });
        picked.collect()
    }

    pub(crate) fn sets(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let set = |(location, rows): (&String, &RoaringTreemap)| (location.clone(), rows.iter().collect());
        self.files.iter().map(set).collect()
    }
}

/// Some columns of a table's current rows, with where each row is.
pub struct PositionScan {
    rows: Arc<LocatedRows>,
}

struct LocatedRows {
    scan: Arc<TableScan>,
    /// At most so many are read at the same time. Of the session nothing is kept: it may hold this scan as one of its tables.
    partitions: usize,
    files: Vec<(LiveFile, Option<Arc<RoaringTreemap>>)>,
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl PositionScan {
    /// Of the table's current rows.
    pub async fn new(
        table: &Table,
        session: &SessionContext,
        columns: &[&str],
        filters: &[Expr],
    ) -> Result<Option<Self>, TableError> {
        Self::of(Arc::new(TableScan::new(table, None).await?), session, columns, filters).await
    }

    /// A scan of `columns` of the files that may hold rows for which all `filters` are true; other rows of them are in it,
    /// too. `None` if rows are deleted by equality: those have no positions until the table was compacted.
    pub async fn of(
        scan: Arc<TableScan>,
        session: &SessionContext,
        columns: &[&str],
        filters: &[Expr],
    ) -> Result<Option<Self>, TableError> {
        let (table, state) = (&scan.layout.table, session.state());
        let failed = |error| unreadable(table, error);
        let predicate = scan.predicate(&state, filters).map_err(failed)?;
        let planned = scan.plan_files(predicate.as_ref()).await.map_err(failed)?;
        if planned.iter().any(|(_, deletes)| !deletes.equality.is_empty()) {
            return Ok(None);
        }
        let mut deleted = scan.left_out(&planned).await?;
        let files = planned.into_iter().map(|(file, _)| {
            let deleted = deleted.remove(file.location());
            (file, deleted)
        });
        let table_schema = &scan.layout.schema;
        let index = |column: &&str| {
            table_schema
                .index_of(column)
                .map_err(|_| TableError::invalid(format!("table {} has no column '{column}'", table.ident())))
        };
        let mut projection = columns.iter().map(index).collect::<Result<Vec<_>, _>>()?;
        projection.sort_unstable();
        projection.dedup();
        let place = |name| Arc::new(Field::new(name, DataType::Int64, false));
        let fields = projection.iter().map(|index| Arc::new(table_schema.field(*index).clone()));
        let fields = fields.chain([place(FILE_COLUMN), place(POSITION_COLUMN)]).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        let partitions = state.config().target_partitions().max(1);
        let rows = LocatedRows { files: files.collect(), scan, partitions, projection, schema };
        Ok(Some(Self { rows: Arc::new(rows) }))
    }

    /// The rows: the columns in the table's order, then [`FILE_COLUMN`] and [`POSITION_COLUMN`].
    pub fn provider(&self) -> DataFusionResult<Arc<dyn TableProvider>> {
        let mut groups = vec![Vec::new(); self.rows.partitions.min(self.rows.files.len().max(1))];
        let count = groups.len();
        for number in 0..self.rows.files.len() {
            groups[number % count].push(number);
        }
        let partition = |files| -> Arc<dyn PartitionStream> {
            Arc::new(LocatedPartition { rows: Arc::clone(&self.rows), files })
        };
        let partitions = groups.into_iter().map(partition).collect();
        Ok(Arc::new(StreamingTable::try_new(Arc::clone(&self.rows.schema), partitions)?))
    }

    /// The whole rows at some of the places.
    pub fn rows_at(&self, places: &RowPositions) -> Result<TableScan, TableError> {
        let files = self.rows.files.iter().map(|(file, _)| file);
        TableScan::of_rows(&self.rows.scan.layout.table, places.pick(files))
    }

    /// Location of a file by its number.
    #[must_use]
    pub fn location(&self, file: i64) -> Option<&str> {
        let number = usize::try_from(file).ok()?;
        self.rows.files.get(number).map(|(file, _)| file.location())
    }
}

impl TableScan {
    /// Only the given rows of the table's current snapshot, each read where it is.
    pub async fn at(table: &Table, rows: &RowPositions) -> Result<Self, TableError> {
        let manifests = table.live_manifests(None).await?;
        let files = live_files(table.file_io(), &manifests.data).await?;
        Self::of_rows(table, rows.pick(files.iter()))
    }

    /// The rows of the table's current snapshot but the given ones. Rows must not be deleted by equality.
    pub async fn without(table: &Table, rows: &RowPositions) -> Result<Self, TableError> {
        let mut picked = Vec::new();
        for (file, deleted) in current_files(table).await? {
            let mut left_out = deleted.map(Arc::unwrap_or_clone).unwrap_or_default();
            if let Some(rows) = rows.files.get(file.location()) {
                left_out |= rows;
            }
            if left_out.len() < file.data_file().record_count() {
                picked.push(FileRows::without(file, Some(Arc::new(left_out))));
            }
        }
        Self::of_rows(table, picked)
    }
}

/// The current data files with what is deleted from each by position.
async fn current_files(table: &Table) -> Result<Vec<(LiveFile, Option<Arc<RoaringTreemap>>)>, TableError> {
    let manifests = table.live_manifests(None).await?;
    let index = DeleteIndex::load(table, &manifests.deletes).await?;
    let mut files = Vec::new();
    for file in live_files(table.file_io(), &manifests.data).await? {
        let deletes = index.of(&file)?;
        files.push((file, deletes));
    }
    let by_position = files.iter().map(|(file, deletes)| (file, deletes)).collect::<Vec<_>>();
    let mut deleted = load_deleted_rows(table.file_io(), &by_position).await?;
    let with_deleted = files.into_iter().map(|(file, _)| {
        let deleted = deleted.remove(file.location());
        (file, deleted)
    });
    Ok(with_deleted.collect())
}

/// Some of the files, read one after the other.
struct LocatedPartition {
    rows: Arc<LocatedRows>,
    files: Vec<usize>,
}

impl fmt::Debug for LocatedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocatedPartition({:?})", self.files)
    }
}

impl PartitionStream for LocatedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.rows.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Arc::clone(&self.rows);
        let opened = stream::iter(self.files.clone()).then(move |number| {
            let (rows, context) = (Arc::clone(&rows), Arc::clone(&context));
            async move { rows.open(number, context).await }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.rows.schema), opened.try_flatten()))
    }
}

impl LocatedRows {
    /// One file's rows, in its order.
    async fn open(
        self: Arc<Self>,
        number: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<stream::BoxStream<'static, DataFusionResult<RecordBatch>>> {
        let (file, deleted) = self.files[number].clone();
        let (layout, held) = (&self.scan.layout, file.data_file().record_count());
        let request = ScanRequest {
            schema: &layout.schema,
            hidden: Vec::new(),
            columns: &layout.columns,
            specs: &layout.specs,
            // A predicate would leave out row groups, and positions could no longer be counted.
            predicate: None,
            projection: Some(&self.projection),
            limit: None,
        };
        let location = file.location().to_owned();
        let planned = PlannedFile { file, deleted: deleted.clone(), hidden: Vec::new() };
        let expected = planned.rows();
        if expected == 0 {
            return Ok(stream::empty().boxed());
        }
        let (config, runtime) = (context.session_config(), context.runtime_env());
        let plan = scan_files(config, &runtime, layout.table.file_io(), &request, vec![planned]).await?;
        // One file is one partition, whose rows come in the file's order.
        let batches = plan.execute(0, context)?;
        let schema = Arc::clone(&self.schema);
        let mut positions = LivePositions::new(deleted);
        let mut read = 0;
        let located = batches.map(move |batch| {
            let batch = batch?;
            read += batch.num_rows() as u64;
            if read > expected {
                return Err(external(TableError::invalid(format!(
                    "{location} has more rows than the {held} that its manifest says"
                ))));
            }
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            let rows = batch.num_rows();
            let places = (0..rows).map(|_| i64::try_from(positions.take()).unwrap_or(i64::MAX));
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(Int64Array::from_value(number, rows)) as ArrayRef);
            columns.push(Arc::new(Int64Array::from_iter_values(places)) as ArrayRef);
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        Ok(located.boxed())
    }
}

fn unreadable(table: &Table, error: DataFusionError) -> TableError {
    let context = format!("cannot find rows of table {}", table.ident());
    TableError::caused(TableErrorKind::Storage, context, error)
}
