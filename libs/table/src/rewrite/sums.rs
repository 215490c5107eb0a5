//! Sums over columns, by which rows before and after a rewrite are compared.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::file::{metadata::ParquetMetaData, statistics::Statistics};

use super::copy::read_footer;
use crate::{Table, TableError, WrittenFile, schema::field_id};

/// Footers read at once.
const PARALLEL_READS: usize = 4;

/// Rows, and how many of them lack a value, by the id of each top-level column that isn't nested.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ColumnSums {
    rows: u64,
    nulls: BTreeMap<i32, u64>,
}

impl ColumnSums {
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if let Some(id) = field_id(field).filter(|_| !field.data_type().is_nested()) {
                *self.nulls.entry(id).or_default() += column.logical_null_count() as u64;
            }
        }
    }

    /// What a footer's statistics say; a column of which one says nothing gets too few.
    pub(super) fn add_footer(&mut self, footer: &ParquetMetaData) {
        for group in footer.row_groups() {
            self.rows += u64::try_from(group.num_rows()).unwrap_or_default();
            for column in group.columns() {
                let (info, path) = (column.column_descr().self_type().get_basic_info(), column.column_path());
                if info.has_id() && path.parts().len() == 1 {
                    let nulls = column.statistics().and_then(Statistics::null_count_opt);
                    *self.nulls.entry(info.id()).or_default() += nulls.unwrap_or_default();
                }
            }
        }
    }

    /// The first difference, if there is one.
    fn difference(&self, wanted: &Self) -> Option<String> {
        if self.rows != wanted.rows {
            return Some(format!("{} rows instead of {}", self.rows, wanted.rows));
        }
        let wrong = |(id, nulls): (&i32, &u64)| {
            let found = self.nulls.get(id).copied().unwrap_or_default();
            (found != *nulls).then(|| format!("{found} nulls instead of {nulls} in column {id}"))
        };
        wanted.nulls.iter().find_map(wrong)
    }
}

/// Reads the new files' footers back from the store, and compares them with what was read of the old ones.
pub(super) async fn check(
    table: &Table,
    files: &[WrittenFile],
    wanted: &ColumnSums,
) -> Result<(), TableError> {
    let reads = files.iter().map(|file| read_footer(table.file_io(), &file.location, file.size_bytes));
    let mut written = ColumnSums::default();
    let mut footers = stream::iter(reads.collect::<Vec<_>>()).buffered(PARALLEL_READS);
    while let Some(footer) = footers.try_next().await? {
        written.add_footer(&footer);
    }
    let Some(difference) = written.difference(wanted) else { return Ok(()) };
    Err(TableError::invalid(format!(
        "new files of table {} hold {difference}; nothing was rewritten",
        table.ident()
    )))
}

#[cfg(test)]
mod tests {
    use super::ColumnSums;

    #[test]
    fn rows_and_nulls_that_differ_are_told() {
        let sums = |rows, nulls: &[(i32, u64)]| ColumnSums { rows, nulls: nulls.iter().copied().collect() };
        let wanted = sums(4, &[(1, 0), (2, 3)]);
        assert_eq!(sums(4, &[(1, 0), (2, 3)]).difference(&wanted), None);
        let told = sums(4, &[(1, 1), (2, 3)]).difference(&wanted).unwrap_or_default();
        assert_eq!(told, "1 nulls instead of 0 in column 1");
        let told = sums(4, &[(1, 0)]).difference(&wanted).unwrap_or_default();
        assert_eq!(told, "0 nulls instead of 3 in column 2");
        assert_eq!(sums(5, &[]).difference(&wanted).unwrap_or_default(), "5 rows instead of 4");
    }
}
