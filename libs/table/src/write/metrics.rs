//! Column metrics of a data file, from its Parquet footer.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct,
};
use parquet::{
    basic::Type as PhysicalType,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        statistics::Statistics,
    },
};

use crate::{TableError, TableErrorKind};

/// What is known of a file besides its footer.
pub(crate) struct ClosedFile<'a> {
    pub(crate) location: &'a str,
    pub(crate) size_bytes: u64,
    pub(crate) partition: Struct,
    pub(crate) spec_id: i32,
    pub(crate) nan_counts: HashMap<i32, u64>,
}

#[derive(Default)]
struct ColumnMetrics {
    size_bytes: u64,
    values: u64,
    nulls: u64,
    /// A row group said nothing about them, so nothing is known about the file.
    nulls_unknown: bool,
    bounds_unknown: bool,
    lower: Option<Datum>,
    upper: Option<Datum>,
}

pub(crate) fn data_file(
    file: ClosedFile<'_>,
    parquet: &ParquetMetaData,
    schema: &Schema,
) -> Result<DataFile, TableError> {
    let mut columns: HashMap<i32, ColumnMetrics> = HashMap::new();
    for column in parquet.row_groups().iter().flat_map(|group| group.columns()) {
        let info = column.column_descr().self_type().get_basic_info();
        if info.has_id() {
            columns.entry(info.id()).or_default().add(column, primitive_type(schema, info.id()));
        }
    }
    let collect = |value: fn(&ColumnMetrics) -> Option<u64>| {
        columns.iter().filter_map(|(id, column)| Some((*id, value(column)?))).collect::<HashMap<_, _>>()
    };
    let bounds = |bound: fn(&ColumnMetrics) -> &Option<Datum>| {
        let known = columns.iter().filter(|(_, column)| !column.bounds_unknown);
        known.filter_map(|(id, column)| Some((*id, bound(column).clone()?))).collect::<HashMap<_, _>>()
    };
    let rows = parquet.file_metadata().num_rows();
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(file.location.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(file.partition)
        .partition_spec_id(file.spec_id)
        .record_count(u64::try_from(rows).unwrap_or_default())
        .file_size_in_bytes(file.size_bytes)
        .column_sizes(collect(|column| Some(column.size_bytes)))
        .value_counts(collect(|column| Some(column.values)))
        .null_value_counts(collect(|column| (!column.nulls_unknown).then_some(column.nulls)))
        .nan_value_counts(file.nan_counts)
        .lower_bounds(bounds(|column| &column.lower))
        .upper_bounds(bounds(|column| &column.upper))
        .split_offsets(Some(split_offsets(parquet)))
        .build()
        .map_err(|error| {
            TableError::caused(
                TableErrorKind::Invalid,
                format!("the metrics of {} are incomplete", file.location),
                error,
            )
        })
}

impl ColumnMetrics {
    fn add(&mut self, column: &ColumnChunkMetaData, data_type: Option<PrimitiveType>) {
        self.size_bytes += u64::try_from(column.compressed_size()).unwrap_or_default();
        let values = u64::try_from(column.num_values()).unwrap_or_default();
        self.values += values;
        let statistics = column.statistics();
        let nulls = statistics.and_then(Statistics::null_count_opt);
        self.nulls += nulls.unwrap_or_default();
        self.nulls_unknown |= nulls.is_none();
        if nulls == Some(values) {
            return;
        }
        // Values within lists have no order of their own that a query could use.
        let bounds = statistics
            .filter(|_| column.column_descr().max_rep_level() == 0)
            .zip(data_type)
            .and_then(|(statistics, data_type)| {
                Some((
                    datum(statistics.min_bytes_opt()?, column.column_type(), &data_type)?,
                    datum(statistics.max_bytes_opt()?, column.column_type(), &data_type)?,
                ))
            });
        let Some((lower, upper)) = bounds else {
            self.bounds_unknown = true;
            return;
        };
        self.lower = Some(match self.lower.take() {
            Some(known) if known <= lower => known,
            _ => lower,
        });
        self.upper = Some(match self.upper.take() {
            Some(known) if known >= upper => known,
            _ => upper,
        });
    }
}

fn primitive_type(schema: &Schema, id: i32) -> Option<PrimitiveType> {
    schema.field_by_id(id)?.field_type.as_primitive_type().cloned()
}

/// Parquet's plain encoding is Iceberg's single-value encoding, but for decimals kept as integers.
fn datum(bytes: &[u8], physical: PhysicalType, data_type: &PrimitiveType) -> Option<Datum> {
    let datum = match (data_type, physical) {
        (PrimitiveType::Decimal { .. }, PhysicalType::INT32 | PhysicalType::INT64) => {
            let big_endian = bytes.iter().rev().copied().collect::<Vec<_>>();
            Datum::try_from_bytes(&big_endian, data_type.clone())
        }
        // Statistics of long values are cut off, which a fixed length doesn't allow.
        (PrimitiveType::Fixed(length), _) if bytes.len() as u64 != *length => return None,
        _ => Datum::try_from_bytes(bytes, data_type.clone()),
    };
    datum.ok()
}

fn split_offsets(parquet: &ParquetMetaData) -> Vec<i64> {
    let start =
        |column: &ColumnChunkMetaData| column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let mut offsets = parquet
        .row_groups()
        .iter()
        .filter_map(|group| group.columns().iter().map(start).min())
        .collect::<Vec<_>>();
    offsets.sort_unstable();
    offsets
}
