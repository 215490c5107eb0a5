//! Texts and byte strings as views: sixteen bytes each that hold the value, or refer to where it lies.
//!
//! The reader makes them of what it decompressed, which is mostly a dictionary, so that neither it nor who puts rows in order copies texts.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};

/// The schema with views. What lies within lists and structs stays as it is: the scan couldn't tell the reader of it.
pub(crate) fn with_views(schema: &Schema) -> SchemaRef {
    of_types(schema, |data_type| match data_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        other => other.clone(),
    })
}

/// The schema without views.
pub(crate) fn without_views(schema: &Schema) -> SchemaRef {
    of_types(schema, plain_type)
}

fn of_types(schema: &Schema, data_type: impl Fn(&DataType) -> DataType) -> SchemaRef {
    let field = |field: &Arc<Field>| field.as_ref().clone().with_data_type(data_type(field.data_type()));
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

/// A column whose values lie one behind the other if they were views, and the same column otherwise.
pub(crate) fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    cast(column, &plain_type(column.data_type()))
}

/// The same for all columns, of a schema that is without views.
pub(crate) fn plain_rows(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}
