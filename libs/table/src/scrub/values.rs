//! What a column of a file holds.

use std::collections::BTreeSet;

use arrow::array::Array as _;
use bytes::Bytes;
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    errors::ParquetError,
};

use super::{row_match::as_text, survey::unreadable};
use crate::{FileIo, TableError};

/// The values of a Parquet file's top-level column of a name, as text; none if it has no such column.
///
/// # Errors
/// `NotFound` for a file that isn't there, `Storage` for one that can't be read.
pub async fn column_values(
    file_io: &FileIo,
    location: &str,
    column: &str,
) -> Result<BTreeSet<String>, TableError> {
    let (bytes, column) = (file_io.read(location).await?, column.to_owned());
    let values = tokio::task::spawn_blocking(move || values(bytes, &column)).await;
    let values = values.map_err(|error| unreadable(location, error))?;
    values.map_err(|error| unreadable(location, error))
}

fn values(bytes: Bytes, column: &str) -> Result<BTreeSet<String>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let Ok(index) = builder.schema().index_of(column) else { return Ok(BTreeSet::new()) };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
    let mut values = BTreeSet::new();
    for batch in builder.with_projection(mask).build()? {
        if let Some(texts) = as_text(batch?.column(0)) {
            values.extend(
                (0..texts.len()).filter(|row| texts.is_valid(*row)).map(|row| texts.value(row).to_owned()),
            );
        }
    }
    Ok(values)
}
