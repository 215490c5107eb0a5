//! Decoding: rows of old files, without the deleted ones, on their way into new files.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::SchemaRef,
};
use datafusion::{
    error::{DataFusionError, Result as DataFusionResult},
    physical_expr::PhysicalExpr,
    physical_plan::SendableRecordBatchStream,
    prelude::SessionContext,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    cluster::{SortCluster, SortJob},
    lineage::Lineage,
    order::{RowOrder, SortColumn, ZCurve},
    sort::Sorter,
};
use crate::{
    DataFileWriter, Pace, TableError, TableErrorKind,
    deletes::{FileDeletes, load_deleted_rows},
    manifests::LiveFile,
    scan::{EqualityScan, PlannedFile, ScanLayout, ScanRequest, hidden_columns, scan_files},
    sums::ColumnSums,
    views::with_views,
};

/// Files opened ahead of the one that is read.
const OPEN_AHEAD: usize = 2;

/// Files whose rows are read.
pub(super) struct Decoding<'a> {
    pub(super) layout: &'a ScanLayout,
    pub(super) files: &'a [(LiveFile, FileDeletes)],
    /// How fast they are read.
    pub(super) pace: Option<&'a Pace>,
    /// Where many of them are sorted.
    pub(super) cluster: Option<&'a dyn SortCluster>,
}

/// What was read of them.
#[derive(Default)]
pub(super) struct Decoded {
    pub(super) read_rows: u64,
    pub(super) deleted_rows: u64,
    /// Of the rows that stay.
    pub(super) sums: ColumnSums,
}

/// One file's rows, as they come from the scan.
struct OldFile {
    planned: PlannedFile,
    rows: SendableRecordBatchStream,
}

impl Decoding<'_> {
    /// Writes the rows, one old file after the other or in `order`.
    pub(super) async fn write(
        &self,
        session: &SessionContext,
        schema: &SchemaRef,
        order: &RowOrder,
        writer: &mut DataFileWriter,
    ) -> Result<Decoded, TableError> {
        match order {
            RowOrder::Kept => self.read_into(session, schema, Destination::Files(writer)).await,
            RowOrder::Sorted(columns) => match self.job_elsewhere(schema, columns).await? {
                Some((cluster, job)) => self.write_sorted_by(cluster, session, schema, job, writer).await,
                None => self.write_sorted(session, &with_views(schema), columns, None, writer).await,
            },
            RowOrder::ZOrdered(columns) => {
                self.write_z_ordered(session, &with_views(schema), columns, writer).await
            }
        }
    }

    async fn write_z_ordered(
        &self,
        session: &SessionContext,
        schema: &SchemaRef,
        columns: &[String],
        writer: &mut DataFileWriter,
    ) -> Result<Decoded, TableError> {
        if self.cluster_for_all().is_some() {
            self.log_sorted_here("no other engine knows the Z-curve");
        }
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
    ) -> Result<Decoded, TableError> {
        let unsorted = |error| self.unsorted(columns, error);
        let sorted_schema = curve.map_or(schema, |curve| &curve.schema);
        let mut sorter = Sorter::new(session, sorted_schema, columns).map_err(unsorted)?;
        let destination = Destination::Sorting { sorter: &mut sorter, curve, unsorted: &unsorted };
        let read = self.read_into(session, schema, destination).await?;
        let sorted = sorter.finish().await.map_err(unsorted)?;
        let written = write_first(sorted, schema.fields().len(), writer, unsorted).await?;
        self.all_written(read, written)
    }

    /// What other machines are to sort, if there are any and they can.
    async fn job_elsewhere(
        &self,
        schema: &SchemaRef,
        columns: &[SortColumn],
    ) -> Result<Option<(&dyn SortCluster, SortJob)>, TableError> {
        let Some(cluster) = self.cluster_for_all() else { return Ok(None) };
        match SortJob::new(&self.layout.table, self.files, schema, columns).await? {
            Ok(job) => Ok(Some((cluster, job))),
            Err(reason) => {
                self.log_sorted_here(&reason);
                Ok(None)
            }
        }
    }

    /// The cluster, if there is one that wants so many bytes.
    fn cluster_for_all(&self) -> Option<&dyn SortCluster> {
        let bytes = self.files.iter().map(|(file, _)| file.data_file().file_size_in_bytes()).sum();
        self.cluster.filter(|cluster| cluster.takes(bytes))
    }

    fn log_sorted_here(&self, reason: &str) {
        let (table, files) = (self.layout.table.ident(), self.files.len());
        tracing::debug!(%table, files, reason, "sorted here, not on the cluster");
    }

    /// Writes rows that come sorted from elsewhere. They are read here as well, since what was read there nobody has seen: so what is
    /// written is compared with the same sums as ever.
    async fn write_sorted_by(
        &self,
        cluster: &dyn SortCluster,
        session: &SessionContext,
        schema: &SchemaRef,
        job: SortJob,
        writer: &mut DataFileWriter,
    ) -> Result<Decoded, TableError> {
        let by = job.by.clone();
        let unsorted = |error| self.unsorted(&by, error);
        let write = async {
            let sorted = cluster.sort(session, job).await?;
            write_first(sorted, schema.fields().len(), writer, unsorted).await
        };
        let (read, written) = futures::try_join!(self.read_into(session, schema, Destination::Sums), write)?;
        self.all_written(read, written)
    }

    fn all_written(&self, read: Decoded, written: u64) -> Result<Decoded, TableError> {
        let expected = read.read_rows - read.deleted_rows;
        if written != expected {
            let table = self.layout.table.ident();
            return Err(TableError::invalid(format!(
                "sorting {expected} rows of table {table} answered {written}; nothing was rewritten"
            )));
        }
        Ok(read)
    }

    fn unsorted(&self, by: &[SortColumn], error: DataFusionError) -> TableError {
        let table = self.layout.table.ident();
        table_error(format!("cannot sort rows of table {table} by {}", names(by)), error)
    }

    async fn read_into(
        &self,
        session: &SessionContext,
        schema: &SchemaRef,
        mut destination: Destination<'_>,
    ) -> Result<Decoded, TableError> {
        let table = &self.layout.table;
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
            .map(|planned| self.open(session, schema, equality.as_ref(), planned));
        let mut opened = stream::iter(opens.collect::<Vec<_>>()).buffered(OPEN_AHEAD);
        let sums = match destination {
            // The rows that are encoded are those that were read, in memory as well; what becomes of them the footers tell.
            Destination::Files(_) => ColumnSums::default(),
            Destination::Sorting { .. } | Destination::Sums => ColumnSums::of_values(),
        };
        let mut total = Decoded { sums, ..Decoded::default() };
        while let Some(file) = opened.try_next().await? {
            let held = file.planned.file.data_file().record_count();
            total.read_rows += held;
            let written =
                self.pass_on(file, schema, equality.as_ref(), &mut destination, &mut total.sums).await?;
            total.deleted_rows += held.saturating_sub(written);
        }
        Ok(total)
    }

    async fn open(
        &self,
        session: &SessionContext,
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
            let (config, runtime) = (session.copied_config(), session.runtime_env());
            let plan =
                scan_files(&config, &runtime, self.layout.table.file_io(), &request, vec![scanned]).await?;
            // One file is one partition, whose rows come in the file's order.
            plan.execute(0, session.task_ctx())
        };
        let rows = open.await.map_err(|error| self.unread(&planned, error))?;
        Ok(OldFile { planned, rows })
    }

    /// Passes on the rows of one file that are not deleted, and answers how many.
    async fn pass_on(
        &self,
        file: OldFile,
        schema: &SchemaRef,
        equality: Option<&EqualityScan>,
        destination: &mut Destination<'_>,
        sums: &mut ColumnSums,
    ) -> Result<u64, TableError> {
        let OldFile { planned, mut rows } = file;
        let filter = equality.map(|equality| equality.filter(&rows.schema())).transpose();
        let filter = filter.map_err(|error| self.unread(&planned, error))?;
        let mut lineage = (self.layout.table.format_version() >= 3).then(|| Lineage::new(&planned));
        let (mut read, mut written) = (0, 0);
        let mut next = rows.next().await;
        while let Some(batch) = next {
            if let (Some(pace), Ok(batch)) = (self.pace, &batch) {
                pace.spend(planned.bytes_of(batch.num_rows())).await;
            }
            let mut bytes = 0;
            let batch = batch.and_then(|batch| {
                read += batch.num_rows() as u64;
                bytes = planned.bytes_read_for(batch.num_rows());
                let batch = match &mut lineage {
                    Some(lineage) => lineage.fill(&batch, schema)?,
                    None => batch,
                };
                kept(&batch, filter.as_ref(), schema.fields().len())
            });
            let batch = batch.map_err(|error| self.unread(&planned, error))?;
            written += batch.num_rows() as u64;
            sums.add(&batch);
            // The next batch is decoded while this one is encoded.
            let (stored, following) = futures::join!(destination.take(batch, bytes), rows.next());
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

/// Writes the first columns of sorted rows, and answers how many rows there were.
async fn write_first(
    mut sorted: SendableRecordBatchStream,
    columns: usize,
    writer: &mut DataFileWriter,
    unsorted: impl Fn(DataFusionError) -> TableError,
) -> Result<u64, TableError> {
    let wanted = (0..columns).collect::<Vec<_>>();
    let mut written = 0;
    let mut next = sorted.next().await;
    while let Some(batch) = next {
        let batch = batch.and_then(|batch| Ok(batch.project(&wanted)?)).map_err(&unsorted)?;
        written += batch.num_rows() as u64;
        // The next batch is gathered while this one is encoded.
        let (stored, following) = futures::join!(writer.write(&batch), sorted.next());
        stored?;
        next = following;
    }
    Ok(written)
}

/// Where rows go.
enum Destination<'a> {
    Files(&'a mut DataFileWriter),
    Sorting {
        sorter: &'a mut Sorter,
        curve: Option<&'a ZCurve>,
        unsorted: &'a (dyn Fn(DataFusionError) -> TableError + Sync),
    },
    /// Nowhere: they are only added up.
    Sums,
}

impl Destination<'_> {
    /// Takes rows for which so many bytes of a file were read.
    async fn take(&mut self, batch: RecordBatch, bytes: u64) -> Result<(), TableError> {
        match self {
            Self::Files(writer) => writer.write(&batch).await,
            Self::Sums => Ok(()),
            Self::Sorting { sorter, curve, unsorted } => {
                let batch = curve.map_or(Ok(batch.clone()), |curve| curve.place(&batch));
                let batch = batch.map_err(|error| {
                    TableError::caused(TableErrorKind::Invalid, "cannot place rows on a Z-curve", error)
                })?;
                sorter.push(batch, bytes).await.map_err(unsorted)
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
