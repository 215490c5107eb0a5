//! What row groups must be like to be copied: as if Firn had just written them, and large enough.

use std::ops::Range;

use arrow::datatypes::Schema;
use iceberg::spec::DataFileFormat;
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::{ColumnOrder, Compression, LogicalType, Type as PhysicalType},
    file::metadata::{ColumnChunkMetaData, RowGroupMetaData},
    schema::types::ColumnDescriptor,
};

use super::Source;
use crate::{
    Table, TableError, TableErrorKind, manifests::LiveFile, rewrite::lineage::LINEAGE_IDS, write::chunk_range,
};

/// Bytes of a Parquet file's end at the least: length of the footer and magic number.
const TAIL_BYTES: u64 = 8;

/// What is asked of a file.
pub(in crate::rewrite) struct Standard {
    spec_id: i32,
    columns: Vec<Leaf>,
    min_row_group_bytes: u64,
    /// One column of one row group is held in memory at a time.
    max_chunk_bytes: u64,
}

/// A column of Parquet, whatever it and the groups around it are called.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rewrite) struct Leaf {
    id: Option<i32>,
    physical: PhysicalType,
    logical: Option<LogicalType>,
    length: i32,
    levels: (i16, i16),
}

impl Leaf {
    pub(in crate::rewrite) fn new(column: &ColumnDescriptor) -> Self {
        let info = column.self_type().get_basic_info();
        Self {
            id: info.has_id().then(|| info.id()),
            physical: column.physical_type(),
            logical: column.logical_type_ref().cloned(),
            length: column.type_length(),
            levels: (column.max_def_level(), column.max_rep_level()),
        }
    }
}

impl Standard {
    /// For files as they would be written now, of row groups of `min_row_group_bytes` on average.
    pub(in crate::rewrite) fn new(
        table: &Table,
        schema: &Schema,
        min_row_group_bytes: u64,
        max_chunk_bytes: usize,
    ) -> Result<Self, TableError> {
        let parquet = ArrowSchemaConverter::new().convert(schema).map_err(|error| {
            let context = format!("the schema of table {} has no form in Parquet", table.ident());
            TableError::caused(TableErrorKind::Unsupported, context, error)
        })?;
        Ok(Self {
            spec_id: table.default_partition_spec()?.spec_id(),
            columns: parquet.columns().iter().map(|column| Leaf::new(column)).collect(),
            min_row_group_bytes,
            max_chunk_bytes: max_chunk_bytes as u64,
        })
    }

    /// Whether it is worth to read the file's footer.
    pub(super) fn may_be_met_by(&self, file: &LiveFile) -> bool {
        let data_file = file.data_file();
        data_file.file_format() == DataFileFormat::Parquet
            && file.spec_id == self.spec_id
            && data_file.file_size_in_bytes() >= self.min_row_group_bytes
    }

    /// Why the file's row groups can't be copied.
    pub(super) fn fault_of(&self, source: &Source) -> Option<&'static str> {
        let (file, footer) = (source.file.data_file(), &source.footer);
        let columns = footer.file_metadata().schema_descr().columns();
        if !columns.iter().map(|column| Leaf::new(column)).eq(self.columns.iter().cloned()) {
            return Some("its columns are others than the table's");
        }
        let rows: i64 = footer.row_groups().iter().map(RowGroupMetaData::num_rows).sum();
        if u64::try_from(rows) != Ok(file.record_count()) || rows != footer.file_metadata().num_rows() {
            return Some("it has other rows than its manifest says");
        }
        if footer.offset_index().is_none() || footer.column_index().is_none() {
            return Some("it has no page index");
        }
        let orders = footer.file_metadata().column_orders();
        if !orders.is_some_and(|orders| orders.iter().all(|order| !matches!(order, ColumnOrder::UNDEFINED))) {
            return Some("its statistics have no order");
        }
        let groups = footer.row_groups();
        let bytes: i64 = groups.iter().map(RowGroupMetaData::compressed_size).sum();
        let wanted = (groups.len() as u64).saturating_mul(self.min_row_group_bytes);
        if groups.is_empty() || u64::try_from(bytes).unwrap_or_default() < wanted {
            return Some("its row groups are small");
        }
        let end = file.file_size_in_bytes().saturating_sub(TAIL_BYTES);
        let mut chunks =
            groups.iter().flat_map(|group| group.columns().iter().map(move |chunk| (group, chunk)));
        chunks.find_map(|(group, chunk)| self.fault_of_chunk(group, chunk, end))
    }

    fn fault_of_chunk(
        &self,
        group: &RowGroupMetaData,
        chunk: &ColumnChunkMetaData,
        end: u64,
    ) -> Option<&'static str> {
        let Some(Range { start, end: chunk_end }) = chunk_range(chunk).filter(|range| range.end <= end)
        else {
            return Some("a column lies outside of it");
        };
        if chunk_end - start > self.max_chunk_bytes {
            return Some("a column of a row group is larger than the memory for writing");
        }
        if !matches!(chunk.compression(), Compression::ZSTD(_)) {
            return Some("it is not compressed by zstd");
        }
        if chunk.file_path().is_some() || chunk.crypto_metadata().is_some() {
            return Some("a column is in another file, or encrypted");
        }
        if chunk.column_descr().max_rep_level() > 0 {
            return None;
        }
        let (values, statistics) = (u64::try_from(chunk.num_values()).ok(), chunk.statistics());
        if chunk.num_values() != group.num_rows() {
            return Some("a column has other rows than its row group");
        }
        let nulls = statistics.and_then(|statistics| statistics.null_count_opt());
        let has_bounds = statistics.is_some_and(|statistics| {
            statistics.min_bytes_opt().is_some() && statistics.max_bytes_opt().is_some()
        });
        if nulls.is_none() || (nulls != values && !has_bounds) {
            return Some("a column has no statistics");
        }
        // A copied row keeps what it says of itself, and can't inherit from its new file what it doesn't say.
        let info = chunk.column_descr().self_type().get_basic_info();
        if info.has_id() && LINEAGE_IDS.contains(&info.id()) && nulls != Some(0) {
            return Some("rows inherit their ids from it");
        }
        None
    }
}

/// Of the sets of files that one writer wrote alike for one partition the largest, if its files are several and at least half of
/// `all_bytes`.
pub(super) fn largest_alike(sources: Vec<Source>, all_bytes: u64) -> Vec<Source> {
    let mut sets: Vec<Vec<Source>> = Vec::new();
    for source in sources {
        match sets.iter_mut().find(|set| set.first().is_some_and(|first| alike(first, &source))) {
            Some(set) => set.push(source),
            None => sets.push(vec![source]),
        }
    }
    let bytes =
        |set: &[Source]| set.iter().map(|source| source.file.data_file().file_size_in_bytes()).sum::<u64>();
    let largest = sets.into_iter().max_by_key(|set| bytes(set)).unwrap_or_default();
    if largest.len() > 1 && bytes(&largest) >= all_bytes.div_ceil(2) { largest } else { Vec::new() }
}

fn alike(one: &Source, other: &Source) -> bool {
    let (ours, theirs) = (one.footer.file_metadata(), other.footer.file_metadata());
    one.file.partition_key() == other.file.partition_key()
        && ours.schema() == theirs.schema()
        && ours.created_by() == theirs.created_by()
        && ours.version() == theirs.version()
}
