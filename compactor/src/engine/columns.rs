//! From a query's columns to a table's: types that Iceberg has, documentation, and batches cast to fit.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, Int64Array, RecordBatch, new_null_array},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};

use crate::Model;

/// The nearest type that a lake table can hold.
fn lake_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| Arc::from("UTC")))
        }
        DataType::Dictionary(_, values) => lake_type(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            DataType::List(lake_field(item))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(lake_field).collect()),
        other => other.clone(),
    }
}

/// The field in a lake type, without metadata and nullable: what a query derives is never promised.
fn lake_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), lake_type(field.data_type()), true))
}

/// A schema in lake types, without metadata.
pub(crate) fn lake_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(lake_field).collect::<Vec<_>>()))
}

/// The output schema of a model: lake types, keys required, each column documented by the model or, where it is a
/// column of the inventory, by that.
pub(crate) fn documented_schema(model: &Model, schema: &Schema) -> SchemaRef {
    let inventory = firn_inventory::bronze_schema();
    let derived = lake_schema(schema);
    let fields = derived.fields().iter().map(|field| {
        let inherited = || inventory.field_with_name(field.name()).ok()?.metadata().get("doc").cloned();
        let doc = model.columns.get(field.name()).cloned().or_else(inherited);
        let metadata: HashMap<_, _> = doc.map(|doc| ("doc".to_owned(), doc)).into_iter().collect();
        let required = model.key.contains(field.name());
        field.as_ref().clone().with_nullable(!required).with_metadata(metadata)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The batch with the columns of `schema`, by name: cast where the types differ, null where a column is absent.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect();
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options)
}

/// A timestamp column as microseconds since the epoch.
pub(super) fn micros(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(ArrowError::CastError(format!("{other} is no timestamp"))),
    };
    let exact = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    integers(&exact)
}

/// A column as 64-bit integers.
pub(super) fn integers(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let values = cast(column, &DataType::Int64)?;
    Ok(Int64Array::from(values.to_data()))
}
