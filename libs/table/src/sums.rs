//! Sums over columns, by which rows before and after a rewrite are compared. None depends on the order of rows, or on how they are
//! cut into batches and files.

mod content;

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use parquet::{
    basic::Type,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        statistics::Statistics,
    },
};

use crate::schema::field_id;

/// Rows, and sums of columns by their id: of top-level columns, and of the values within nested ones.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ColumnSums {
    rows: u64,
    columns: BTreeMap<i32, ColumnSum>,
    /// Whether the values themselves are added up, which takes a pass over all of them.
    with_content: bool,
}

/// Sums of one column, as far as its source tells them.
#[derive(Debug, Default, PartialEq)]
struct ColumnSum {
    /// Rows without a value. Of top-level columns that aren't nested.
    nulls: Option<u64>,
    /// Bytes of all values. Of texts and byte strings of any length.
    bytes: Option<u64>,
    /// All values added up, modulo 2^64: numbers by their bits, texts byte by byte, lists by their lengths. Of rows in memory, where it
    /// is wanted.
    content: Option<u64>,
}

impl ColumnSums {
    /// Sums of values as well.
    pub(crate) fn of_values() -> Self {
        Self { with_content: true, ..Self::default() }
    }

    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some(id) = field_id(field).filter(|_| !field.data_type().is_nested()) {
                let nulls = self.columns.entry(id).or_default().nulls.get_or_insert_default();
                *nulls += column.logical_null_count() as u64;
            }
            content::add(self, field, column, None);
        }
    }

    /// What a footer says; a column of which its statistics say nothing gets too few nulls.
    pub(crate) fn add_footer(&mut self, footer: &ParquetMetaData) {
        for group in footer.row_groups() {
            self.rows += u64::try_from(group.num_rows()).unwrap_or_default();
            for column in group.columns() {
                let info = column.column_descr().self_type().get_basic_info();
                if !info.has_id() {
                    continue;
                }
                let is_new = !self.columns.contains_key(&info.id());
                let sum = self.columns.entry(info.id()).or_default();
                if column.column_path().parts().len() == 1 {
                    let nulls = column.statistics().and_then(Statistics::null_count_opt);
                    *sum.nulls.get_or_insert_default() += nulls.unwrap_or_default();
                }
                let known = if is_new { Some(0) } else { sum.bytes };
                // Once one row group doesn't tell, nothing is known.
                sum.bytes = known.zip(byte_count(column)).map(|(known, more)| known + more);
            }
        }
    }

    /// The first difference in what both know, if there is one. Columns are called by `name`.
    pub(crate) fn difference(&self, wanted: &Self, name: impl Fn(i32) -> String) -> Option<String> {
        if self.rows != wanted.rows {
            return Some(format!("{} rows instead of {}", self.rows, wanted.rows));
        }
        wanted.columns.iter().find_map(|(id, wanted)| {
            let unknown = ColumnSum::default();
            let difference = self.columns.get(id).unwrap_or(&unknown).difference(wanted)?;
            Some(format!("{difference} in column {}", name(*id)))
        })
    }
}

impl ColumnSum {
    fn difference(&self, wanted: &Self) -> Option<String> {
        let differ = |found: Option<u64>, wanted: Option<u64>| found.zip(wanted).filter(|(a, b)| a != b);
        // Who doesn't know of a column at all has no values there.
        let found_nulls = self.nulls.or(wanted.nulls.map(|_| 0));
        if let Some((found, wanted)) = differ(found_nulls, wanted.nulls) {
            return Some(format!("{found} nulls instead of {wanted}"));
        }
        if let Some((found, wanted)) = differ(self.bytes, wanted.bytes) {
            return Some(format!("{found} bytes of values instead of {wanted}"));
        }
        differ(self.content, wanted.content).map(|_| "other values".to_owned())
    }
}

/// Bytes of the values of a column of a row group, before they were encoded.
fn byte_count(column: &ColumnChunkMetaData) -> Option<u64> {
    let count = column.unencoded_byte_array_data_bytes().filter(|_| column.column_type() == Type::BYTE_ARRAY);
    u64::try_from(count?).ok()
}

#[cfg(test)]
mod tests;
