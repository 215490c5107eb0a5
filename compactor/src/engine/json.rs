//! Rows as JSON objects, and back.

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::SchemaRef,
        json::{ReaderBuilder, WriterBuilder, writer::JsonArray},
    },
    error::{DataFusionError, Result},
};
use serde::Serialize;
use serde_json::Value;

/// One object per row; nulls are written out.
pub(crate) fn rows_as_json(batches: &[RecordBatch]) -> Result<Vec<Value>> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let rows = serde_json::from_slice(&writer.into_inner());
    rows.map_err(|error| DataFusionError::External(Box::new(error)))
}

/// The rows of objects; what an object lacks is null, and what the schema lacks is an error.
pub(crate) fn rows_from_json(schema: &SchemaRef, rows: &[impl Serialize]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(schema.clone()).with_strict_mode(true).build_decoder()?;
    decoder.serialize(rows)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
}
