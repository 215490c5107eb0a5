//! The physical scan of chosen files: DataFusion's Parquet source with statistics, split over partitions.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::{
    common::{ColumnStatistics, Statistics, stats::Precision},
    config::TableOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetSource,
            parquet::{
                CachedParquetFileReaderFactory, ParquetFileReaderFactory, metadata::DFParquetMetadata,
            },
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    execution::{cache::cache_manager::FileMetadataCache, runtime_env::RuntimeEnv},
    physical_expr::PhysicalExpr,
    physical_plan::ExecutionPlan,
    prelude::SessionConfig,
    scalar::ScalarValue,
};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{DataFile, DataFileFormat, Literal, PartitionField, PartitionSpec, Transform};
use object_store::{ObjectMeta, ObjectStore};
use roaring::RoaringTreemap;

use super::{
    bounds::{column_bounds, scalar},
    columns::FieldIdAdapterFactory,
    external,
};
use crate::{
    FileIo, TableError, deletes::access_plan, file_io::Location, manifests::LiveFile, schema::field_id,
};

/// Bytes read from a file's end at first; most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;

/// Footers read at once.
const PARALLEL_READS: usize = 16;

/// What of the files is wanted.
#[derive(Clone)]
pub(crate) struct ScanRequest<'a> {
    /// The columns that files are read as.
    pub(crate) schema: &'a SchemaRef,
    /// Columns behind those, constant within each file.
    pub(crate) hidden: Vec<FieldRef>,
    pub(crate) columns: &'a Arc<FieldIdAdapterFactory>,
    pub(crate) specs: &'a BTreeMap<i32, PartitionSpec>,
    pub(crate) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Indexes of columns, hidden ones last; absent for all but the hidden.
    pub(crate) projection: Option<&'a Vec<usize>>,
    pub(crate) limit: Option<usize>,
}

/// A file to read.
pub(crate) struct PlannedFile {
    pub(crate) file: LiveFile,
    /// Positions of rows to leave out.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
    /// Values of the hidden columns.
    pub(crate) hidden: Vec<ScalarValue>,
}

impl ScanRequest<'_> {
    pub(super) fn projected_schema(&self) -> Result<SchemaRef> {
        match self.projection {
            None => Ok(SchemaRef::clone(self.schema)),
            Some(projection) => Ok(Arc::new(self.schema.project(projection)?)),
        }
    }
}

impl PlannedFile {
    fn data_file(&self) -> &DataFile {
        self.file.data_file()
    }

    /// Bytes of the file that so many of its rows take, if all take as many.
    pub(crate) fn bytes_of(&self, rows: usize) -> u64 {
        let (bytes, all) = (self.data_file().file_size_in_bytes(), self.data_file().record_count().max(1));
        u64::try_from(u128::from(bytes) * rows as u128 / u128::from(all)).unwrap_or(bytes)
    }

    /// Bytes of the file that are read for so many of the rows that are left.
    pub(crate) fn bytes_read_for(&self, rows: usize) -> u64 {
        let (bytes, left) = (self.data_file().file_size_in_bytes(), self.rows().max(1));
        u64::try_from(u128::from(bytes) * rows as u128 / u128::from(left)).unwrap_or(bytes)
    }

    /// Rows that are left.
    pub(crate) fn rows(&self) -> u64 {
        let rows = self.data_file().record_count();
        rows - self.deleted.as_ref().map_or(0, |deleted| deleted.range_cardinality(..rows))
    }
}

/// Scans files that lie in one store.
pub(crate) async fn scan_files(
    config: &SessionConfig,
    runtime: &RuntimeEnv,
    file_io: &FileIo,
    request: &ScanRequest<'_>,
    files: Vec<PlannedFile>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(first) = files.first() else {
        return Err(DataFusionError::Internal("a scan of no files".to_owned()));
    };
    let store = file_io.resolve(first.file.location()).map_err(external)?;
    runtime.register_object_store(store.url.as_ref(), Arc::clone(&store.store));
    let footers = runtime.cache_manager.get_file_metadata_cache();

    let table_schema = TableSchema::new(SchemaRef::clone(request.schema), request.hidden.clone());
    let mut total = Statistics::new_unknown(table_schema.table_schema());
    total.num_rows = Precision::Exact(0);
    total.total_byte_size = Precision::Inexact(0);
    let (mut whole, mut reads) = (Vec::with_capacity(files.len()), Vec::new());
    for file in &files {
        let statistics = Arc::new(file_statistics(file, request));
        total.num_rows = total.num_rows.add(&statistics.num_rows);
        total.total_byte_size = total.total_byte_size.add(&statistics.total_byte_size);
        let partitioned = partitioned_file(file.data_file())?
            .with_partition_values(file.hidden.clone())
            .with_statistics(statistics);
        match &file.deleted {
            None => whole.push(partitioned),
            Some(deleted) => {
                let footer = Footer { store: Arc::clone(&store.store), cache: Arc::clone(&footers) };
                reads.push(footer.without_rows(partitioned, Arc::clone(deleted)));
            }
        }
    }
    let mut partitioned = stream::iter(reads).buffered(PARALLEL_READS).try_collect::<Vec<_>>().await?;
    partitioned.append(&mut whole);
    // Largest first, so that the groups come out even.
    partitioned.sort_by_key(|file| std::cmp::Reverse(file.object_meta.size));
    let groups = even_groups(partitioned, config.target_partitions());

    let readers = CachedParquetFileReaderFactory::new(Arc::clone(&store.store), footers);
    let options = TableOptions::default_from_session_config(config.options()).parquet;
    let mut source = ParquetSource::new(table_schema)
        .with_table_parquet_options(options)
        .with_metadata_size_hint(FOOTER_HINT_BYTES)
        .with_parquet_file_reader_factory(Arc::new(readers) as Arc<dyn ParquetFileReaderFactory>);
    if let Some(predicate) = &request.predicate {
        source = source.with_predicate(Arc::clone(predicate));
    }
    let config = FileScanConfigBuilder::new(store.url, Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(total)
        .with_projection_indices(request.projection.cloned())?
        .with_limit(request.limit)
        .with_expr_adapter(Some(Arc::new(
            request.columns.with_nan_columns(nan_columns(request.schema, &files)),
        )))
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// Where a file's footer is read from.
struct Footer {
    store: Arc<dyn ObjectStore>,
    cache: Arc<dyn FileMetadataCache>,
}

impl Footer {
    /// The file without some rows. Which row group they are in is known to the footer alone.
    async fn without_rows(
        self,
        file: PartitionedFile,
        deleted: Arc<RoaringTreemap>,
    ) -> Result<PartitionedFile> {
        let parquet = DFParquetMetadata::new(self.store.as_ref(), &file.object_meta)
            .with_metadata_size_hint(Some(FOOTER_HINT_BYTES))
            .with_file_metadata_cache(Some(self.cache))
            .fetch_metadata()
            .await?;
        Ok(file.with_extension(access_plan(&parquet, &deleted)))
    }
}

/// Columns of floating point numbers of which some file may hold NaN.
fn nan_columns(schema: &SchemaRef, files: &[PlannedFile]) -> HashSet<i32> {
    let floats = schema.fields().iter().filter(|field| field.data_type().is_floating());
    let has_none = |file: &PlannedFile, id: i32| file.data_file().nan_value_counts().get(&id) == Some(&0);
    floats
        .filter_map(|field| field_id(field))
        .filter(|id| !files.iter().all(|file| has_none(file, *id)))
        .collect()
}

fn partitioned_file(file: &DataFile) -> Result<PartitionedFile> {
    let location = file.file_path();
    if file.file_format() != DataFileFormat::Parquet {
        let format = file.file_format();
        return Err(external(TableError::unsupported(format!(
            "{location} is {format}; Firn reads Parquet only"
        ))));
    }
    let path = Location::parse(location).and_then(|location| location.path()).map_err(external)?;
    Ok(PartitionedFile::new_from_meta(ObjectMeta {
        location: path,
        // Data files never change, so their age says nothing.
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: file.file_size_in_bytes(),
        e_tag: None,
        version: None,
    }))
}

/// Spreads files, largest first, each to the group with the fewest bytes.
fn even_groups(files: Vec<PartitionedFile>, wanted: usize) -> Vec<FileGroup> {
    let mut groups = vec![(0u64, Vec::new()); wanted.clamp(1, files.len().max(1))];
    for file in files {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.object_meta.size;
            group.push(file);
        }
    }
    groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

fn file_statistics(planned: &PlannedFile, request: &ScanRequest<'_>) -> Statistics {
    let file = planned.data_file();
    let count = |count: u64| usize::try_from(count).map_or(Precision::Absent, Precision::Exact);
    let rows = count(planned.rows());
    let constants = identity_values(&planned.file, request);
    let columns = request.schema.fields().iter().map(|field| {
        let mut column = ColumnStatistics::new_unknown();
        let Some(id) = field_id(field) else { return column };
        if let Some(constant) = constants.get(&id) {
            // DataFusion puts constants in the place of such columns, which files of Hive tables lack (specification,
            // "Column Projection").
            column.null_count = if constant.is_null() { rows } else { Precision::Exact(0) };
            column.min_value = Precision::Exact(constant.clone());
            column.max_value = Precision::Exact(constant.clone());
            return column;
        }
        if let Some(nulls) = file.null_value_counts().get(&id).filter(|_| !field.data_type().is_nested()) {
            // Some of the nulls may be among the deleted rows.
            column.null_count =
                if planned.deleted.is_some() { count(*nulls).to_inexact() } else { count(*nulls) };
        }
        // Bounds may be wider than the values, texts are cut off.
        let (lower, upper) = column_bounds(file, id, field.data_type());
        column.min_value = lower.map_or(Precision::Absent, Precision::Inexact);
        column.max_value = upper.map_or(Precision::Absent, Precision::Inexact);
        column
    });
    Statistics {
        num_rows: rows,
        total_byte_size: count(file.file_size_in_bytes()).to_inexact(),
        column_statistics: columns.collect(),
    }
}

/// Values of columns by which a file is partitioned as they are.
fn identity_values(file: &LiveFile, request: &ScanRequest<'_>) -> HashMap<i32, ScalarValue> {
    let fields = request.specs.get(&file.spec_id).map_or(&[][..], |spec| spec.fields());
    let values = fields.iter().zip(file.data_file().partition().iter());
    let identities = values.filter(|(field, _)| field.transform == Transform::Identity);
    let constant = |(field, value): (&PartitionField, Option<&Literal>)| {
        let columns = request.schema.fields();
        let column = columns.iter().find(|column| field_id(column) == Some(field.source_id))?;
        let value = match value {
            None => ScalarValue::try_from(column.data_type()).ok()?,
            Some(value) => scalar(&value.as_primitive_literal()?, column.data_type())?,
        };
        Some((field.source_id, value))
    };
    identities.filter_map(constant).collect()
}
