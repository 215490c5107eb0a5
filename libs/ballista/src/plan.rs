//! What executors are told to do: read a part of the files each, and sort it.

use std::{cmp::Reverse, sync::Arc};

use datafusion::{
    arrow::compute::SortOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column},
    physical_plan::{ExecutionPlan, sorts::sort::SortExec},
};
use firn_table::{SortColumn, SortJob};
use object_store::{ObjectMeta, path::Path};

/// Bytes of files that one task sorts.
const RUN_BYTES: u64 = 256 << 20;
/// Tasks at least, so that several executors have some.
const MIN_RUNS: u64 = 8;
/// Tasks at most: what each sorted is read over a connection of its own.
const MAX_RUNS: u64 = 64;

/// Sorts the files in parts, each a partition of the plan.
pub(crate) fn sorted_runs(job: &SortJob) -> Result<Arc<dyn ExecutionPlan>> {
    let source = ParquetSource::new(TableSchema::new(Arc::clone(&job.schema), Vec::new()));
    let scan = FileScanConfigBuilder::new(job.store.clone(), Arc::new(source))
        .with_file_groups(parts(&job.files))
        .build();
    let order = order(&job.by, &job.schema)?;
    let sort = SortExec::new(order, DataSourceExec::from_data_source(scan)).with_preserve_partitioning(true);
    Ok(Arc::new(sort))
}

/// The order as DataFusion has it, of rows with these columns.
pub(crate) fn order(by: &[SortColumn], schema: &datafusion::arrow::datatypes::Schema) -> Result<LexOrdering> {
    let column = |column: &SortColumn| -> Result<PhysicalSortExpr> {
        let options = SortOptions { descending: column.descending, nulls_first: column.nulls_first };
        let index = schema.index_of(&column.name)?;
        Ok(PhysicalSortExpr::new(Arc::new(Column::new(&column.name, index)), options))
    };
    let columns = by.iter().map(column).collect::<Result<Vec<_>>>()?;
    LexOrdering::new(columns).ok_or_else(|| DataFusionError::Plan("rows are sorted by no column".to_owned()))
}

/// A file by its path as it is: made of a text it would be escaped once more.
fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
}

/// The files in parts of about as many bytes.
fn parts(files: &[(Path, u64)]) -> Vec<FileGroup> {
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let runs = bytes.div_ceil(RUN_BYTES).clamp(MIN_RUNS, MAX_RUNS);
    let runs = usize::try_from(runs).unwrap_or(1).clamp(1, files.len().max(1));
    let mut files = files.to_vec();
    files.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let mut parts = vec![(0, Vec::new()); runs];
    for (path, bytes) in files {
        if let Some((total, part)) = parts.iter_mut().min_by_key(|(total, _)| *total) {
            *total += bytes;
            part.push(PartitionedFile::from(meta(path, bytes)));
        }
    }
    parts.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn paths_stay_as_they_are() {
        let path = Path::parse("t/day=a%2Fb/~x.parquet").unwrap();
        let parts = parts(&[(path.clone(), 1)]);
        assert_eq!(parts[0].iter().next().unwrap().object_meta.location, path);
    }

    #[test]
    fn parts_are_even_and_neither_few_nor_many() {
        let files = |count: usize, bytes: u64| {
            (0..count).map(|number| (Path::from(format!("f{number}")), bytes)).collect::<Vec<_>>()
        };
        let sizes = |files: &[(Path, u64)]| {
            let bytes = |part: &FileGroup| part.iter().map(|file| file.object_meta.size).sum::<u64>();
            let sizes = parts(files).iter().map(bytes).collect::<Vec<_>>();
            (sizes.len(), sizes.iter().min().copied(), sizes.iter().max().copied())
        };
        assert_eq!(sizes(&files(3, 10)), (3, Some(10), Some(10)), "no part without a file");
        assert_eq!(sizes(&files(16, 10)), (8, Some(20), Some(20)));
        assert_eq!(sizes(&files(40, RUN_BYTES / 2)), (20, Some(RUN_BYTES), Some(RUN_BYTES)));
        assert_eq!(sizes(&files(640, RUN_BYTES)), (64, Some(10 * RUN_BYTES), Some(10 * RUN_BYTES)));
    }
}
