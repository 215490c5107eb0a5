//! The physical scan of chosen files: DataFusion's Parquet source with statistics, split over partitions.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    catalog::Session,
    common::{ColumnStatistics, Statistics, stats::Precision},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetSource,
            parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory},
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    physical_expr::PhysicalExpr,
    physical_plan::ExecutionPlan,
};
use iceberg::spec::{DataFile, DataFileFormat};
use object_store::ObjectMeta;

use super::{LiveFile, bounds::column_bounds, columns::FieldIdAdapterFactory, external};
use crate::{FileIo, TableError, schema::field_id};

/// Bytes read from a file's end at first; most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;

/// What of the files is wanted.
pub(super) struct ScanRequest<'a> {
    pub(super) schema: &'a SchemaRef,
    pub(super) columns: &'a Arc<FieldIdAdapterFactory>,
    pub(super) predicate: Option<Arc<dyn PhysicalExpr>>,
    pub(super) projection: Option<&'a Vec<usize>>,
    pub(super) limit: Option<usize>,
}

impl ScanRequest<'_> {
    pub(super) fn projected_schema(&self) -> Result<SchemaRef> {
        match self.projection {
            None => Ok(SchemaRef::clone(self.schema)),
            Some(projection) => Ok(Arc::new(self.schema.project(projection)?)),
        }
    }
}

/// Scans files that lie in one store.
pub(super) fn scan_files(
    state: &dyn Session,
    file_io: &FileIo,
    request: &ScanRequest<'_>,
    files: Vec<LiveFile>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(first) = files.first() else {
        return Err(DataFusionError::Internal("a scan of no files".to_owned()));
    };
    let store = file_io.resolve(first.entry.file_path()).map_err(external)?;
    let runtime = state.runtime_env();
    runtime.register_object_store(store.url.as_ref(), Arc::clone(&store.store));
    let footers = runtime.cache_manager.get_file_metadata_cache();
    let readers = CachedParquetFileReaderFactory::new(Arc::clone(&store.store), footers);

    let mut total = Statistics::new_unknown(request.schema);
    total.num_rows = Precision::Exact(0);
    total.total_byte_size = Precision::Inexact(0);
    let mut partitioned = Vec::with_capacity(files.len());
    for file in &files {
        let data_file = &file.entry.data_file;
        let statistics = Arc::new(file_statistics(data_file, request.schema));
        total.num_rows = total.num_rows.add(&statistics.num_rows);
        total.total_byte_size = total.total_byte_size.add(&statistics.total_byte_size);
        partitioned.push(partitioned_file(file_io, data_file)?.with_statistics(statistics));
    }
    // Largest first, so that the groups come out even.
    partitioned.sort_by_key(|file| std::cmp::Reverse(file.object_meta.size));
    let groups = even_groups(partitioned, state.config().target_partitions());

    let options = state.default_table_options().parquet;
    let mut source = ParquetSource::new(TableSchema::from_file_schema(SchemaRef::clone(request.schema)))
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

/// Columns of floating point numbers of which some file may hold NaN.
fn nan_columns(schema: &SchemaRef, files: &[LiveFile]) -> HashSet<i32> {
    let floats = schema.fields().iter().filter(|field| field.data_type().is_floating());
    let has_none = |file: &LiveFile, id: i32| file.entry.data_file.nan_value_counts().get(&id) == Some(&0);
    floats
        .filter_map(|field| field_id(field))
        .filter(|id| !files.iter().all(|file| has_none(file, *id)))
        .collect()
}

fn partitioned_file(file_io: &FileIo, file: &DataFile) -> Result<PartitionedFile> {
    let location = file.file_path();
    if file.file_format() != DataFileFormat::Parquet {
        let format = file.file_format();
        return Err(external(TableError::unsupported(format!(
            "{location} is {format}; Firn reads Parquet only"
        ))));
    }
    let path = file_io.resolve(location).map_err(external)?.path;
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

fn file_statistics(file: &DataFile, schema: &SchemaRef) -> Statistics {
    let count = |count: u64| usize::try_from(count).map_or(Precision::Absent, Precision::Exact);
    let columns = schema.fields().iter().map(|field| {
        let mut column = ColumnStatistics::new_unknown();
        let Some(id) = field_id(field) else { return column };
        if let Some(nulls) = file.null_value_counts().get(&id).filter(|_| !field.data_type().is_nested()) {
            column.null_count = count(*nulls);
        }
        // Bounds may be wider than the values, texts are cut off.
        let (lower, upper) = column_bounds(file, id, field.data_type());
        column.min_value = lower.map_or(Precision::Absent, Precision::Inexact);
        column.max_value = upper.map_or(Precision::Absent, Precision::Inexact);
        column
    });
    Statistics {
        num_rows: count(file.record_count()),
        total_byte_size: count(file.file_size_in_bytes()).to_inexact(),
        column_statistics: columns.collect(),
    }
}
