//! Rewriting data files: their rows without the deleted ones, in new files of the present schema, spec and target size, and
//! in order if that is wanted.

mod order;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
};
use datafusion::{
    catalog::Session,
    error::{DataFusionError, Result as DataFusionResult},
    physical_expr::PhysicalExpr,
    physical_plan::SendableRecordBatchStream,
    prelude::SessionContext,
};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::metadata_columns::{
    RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_COL_NAME_ROW_ID,
    RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_FIELD_ID_ROW_ID,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use tokio::sync::mpsc;

use crate::{
    DataFileWriter, Table, TableError, TableErrorKind, WriteOptions, WrittenFile,
    deletes::{LivePositions, load_deleted_rows},
    scan::{
        EqualityScan, FilesAndDeletes, PlannedFile, ScanLayout, ScanRequest, chosen_files, hidden_columns,
        scan_files,
    },
};

pub use order::{RowOrder, SortColumn};
use order::{ZCurve, sorted};

/// Batches that wait to be sorted.
const SORT_AHEAD: usize = 2;
/// Files opened ahead of the one that is read.
const OPEN_AHEAD: usize = 2;

/// Live data files of the table's current snapshot, to be written anew.
pub struct RewriteScan {
    layout: ScanLayout,
    base_snapshot_id: i64,
    files: FilesAndDeletes,
}

/// What a rewrite wrote; commit it with [`crate::Operation::Rewrite`].
#[derive(Debug, Default)]
pub struct RewrittenFiles {
    /// New files. None if every row was deleted.
    pub files: Vec<WrittenFile>,
    /// Rows that the old files hold.
    pub read_rows: u64,
    /// Rows of them that were deleted.
    pub deleted_rows: u64,
}

/// One file's rows, as they come from the scan.
struct OldFile {
    planned: PlannedFile,
    rows: SendableRecordBatchStream,
}

impl RewriteScan {
    /// Files by location; one that is no live data file is `NotFound`.
    pub async fn new(table: &Table, locations: &[String]) -> Result<Self, TableError> {
        let Some(base) = table.current_snapshot() else {
            let table = table.ident();
            let context = format!("table {table} has no files to rewrite");
            return Err(TableError::new(TableErrorKind::NotFound, context));
        };
        let files = chosen_files(table, locations).await?;
        Ok(Self { layout: ScanLayout::new(table)?, base_snapshot_id: base.id, files })
    }

    /// The snapshot that the rows are read from.
    #[must_use]
    pub fn base_snapshot_id(&self) -> i64 {
        self.base_snapshot_id
    }

    /// Writes the rows into new files, one old file after the other or in `order`. A file that holds another number of rows than
    /// its manifest says is an error. After an error nothing is left.
    pub async fn write(
        &self,
        session: &SessionContext,
        options: WriteOptions,
        order: &RowOrder,
    ) -> Result<RewrittenFiles, TableError> {
        let schema = self.written_schema();
        let mut writer = DataFileWriter::with_schema(&self.layout.table, Arc::clone(&schema), options)?;
        let written = match order {
            RowOrder::Kept => self.read_into(session, &schema, Destination::Files(&mut writer)).await,
            RowOrder::Sorted(columns) => {
                self.write_sorted(session, &schema, columns, None, &mut writer).await
            }
            RowOrder::ZOrdered(columns) => self.write_z_ordered(session, &schema, columns, &mut writer).await,
        };
        match written {
            Ok(mut rewritten) => {
                rewritten.files = writer.close().await?;
                Ok(rewritten)
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    /// The table's columns; in format 3 also where each row came from, which moving it must not change.
    fn written_schema(&self) -> SchemaRef {
        if self.layout.table.format_version() < 3 {
            return Arc::clone(&self.layout.schema);
        }
        let fields = self.layout.schema.fields().iter().cloned().chain(lineage_columns());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    async fn write_z_ordered(
        &self,
        session: &SessionContext,
        schema: &SchemaRef,
        columns: &[String],
        writer: &mut DataFileWriter,
    ) -> Result<RewrittenFiles, TableError> {
        let files = self.files.iter().map(|(file, _)| file);
        let curve = ZCurve::new(&self.layout.table, schema, columns, files)?;
        self.write_sorted(session, schema, &[ZCurve::sort_column()], Some(&curve), writer).await
    }

    /// Reads all rows, sorts them as the memory allows, and writes them.
    async fn write_sorted(
        &self,
        session: &SessionContext,
        schema: &SchemaRef,
        columns: &[SortColumn],
        curve: Option<&ZCurve>,
        writer: &mut DataFileWriter,
    ) -> Result<RewrittenFiles, TableError> {
        let unsorted = |error| {
            let table = self.layout.table.ident();
            table_error(format!("cannot sort rows of table {table} by {}", names(columns)), error)
        };
        let (rows, incoming) = mpsc::channel(SORT_AHEAD);
        let sorted_schema = curve.map_or(schema, |curve| &curve.schema);
        let sorted = sorted(session, sorted_schema, columns, incoming).await.map_err(unsorted)?;
        let wanted = (0..schema.fields().len()).collect::<Vec<_>>();
        // Ends with its stream, so that a failure lets the other side end, too.
        let write = async move {
            let (mut sorted, mut written) = (sorted, 0);
            while let Some(batch) = sorted.next().await {
                let batch = batch.and_then(|batch| Ok(batch.project(&wanted)?)).map_err(unsorted)?;
                written += batch.num_rows() as u64;
                writer.write(&batch).await?;
            }
            Ok::<_, TableError>(written)
        };
        let read = self.read_into(session, schema, Destination::Sorting { rows, curve });
        let (read, written) = futures::join!(read, write);
        let (written, read) = (written?, read?);
        let expected = read.read_rows - read.deleted_rows;
        if written != expected {
            let table = self.layout.table.ident();
            return Err(TableError::invalid(format!(
                "sorting {expected} rows of table {table} answered {written}; nothing was rewritten"
            )));
        }
        Ok(read)
    }

    async fn read_into(
        &self,
        session: &SessionContext,
        schema: &SchemaRef,
        mut destination: Destination<'_>,
    ) -> Result<RewrittenFiles, TableError> {
        let (table, state) = (&self.layout.table, session.state());
        let file_io = table.file_io();
        let pool = &session.runtime_env().memory_pool;
        let deletes = self.files.iter().map(|(_, deletes)| deletes).collect::<Vec<_>>();
        let equality =
            self.layout.equality(schema, &deletes, pool).await.map_err(|error| self.failed(error))?;
        let by_position = self.files.iter().map(|(file, deletes)| (file, deletes)).collect::<Vec<_>>();
        let mut deleted = load_deleted_rows(file_io, &by_position).await?;

        let planned = self.files.iter().map(|(file, _)| PlannedFile {
            file: file.clone(),
            deleted: deleted.remove(file.location()),
            hidden: equality.as_ref().map(|equality| equality.hidden_values(file)).unwrap_or_default(),
        });
        let opens = planned
            .collect::<Vec<_>>()
            .into_iter()
            .map(|planned| self.open(session, &state, schema, equality.as_ref(), planned));
        let mut opened = stream::iter(opens.collect::<Vec<_>>()).buffered(OPEN_AHEAD);
        let mut total = RewrittenFiles::default();
        while let Some(file) = opened.try_next().await? {
            let held = file.planned.file.data_file().record_count();
            total.read_rows += held;
            let written = self.copy(file, schema, equality.as_ref(), &mut destination).await?;
            total.deleted_rows += held.saturating_sub(written);
        }
        Ok(total)
    }

    async fn open(
        &self,
        session: &SessionContext,
        state: &dyn Session,
        schema: &SchemaRef,
        equality: Option<&EqualityScan>,
        planned: PlannedFile,
    ) -> Result<OldFile, TableError> {
        let request = ScanRequest {
            schema: equality.map_or(schema, |equality| &equality.read_schema),
            hidden: equality.map_or_else(Vec::new, |_| hidden_columns()),
            columns: &self.layout.columns,
            specs: &self.layout.specs,
            predicate: None,
            projection: None,
            limit: None,
        };
        let scanned = PlannedFile {
            file: planned.file.clone(),
            deleted: planned.deleted.clone(),
            hidden: planned.hidden.clone(),
        };
        let open = async {
            let plan = scan_files(state, self.layout.table.file_io(), &request, vec![scanned]).await?;
            // One file is one partition, whose rows come in the file's order.
            plan.execute(0, session.task_ctx())
        };
        let rows = open.await.map_err(|error| self.unread(&planned, error))?;
        Ok(OldFile { planned, rows })
    }

    /// Passes on the rows of one file that are not deleted, and answers how many.
    async fn copy(
        &self,
        file: OldFile,
        schema: &SchemaRef,
        equality: Option<&EqualityScan>,
        destination: &mut Destination<'_>,
    ) -> Result<u64, TableError> {
        let OldFile { planned, mut rows } = file;
        let filter = equality.map(|equality| equality.filter(&rows.schema())).transpose();
        let filter = filter.map_err(|error| self.unread(&planned, error))?;
        let mut lineage = (self.layout.table.format_version() >= 3).then(|| Lineage::new(&planned));
        let (mut read, mut written) = (0, 0);
        let mut next = rows.next().await;
        while let Some(batch) = next {
            let batch = batch.and_then(|batch| {
                read += batch.num_rows() as u64;
                let batch = match &mut lineage {
                    Some(lineage) => lineage.fill(&batch, schema)?,
                    None => batch,
                };
                kept(&batch, filter.as_ref(), schema.fields().len())
            });
            let batch = batch.map_err(|error| self.unread(&planned, error))?;
            written += batch.num_rows() as u64;
            // The next batch is decoded while this one is encoded.
            let (stored, following) = futures::join!(destination.take(batch), rows.next());
            stored?;
            next = following;
        }
        let expected = planned.rows();
        if read != expected {
            let (location, table) = (planned.file.location(), self.layout.table.ident());
            return Err(TableError::invalid(format!(
                "{location} of table {table} has {read} rows that were not deleted by position, but its manifest says \
                 {expected}; nothing was rewritten"
            )));
        }
        Ok(written)
    }

    fn unread(&self, planned: &PlannedFile, error: DataFusionError) -> TableError {
        let (location, table) = (planned.file.location(), self.layout.table.ident());
        table_error(format!("cannot rewrite {location} of table {table}"), error)
    }

    fn failed(&self, error: DataFusionError) -> TableError {
        table_error(format!("cannot read the deletes of table {}", self.layout.table.ident()), error)
    }
}

fn names(columns: &[SortColumn]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Where rows go.
enum Destination<'a> {
    Files(&'a mut DataFileWriter),
    Sorting { rows: mpsc::Sender<RecordBatch>, curve: Option<&'a ZCurve> },
}

impl Destination<'_> {
    async fn take(&mut self, batch: RecordBatch) -> Result<(), TableError> {
        match self {
            Self::Files(writer) => writer.write(&batch).await,
            Self::Sorting { rows, curve } => {
                let batch = curve.map_or(Ok(batch.clone()), |curve| curve.place(&batch));
                let batch = batch.map_err(|error| {
                    TableError::caused(TableErrorKind::Invalid, "cannot place rows on a Z-curve", error)
                })?;
                let taken = rows.send(batch).await;
                taken.map_err(|_| TableError::new(TableErrorKind::Storage, "the rows are no longer sorted"))
            }
        }
    }
}

/// The table library's own error, if it is one.
fn table_error(context: String, error: DataFusionError) -> TableError {
    match error {
        DataFusionError::External(source) => match source.downcast::<TableError>() {
            Ok(error) => *error,
            Err(source) => TableError::caused(TableErrorKind::Storage, context, source),
        },
        error => TableError::caused(TableErrorKind::Storage, context, error),
    }
}

/// The first columns of the rows that stay.
fn kept(
    batch: &RecordBatch,
    filter: Option<&Arc<dyn PhysicalExpr>>,
    columns: usize,
) -> DataFusionResult<RecordBatch> {
    let Some(filter) = filter else { return Ok(batch.clone()) };
    let stays = filter.evaluate(batch)?.into_array(batch.num_rows())?;
    let batch = filter_record_batch(batch, stays.as_boolean())?;
    Ok(batch.project(&(0..columns).collect::<Vec<_>>())?)
}

/// Columns of format 3 that tell a row's identity and its last change (specification, "Row Lineage").
fn lineage_columns() -> [FieldRef; 2] {
    let column = |name: &str, id: i32| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata([id].into()))
    };
    [
        column(RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_ROW_ID),
        column(
            RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER,
            RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER,
        ),
    ]
}

/// Gives the rows of one file, in its order, what they inherit from it.
struct Lineage {
    first_row_id: Option<i64>,
    sequence_number: i64,
    positions: LivePositions,
}

impl Lineage {
    fn new(planned: &PlannedFile) -> Self {
        Self {
            first_row_id: planned.file.data_file().first_row_id(),
            sequence_number: planned.file.sequence_number(),
            positions: LivePositions::new(planned.deleted.clone()),
        }
    }

    /// The batch with the two last of `schema`'s columns filled where the file doesn't have them.
    fn fill(&mut self, batch: &RecordBatch, schema: &Schema) -> DataFusionResult<RecordBatch> {
        let width = schema.fields().len();
        let (row_ids, updates) = (batch.column(width - 2), batch.column(width - 1));
        let (own_ids, own_updates) =
            (row_ids.as_primitive::<Int64Type>(), updates.as_primitive::<Int64Type>());
        let (mut ids, mut changed) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let position = i64::try_from(self.positions.take()).unwrap_or(i64::MAX);
            // Without a first row id the table was only just upgraded: rows get their ids with the new file.
            let inherited = self.first_row_id.map(|first| first.saturating_add(position));
            ids.push(own_ids.is_valid(row).then(|| own_ids.value(row)).or(inherited));
            let inherited = self.first_row_id.map(|_| self.sequence_number);
            changed.push(own_updates.is_valid(row).then(|| own_updates.value(row)).or(inherited));
        }
        let mut columns = batch.columns().to_vec();
        columns[width - 2] = Arc::new(Int64Array::from(ids)) as ArrayRef;
        columns[width - 1] = Arc::new(Int64Array::from(changed)) as ArrayRef;
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}
