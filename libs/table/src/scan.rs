//! A DataFusion table provider over one snapshot, or over chosen files of it.

mod bounds;
mod columns;
mod layout;
mod partition_bounds;
mod plan;
mod prune;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use arrow::datatypes::SchemaRef;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, stats::Precision},
    error::{DataFusionError, Result as DataFusionResult},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ExecutionPlan, Statistics, empty::EmptyExec, filter::FilterExecBuilder, union::UnionExec,
    },
};
use iceberg::spec::ManifestFile;
use roaring::RoaringTreemap;

use crate::{
    Table, TableError, TableErrorKind,
    deletes::{DeleteIndex, FileDeletes, load_deleted_rows},
    file_io::root,
    manifests::{LiveFile, live_files},
};
pub(crate) use bounds::column_bounds;
pub(crate) use layout::{EqualityScan, ScanLayout, hidden_columns};
pub(crate) use plan::{PlannedFile, ScanRequest, scan_files};
use prune::{FileStatistics, ManifestStatistics, prune};

/// Plans its own scans: manifest, partition and metrics pruning, parallel by files and row groups, columns by field id,
/// without the rows that were deleted by position or equality.
pub struct TableScan {
    pub(crate) layout: ScanLayout,
    source: Source,
}

/// What is to be read before any filter.
enum Source {
    Snapshot {
        data: Vec<ManifestFile>,
        deletes: Vec<ManifestFile>,
    },
    /// Some files of the current snapshot.
    Chosen(FilesAndDeletes),
    /// Chosen rows, whatever is deleted from their files.
    Rows(Vec<FileRows>),
}

/// Some rows of a data file.
#[derive(Clone)]
pub(crate) struct FileRows {
    pub(crate) file: LiveFile,
    /// Positions of the rows that are not wanted; absent if all are.
    left_out: Option<Arc<RoaringTreemap>>,
}

impl FileRows {
    /// The file without some rows.
    pub(crate) fn without(file: LiveFile, left_out: Option<Arc<RoaringTreemap>>) -> Self {
        Self { file, left_out: left_out.filter(|left_out| !left_out.is_empty()) }
    }

    /// Only the rows at the given positions.
    pub(crate) fn only(file: LiveFile, rows: &RoaringTreemap) -> Self {
        let mut left_out = RoaringTreemap::new();
        left_out.insert_range(0..file.data_file().record_count());
        left_out -= rows;
        Self::without(file, Some(Arc::new(left_out)))
    }

    fn rows(&self) -> u64 {
        let left_out = self.left_out.as_ref().map_or(0, |left_out| left_out.len());
        self.file.data_file().record_count().saturating_sub(left_out)
    }
}

/// Data files with what is deleted from them.
pub(crate) type FilesAndDeletes = Vec<(LiveFile, FileDeletes)>;

/// Live data files of the current snapshot by location; one that is none is `NotFound`.
pub(crate) async fn chosen_files(table: &Table, locations: &[String]) -> Result<FilesAndDeletes, TableError> {
    let manifests = table.live_manifests(None).await?;
    let deletes = DeleteIndex::load(table, &manifests.deletes).await?;
    let mut wanted = locations.iter().map(String::as_str).collect::<HashSet<_>>();
    let mut files = Vec::new();
    for file in live_files(table.file_io(), &manifests.data).await? {
        if wanted.remove(file.location()) {
            let deletes = deletes.of(&file)?;
            files.push((file, deletes));
        }
    }
    let Some(location) = wanted.into_iter().min() else { return Ok(files) };
    let table = table.ident();
    let context = format!("{location} is not a live data file of table {table}; plan again");
    Err(TableError::new(TableErrorKind::NotFound, context))
}

impl TableScan {
    /// All rows of a snapshot (current if none given), in the table's current schema.
    pub async fn new(table: &Table, snapshot_id: Option<i64>) -> Result<Self, TableError> {
        let manifests = table.live_manifests(snapshot_id).await?;
        let source = Source::Snapshot { data: manifests.data, deletes: manifests.deletes };
        Ok(Self { layout: ScanLayout::new(table)?, source })
    }

    /// Only the given live data files of the current snapshot, by location.
    pub async fn of_files(table: &Table, locations: &[String]) -> Result<Self, TableError> {
        let source = Source::Chosen(chosen_files(table, locations).await?);
        Ok(Self { layout: ScanLayout::new(table)?, source })
    }

    /// Chosen rows of files that belong to the table, or did.
    pub(crate) fn of_rows(table: &Table, rows: Vec<FileRows>) -> Result<Self, TableError> {
        Ok(Self { layout: ScanLayout::new(table)?, source: Source::Rows(rows) })
    }

    /// Rows, as far as manifests tell: those of files less those known to be deleted by position.
    #[must_use]
    pub fn known_rows(&self) -> u64 {
        match &self.source {
            Source::Chosen(files) => files
                .iter()
                .map(|(file, deletes)| file.data_file().record_count().saturating_sub(deletes.known_rows()))
                .sum(),
            Source::Rows(rows) => rows.iter().map(FileRows::rows).sum(),
            Source::Snapshot { data, .. } => data
                .iter()
                .map(|manifest| {
                    manifest.added_rows_count.unwrap_or(0) + manifest.existing_rows_count.unwrap_or(0)
                })
                .sum(),
        }
    }

    /// All filters as one, over the table's columns.
    pub(crate) fn predicate(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(None) };
        let schema = DFSchema::try_from(SchemaRef::clone(&self.layout.schema))?;
        Ok(Some(state.create_physical_expr(filter, &schema)?))
    }

    /// The files that may hold rows for which `predicate` is true.
    pub(crate) async fn plan_files(
        &self,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<FilesAndDeletes> {
        let layout = &self.layout;
        let (files, deletes) = match &self.source {
            Source::Chosen(files) => return Ok(files.clone()),
            Source::Rows(rows) => {
                (rows.iter().map(|rows| rows.file.clone()).collect(), DeleteIndex::default())
            }
            Source::Snapshot { data, deletes } => {
                let statistics =
                    ManifestStatistics::new(data, &layout.schema, &layout.specs, &layout.iceberg_schema);
                let kept = prune(predicate, &layout.schema, &statistics, data)?;
                let files = live_files(layout.table.file_io(), &kept).await.map_err(external)?;
                (files, DeleteIndex::load(&layout.table, deletes).await.map_err(external)?)
            }
        };
        let statistics = FileStatistics::new(&files, &layout.schema, &layout.specs);
        let files = prune(predicate, &layout.schema, &statistics, &files)?;
        let with_deletes = files.into_iter().map(|file| {
            let deletes = deletes.of(&file)?;
            Ok((file, deletes))
        });
        with_deletes.collect::<Result<_, TableError>>().map_err(external)
    }

    /// Positions of the rows of planned files that are deleted, or not wanted, by the location of their file.
    pub(crate) async fn left_out(
        &self,
        files: &FilesAndDeletes,
    ) -> Result<HashMap<String, Arc<RoaringTreemap>>, TableError> {
        let by_position = files.iter().filter(|(_, deletes)| deletes.by_position());
        let by_position = by_position.map(|(file, deletes)| (file, deletes)).collect::<Vec<_>>();
        let mut left_out = load_deleted_rows(self.layout.table.file_io(), &by_position).await?;
        if let Source::Rows(rows) = &self.source {
            let unwanted = |rows: &FileRows| Some((rows.file.location().to_owned(), rows.left_out.clone()?));
            left_out.extend(rows.iter().filter_map(unwanted));
        }
        Ok(left_out)
    }

    /// A scan of files in one store, with the equality deletes applied where there are any.
    async fn scan_store(
        &self,
        state: &dyn Session,
        request: &ScanRequest<'_>,
        equality: Option<&EqualityScan>,
        files: Vec<PlannedFile>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let file_io = self.layout.table.file_io();
        let (config, runtime) = (state.config(), state.runtime_env());
        let Some(equality) = equality else {
            return scan_files(config, runtime, file_io, request, files).await;
        };
        let requested = match request.projection {
            Some(projection) => projection.clone(),
            None => (0..request.schema.fields().len()).collect(),
        };
        let more = equality.needed.iter().filter(|index| !requested.contains(index));
        let columns = requested.iter().chain(more).copied().collect::<BTreeSet<_>>();
        let columns = columns.into_iter().collect::<Vec<_>>();
        let full = ScanRequest {
            schema: &equality.read_schema,
            hidden: hidden_columns(),
            projection: Some(&columns),
            // A row that is read may still be deleted.
            limit: None,
            ..request.clone()
        };
        let plan = scan_files(config, runtime, file_io, &full, files).await?;
        let filter = equality.filter(&plan.schema())?;
        let output = requested.iter().filter_map(|index| columns.iter().position(|column| column == index));
        let filtered =
            FilterExecBuilder::new(filter, plan).apply_projection(Some(output.collect()))?.build()?;
        Ok(Arc::new(filtered))
    }
}

pub(crate) fn external(error: TableError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait::async_trait]
impl TableProvider for TableScan {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.layout.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters choose files and row groups; rows are filtered again above the scan.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        let (rows, exact) = match &self.source {
            Source::Chosen(files) => {
                let rows = files.iter().map(|(file, _)| file.data_file().record_count()).sum();
                (Some(rows), files.iter().all(|(_, deletes)| deletes.count() == 0))
            }
            Source::Rows(_) => (Some(self.known_rows()), true),
            Source::Snapshot { data, deletes } => {
                let rows = data
                    .iter()
                    .map(|manifest| Some(manifest.added_rows_count? + manifest.existing_rows_count?));
                (rows.sum::<Option<u64>>(), deletes.is_empty())
            }
        };
        let rows = usize::try_from(rows?).ok()?;
        let mut statistics = Statistics::new_unknown(&self.layout.schema);
        statistics.num_rows = if exact { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let layout = &self.layout;
        let predicate = self.predicate(state, filters)?;
        let files = self.plan_files(predicate.as_ref()).await?;
        let deleting: usize = files.iter().map(|(_, deletes)| deletes.count()).sum();
        tracing::debug!(table = %layout.table.ident(), files = files.len(), deleting, "scan planned");
        let request = ScanRequest {
            schema: &layout.schema,
            hidden: Vec::new(),
            columns: &layout.columns,
            specs: &layout.specs,
            predicate,
            projection,
            // Rows are filtered above the scan, so only an unfiltered one may stop early.
            limit: limit.filter(|_| filters.is_empty()),
        };
        let mut deleted = self.left_out(&files).await.map_err(external)?;
        let pool = &state.runtime_env().memory_pool;
        let deletes = files.iter().map(|(_, deletes)| deletes).collect::<Vec<_>>();
        let equality = layout.equality(&layout.schema, &deletes, pool).await?;

        // By store: one root is one store, since a table has one way to reach it.
        let mut groups: HashMap<(&str, bool), Vec<PlannedFile>> = HashMap::new();
        for (file, deletes) in &files {
            let equality = equality.as_ref().filter(|_| !deletes.equality.is_empty());
            let hidden = equality.map(|equality| equality.hidden_values(file)).unwrap_or_default();
            let key = (root(file.location()), equality.is_some());
            let deleted = deleted.remove(file.location());
            let planned = PlannedFile { file: file.clone(), deleted, hidden };
            groups.entry(key).or_default().push(planned);
        }
        let mut plans = Vec::new();
        for ((_, by_equality), files) in groups {
            let equality = equality.as_ref().filter(|_| by_equality);
            plans.push(self.scan_store(state, &request, equality, files).await?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(request.projected_schema()?))),
            1 => Ok(plans.remove(0)),
            _ => UnionExec::try_new(plans),
        }
    }
}

impl fmt::Debug for TableScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableScan").field("table", &self.layout.table).finish_non_exhaustive()
    }
}
