//! One Parquet file: which of its rows are meant, and the file without them.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use bytes::Bytes;
use iceberg::metadata_columns::{RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_ROW_ID};
use parquet::{
    arrow::{
        ArrowWriter, PARQUET_FIELD_ID_META_KEY, ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{metadata::ParquetMetaData, properties::WriterProperties},
};
use roaring::RoaringTreemap;

use super::{RowMatch, names::ColumnNames};
use crate::schema::field_id;

/// What a file holds of the rows that are meant.
#[derive(Default)]
pub(super) struct Found {
    pub(super) positions: RoaringTreemap,
    pub(super) keys: BTreeSet<Vec<String>>,
}

/// A file without some rows.
pub(super) struct Cleaned {
    pub(super) bytes: Bytes,
    pub(super) metadata: ParquetMetaData,
}

/// Looks for rows that are meant.
pub(super) fn find(bytes: Bytes, rows: &RowMatch, names: &ColumnNames) -> Result<Found, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mut found = Found::default();
    let Some(matching) = rows.of_file(builder.schema(), names) else { return Ok(found) };
    let mask = ProjectionMask::roots(builder.parquet_schema(), matching.columns.iter().copied());
    // A projection keeps the file's order.
    let mut in_order = matching.columns.clone();
    in_order.sort_unstable();
    let place = |column: &usize| in_order.binary_search(column).unwrap_or_default();
    let order: Vec<usize> = matching.columns.iter().map(place).collect();
    let mut first = 0;
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?.project(&order)?;
        let meant = matching.find(&batch, &mut found.keys);
        found.positions.extend(meant.into_iter().map(|row| first + row as u64));
        first += batch.num_rows() as u64;
    }
    Ok(found)
}

/// The file without the rows at `removed`. Rows of format 3 that have no id of their own get the one that they inherited by
/// their place, which they lose.
pub(super) fn without(
    bytes: Bytes,
    removed: &RoaringTreemap,
    first_row_id: Option<i64>,
) -> Result<Cleaned, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let ids = first_row_id.map(|first| RowIds::new(builder.schema(), first));
    let schema = ids.as_ref().map_or_else(|| Arc::clone(builder.schema()), |ids| Arc::clone(&ids.schema));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_created_by(format!("firn {}", env!("CARGO_PKG_VERSION")))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    copy(builder.build()?, removed, ids.as_ref(), &mut writer)?;
    let metadata = writer.finish()?;
    let bytes = Bytes::from(std::mem::take(writer.inner_mut()));
    Ok(Cleaned { bytes, metadata })
}

fn copy(
    rows: ParquetRecordBatchReader,
    removed: &RoaringTreemap,
    ids: Option<&RowIds>,
    writer: &mut ArrowWriter<Vec<u8>>,
) -> Result<(), ParquetError> {
    let mut first: u64 = 0;
    for batch in rows {
        let mut batch = batch?;
        let count = batch.num_rows() as u64;
        if let Some(ids) = ids {
            batch = ids.fill(&batch, first)?;
        }
        let stays = (first..first + count).map(|position| Some(!removed.contains(position)));
        let stays: BooleanArray = stays.collect();
        writer.write(&filter_record_batch(&batch, &stays)?)?;
        first += count;
    }
    Ok(())
}

/// Ids of a file's rows, as a column.
struct RowIds {
    schema: SchemaRef,
    /// Where the file has them.
    own: Option<usize>,
    first: i64,
}

impl RowIds {
    fn new(schema: &SchemaRef, first: i64) -> Self {
        let own = schema.fields().iter().position(|field| field_id(field) == Some(RESERVED_FIELD_ID_ROW_ID));
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        if own.is_none() {
            let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), RESERVED_FIELD_ID_ROW_ID.to_string());
            let field = Field::new(RESERVED_COL_NAME_ROW_ID, DataType::Int64, true);
            fields.push(Arc::new(field.with_metadata([id].into())));
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Self { schema, own, first }
    }

    fn fill(&self, batch: &RecordBatch, position: u64) -> Result<RecordBatch, ParquetError> {
        let mut columns = batch.columns().to_vec();
        let begin = self.first.saturating_add(i64::try_from(position).unwrap_or(i64::MAX));
        let own = self.own.map(|index| columns[index].as_primitive::<Int64Type>().clone());
        let ids = (begin..).take(batch.num_rows()).enumerate().map(|(row, inherited)| match &own {
            Some(own) if own.is_valid(row) => own.value(row),
            _ => inherited,
        });
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        match self.own {
            Some(index) => columns[index] = ids,
            None => columns.push(ids),
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
