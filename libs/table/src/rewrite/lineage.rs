//! Row lineage of format 3: whoever moves a row keeps its id and when it changed last.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema},
};
use datafusion::error::Result as DataFusionResult;
use iceberg::metadata_columns::{
    RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_COL_NAME_ROW_ID,
    RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_FIELD_ID_ROW_ID,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::{deletes::LivePositions, scan::PlannedFile};

/// Ids of the columns that say it.
pub(super) const LINEAGE_IDS: [i32; 2] =
    [RESERVED_FIELD_ID_ROW_ID, RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER];

/// Columns of format 3 that tell a row's identity and its last change (specification, "Row Lineage").
pub(super) fn lineage_columns() -> [FieldRef; 2] {
    let column = |name: &str, id: i32| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata([id].into()))
    };
    [
        column(RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_ROW_ID),
        column(
            RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER,
            RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER,
        ),
    ]
}

/// Gives the rows of one file, in its order, what they inherit from it.
pub(super) struct Lineage {
    first_row_id: Option<i64>,
    sequence_number: i64,
    positions: LivePositions,
}

impl Lineage {
    pub(super) fn new(planned: &PlannedFile) -> Self {
        Self {
            first_row_id: planned.file.data_file().first_row_id(),
            sequence_number: planned.file.sequence_number(),
            positions: LivePositions::new(planned.deleted.clone()),
        }
    }

    /// The batch with the two last of `schema`'s columns filled where the file doesn't have them.
    pub(super) fn fill(&mut self, batch: &RecordBatch, schema: &Schema) -> DataFusionResult<RecordBatch> {
        let width = schema.fields().len();
        let (row_ids, updates) = (batch.column(width - 2), batch.column(width - 1));
        let (own_ids, own_updates) =
            (row_ids.as_primitive::<Int64Type>(), updates.as_primitive::<Int64Type>());
        let (mut ids, mut changed) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let position = i64::try_from(self.positions.take()).unwrap_or(i64::MAX);
            // Without a first row id the table was only just upgraded: rows get their ids with the new file.
            let inherited = self.first_row_id.map(|first| first.saturating_add(position));
            ids.push(own_ids.is_valid(row).then(|| own_ids.value(row)).or(inherited));
            let inherited = self.first_row_id.map(|_| self.sequence_number);
            changed.push(own_updates.is_valid(row).then(|| own_updates.value(row)).or(inherited));
        }
        let mut columns = batch.columns().to_vec();
        columns[width - 2] = Arc::new(Int64Array::from(ids)) as ArrayRef;
        columns[width - 1] = Arc::new(Int64Array::from(changed)) as ArrayRef;
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}
