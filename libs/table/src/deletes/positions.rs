//! Rows deleted by position: reading position delete files and deletion vectors, and leaving the rows out of a scan.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use bytes::Bytes;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use futures::{StreamExt, TryStreamExt};
use iceberg::{
    metadata_columns::{RESERVED_FIELD_ID_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_POS},
    spec::DataFileFormat,
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector},
    },
    file::metadata::ParquetMetaData,
};
use roaring::RoaringTreemap;

use super::{FileDeletes, vector};
use crate::{FileIo, TableError, TableErrorKind, manifests::LiveFile, schema::field_id};

/// Delete files read at once.
const PARALLEL_READS: usize = 8;

pub(crate) type PositionsByFile = HashMap<String, RoaringTreemap>;

/// Deleted positions by data file; files without any are absent. Each delete file is read once.
pub(crate) async fn load_deleted_rows(
    file_io: &FileIo,
    files: &[(&LiveFile, &FileDeletes)],
) -> Result<HashMap<String, Arc<RoaringTreemap>>, TableError> {
    let mut jobs: BTreeMap<(String, Option<i64>), (LiveFile, HashSet<String>)> = BTreeMap::new();
    for (file, deletes) in files {
        for delete in deletes.vector.iter().chain(&deletes.positions) {
            let key = (delete.location().to_owned(), delete.data_file().content_offset());
            let (_, paths) = jobs.entry(key).or_insert_with(|| (delete.clone(), HashSet::new()));
            paths.insert(file.location().to_owned());
        }
    }
    let load = |(delete, paths): (LiveFile, HashSet<String>)| {
        let file_io = file_io.clone();
        async move { load(&file_io, &delete, paths).await }
    };
    let jobs = jobs.into_values().map(load).collect::<Vec<_>>();
    let loaded: Vec<PositionsByFile> =
        futures::stream::iter(jobs).buffered(PARALLEL_READS).try_collect().await?;
    let mut merged = PositionsByFile::new();
    for (path, positions) in loaded.into_iter().flatten().filter(|(_, positions)| !positions.is_empty()) {
        *merged.entry(path).or_default() |= positions;
    }
    Ok(merged.into_iter().map(|(path, positions)| (path, Arc::new(positions))).collect())
}

async fn load(
    file_io: &FileIo,
    delete: &LiveFile,
    paths: HashSet<String>,
) -> Result<PositionsByFile, TableError> {
    let location = delete.location().to_owned();
    if delete.data_file().key_metadata().is_some() {
        return Err(TableError::unsupported(format!("delete file {location} is encrypted")));
    }
    match delete.data_file().file_format() {
        DataFileFormat::Puffin => {
            let positions = load_vector(file_io, delete).await?;
            Ok(paths.into_iter().map(|path| (path, positions.clone())).collect())
        }
        DataFileFormat::Parquet => {
            let bytes = file_io.read(&location).await?;
            let read =
                tokio::task::spawn_blocking(move || read_positions(bytes, |path| paths.contains(path))).await;
            read.map_err(|error| unreadable(&location, error))?.map_err(|error| unreadable(&location, error))
        }
        format => Err(TableError::unsupported(format!(
            "delete file {location} is {format}; Firn reads Parquet and Puffin only"
        ))),
    }
}

/// All that a position delete file or a deletion vector deletes, by data file.
pub(crate) async fn load_positions(
    file_io: &FileIo,
    delete: &LiveFile,
) -> Result<PositionsByFile, TableError> {
    let location = delete.location().to_owned();
    if let Some(path) = delete.data_file().referenced_data_file() {
        return load(file_io, delete, HashSet::from([path])).await;
    }
    if delete.data_file().key_metadata().is_some() {
        return Err(TableError::unsupported(format!("delete file {location} is encrypted")));
    }
    let bytes = file_io.read(&location).await?;
    let read = tokio::task::spawn_blocking(move || read_positions(bytes, |_| true)).await;
    read.map_err(|error| unreadable(&location, error))?.map_err(|error| unreadable(&location, error))
}

async fn load_vector(file_io: &FileIo, delete: &LiveFile) -> Result<RoaringTreemap, TableError> {
    let (file, location) = (delete.data_file(), delete.location());
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let (Some(offset), Some(size)) = (number(file.content_offset()), number(file.content_size_in_bytes()))
    else {
        return Err(unreadable(location, "its manifest entry doesn't say where the deletion vector is"));
    };
    let blob = file_io.read_range(location, offset..offset.saturating_add(size)).await?;
    let positions = vector::decode(&blob).map_err(|reason| {
        unreadable(location, format!("the deletion vector at byte {offset} can't be used: {reason}"))
    })?;
    if positions.len() != file.record_count() {
        let (found, expected) = (positions.len(), file.record_count());
        let reason = format!("the deletion vector at byte {offset} has {found} positions, not {expected}");
        return Err(unreadable(location, reason));
    }
    Ok(positions)
}

/// Positions of the wanted data files in a position delete file.
fn read_positions(
    bytes: Bytes,
    wanted: impl Fn(&str) -> bool,
) -> Result<PositionsByFile, Box<dyn std::error::Error + Send + Sync>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let schema = Arc::clone(builder.schema());
    let column = |id: i32, name: &str| {
        let is_it =
            |field: &Arc<arrow::datatypes::Field>| field_id(field) == Some(id) || field.name() == name;
        schema.fields().iter().position(is_it).ok_or_else(|| format!("it has no column '{name}'"))
    };
    let path_index = column(RESERVED_FIELD_ID_DELETE_FILE_PATH, "file_path")?;
    let position_index = column(RESERVED_FIELD_ID_DELETE_FILE_POS, "pos")?;
    let (first, second) = if path_index < position_index { (0, 1) } else { (1, 0) };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [path_index, position_index]);
    let mut found = PositionsByFile::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let paths = cast(batch.column(first), &DataType::Utf8)?;
        let positions = cast(batch.column(second), &DataType::Int64)?;
        let (paths, positions) = (paths.as_string::<i32>(), positions.as_primitive::<Int64Type>());
        if paths.null_count() + positions.null_count() > 0 {
            return Err("a path or position in it is null".into());
        }
        let mut row = 0;
        while row < batch.num_rows() {
            // Rows are sorted by path, so that one look-up serves many.
            let path = paths.value(row);
            let end =
                (row..batch.num_rows()).find(|next| paths.value(*next) != path).unwrap_or(batch.num_rows());
            if wanted(path) {
                let deleted = found.entry(path.to_owned()).or_default();
                for position in &positions.values()[row..end] {
                    deleted.insert(
                        u64::try_from(*position)
                            .map_err(|_| format!("position {position} in it is negative"))?,
                    );
                }
            }
            row = end;
        }
    }
    Ok(found)
}

fn unreadable(location: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
    TableError::caused(TableErrorKind::Storage, format!("delete file {location} cannot be read"), error)
}

/// Positions of the rows of one file, in its order, that are not deleted.
pub(crate) struct LivePositions {
    deleted: Option<Arc<RoaringTreemap>>,
    next: u64,
}

impl LivePositions {
    pub(crate) fn new(deleted: Option<Arc<RoaringTreemap>>) -> Self {
        Self { deleted, next: 0 }
    }

    /// Position of the next row.
    pub(crate) fn take(&mut self) -> u64 {
        while self.deleted.as_ref().is_some_and(|deleted| deleted.contains(self.next)) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

/// What to read of a Parquet file when the rows at some positions are to be left out.
pub(crate) fn access_plan(parquet: &ParquetMetaData, deleted: &RoaringTreemap) -> ParquetAccessPlan {
    let mut plan = ParquetAccessPlan::new_all(parquet.num_row_groups());
    let mut positions = deleted.iter().peekable();
    let mut start = 0;
    for (index, group) in parquet.row_groups().iter().enumerate() {
        let end = start + u64::try_from(group.num_rows()).unwrap_or_default();
        let mut selectors = Vec::new();
        let (mut next, mut skipped) = (start, 0);
        while let Some(position) = positions.next_if(|position| *position < end) {
            select(&mut selectors, position - next, false);
            select(&mut selectors, 1, true);
            (next, skipped) = (position + 1, skipped + 1);
        }
        select(&mut selectors, end - next, false);
        if skipped == end - start {
            plan.skip(index);
        } else if skipped > 0 {
            plan.scan_selection(index, RowSelection::from(selectors));
        }
        start = end;
    }
    plan
}

fn select(selectors: &mut Vec<RowSelector>, rows: u64, skip: bool) {
    let row_count = usize::try_from(rows).unwrap_or(usize::MAX);
    match selectors.last_mut() {
        _ if row_count == 0 => {}
        Some(last) if last.skip == skip => last.row_count += row_count,
        _ => selectors.push(RowSelector { row_count, skip }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{Int64Array, RecordBatch};
    use datafusion::datasource::physical_plan::parquet::RowGroupAccess;
    use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

    use super::*;

    /// Row groups of 4 rows.
    fn parquet(rows: i64) -> Arc<ParquetMetaData> {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..rows)) as _)])
            .unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        Arc::clone(ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().metadata())
    }

    #[test]
    fn row_groups_are_read_skipped_or_read_in_part() {
        let deleted = [0, 1, 2, 3, 5, 6, 11].into_iter().collect::<RoaringTreemap>();
        let plan = access_plan(&parquet(14), &deleted);
        let selection = |selectors: &[(usize, bool)]| {
            let selectors =
                selectors.iter().map(|(row_count, skip)| RowSelector { row_count: *row_count, skip: *skip });
            RowGroupAccess::Selection(RowSelection::from(selectors.collect::<Vec<_>>()))
        };
        let expected = [
            RowGroupAccess::Skip,
            selection(&[(1, false), (2, true), (1, false)]),
            selection(&[(3, false), (1, true)]),
            RowGroupAccess::Scan,
        ];
        assert_eq!(plan.inner(), &expected);
    }
}
