//! What was written, beside what was read.

use futures::{StreamExt, TryStreamExt, stream};

use super::copy::read_footer;
use crate::{Table, TableError, WrittenFile, sums::ColumnSums};

/// Footers read at once.
const PARALLEL_READS: usize = 4;

/// Reads the new files' footers back from the store, and compares them with what was read of the old ones.
pub(super) async fn footers(
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
    same(table, &written, wanted)
}

/// An error that names the first difference.
pub(super) fn same(table: &Table, found: &ColumnSums, wanted: &ColumnSums) -> Result<(), TableError> {
    let schema = table.iceberg_schema()?;
    let name = |id| match schema.name_by_field_id(id) {
        Some(name) => format!("'{name}'"),
        None => id.to_string(),
    };
    let Some(difference) = found.difference(wanted, name) else { return Ok(()) };
    Err(TableError::invalid(format!(
        "new files of table {} hold {difference}; nothing was rewritten",
        table.ident()
    )))
}
