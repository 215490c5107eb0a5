//! A DataFusion table provider over one snapshot, or over chosen files of it.

mod bounds;
mod columns;
mod partition_bounds;
mod plan;
mod prune;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
    physical_plan::{ExecutionPlan, Statistics, empty::EmptyExec, union::UnionExec},
};
use iceberg::spec::{ManifestEntryRef, ManifestFile, PartitionSpec, SchemaRef as IcebergSchemaRef};

use crate::{Table, TableError, TableErrorKind, manifests};
use columns::FieldIdAdapterFactory;
use prune::{FileStatistics, ManifestStatistics, prune};

/// Plans its own scans: manifest, partition and metrics pruning, parallel by files and row groups, columns by field id.
pub struct TableScan {
    table: Table,
    schema: SchemaRef,
    iceberg_schema: IcebergSchemaRef,
    specs: BTreeMap<i32, PartitionSpec>,
    columns: Arc<FieldIdAdapterFactory>,
    source: Source,
}

/// What is to be read before any filter.
enum Source {
    Manifests(Vec<ManifestFile>),
    Files(Vec<LiveFile>),
}

/// A live data file with the partition spec that it was written with.
#[derive(Clone)]
pub(crate) struct LiveFile {
    pub(crate) spec_id: i32,
    pub(crate) entry: ManifestEntryRef,
}

impl TableScan {
    /// All rows of a snapshot (current if none given), in the table's current schema.
    pub async fn new(table: &Table, snapshot_id: Option<i64>) -> Result<Self, TableError> {
        let manifests = table.data_manifests(snapshot_id).await?;
        let live = manifests
            .into_iter()
            .filter(|manifest| manifest.has_added_files() || manifest.has_existing_files());
        Self::over(table, Source::Manifests(live.collect()))
    }

    /// Only the given live data files of the current snapshot, by location.
    pub async fn of_files(table: &Table, locations: &[String]) -> Result<Self, TableError> {
        let mut wanted = locations.iter().map(String::as_str).collect::<HashSet<_>>();
        let manifests = table.data_manifests(None).await?;
        let mut files = live_files(table, &manifests).await?;
        files.retain(|file| wanted.remove(file.entry.file_path()));
        if let Some(location) = wanted.into_iter().min() {
            let table = table.ident();
            let context = format!("{location} is not a live data file of table {table}; plan again");
            return Err(TableError::new(TableErrorKind::NotFound, context));
        }
        Self::of_live_files(table, files)
    }

    pub(crate) fn of_live_files(table: &Table, files: Vec<LiveFile>) -> Result<Self, TableError> {
        Self::over(table, Source::Files(files))
    }

    fn over(table: &Table, source: Source) -> Result<Self, TableError> {
        let iceberg_schema = table.iceberg_schema()?;
        Ok(Self {
            table: table.clone(),
            schema: table.arrow_schema()?,
            specs: table.partition_specs()?,
            columns: Arc::new(FieldIdAdapterFactory::new(&iceberg_schema)),
            iceberg_schema,
            source,
        })
    }

    /// The files that may hold rows for which `predicate` is true.
    async fn plan_files(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> DataFusionResult<Vec<LiveFile>> {
        let files = match &self.source {
            Source::Files(files) => files.clone(),
            Source::Manifests(manifests) => {
                let statistics =
                    ManifestStatistics::new(manifests, &self.schema, &self.specs, &self.iceberg_schema);
                let kept = prune(predicate, &self.schema, &statistics, manifests)?;
                live_files(&self.table, &kept).await.map_err(external)?
            }
        };
        let statistics = FileStatistics::new(&files, &self.schema, &self.specs);
        prune(predicate, &self.schema, &statistics, &files)
    }
}

async fn live_files(table: &Table, manifests: &[ManifestFile]) -> Result<Vec<LiveFile>, TableError> {
    let contents = manifests::load_manifests(table.file_io(), manifests).await?;
    let mut files = Vec::new();
    for (manifest, entries) in manifests.iter().zip(contents) {
        let live = entries.iter().filter(|entry| entry.is_alive());
        let spec_id = manifest.partition_spec_id;
        files.extend(live.map(|entry| LiveFile { spec_id, entry: ManifestEntryRef::clone(entry) }));
    }
    Ok(files)
}

fn external(error: TableError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait::async_trait]
impl TableProvider for TableScan {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
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
        let rows = match &self.source {
            Source::Files(files) => Some(files.iter().map(|file| file.entry.record_count()).sum()),
            Source::Manifests(manifests) => manifests
                .iter()
                .map(|manifest| Some(manifest.added_rows_count? + manifest.existing_rows_count?))
                .sum::<Option<u64>>(),
        };
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(usize::try_from(rows?).ok()?);
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let predicate = match conjunction(filters.to_vec()) {
            None => None,
            Some(filter) => {
                let schema = DFSchema::try_from(SchemaRef::clone(&self.schema))?;
                Some(state.create_physical_expr(filter, &schema)?)
            }
        };
        let files = self.plan_files(predicate.as_ref()).await?;
        tracing::debug!(table = %self.table.ident(), files = files.len(), "scan planned");
        let request = plan::ScanRequest {
            schema: &self.schema,
            columns: &self.columns,
            predicate,
            projection,
            // Rows are filtered above the scan, so only an unfiltered one may stop early.
            limit: limit.filter(|_| filters.is_empty()),
        };
        let mut by_store: HashMap<String, Vec<LiveFile>> = HashMap::new();
        for file in files {
            let store = self.table.file_io().resolve(file.entry.file_path()).map_err(external)?;
            by_store.entry(store.url.as_str().to_owned()).or_default().push(file);
        }
        let mut plans = Vec::new();
        for files in by_store.into_values() {
            plans.push(plan::scan_files(state, self.table.file_io(), &request, files)?);
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
        f.debug_struct("TableScan").field("table", &self.table).finish_non_exhaustive()
    }
}
