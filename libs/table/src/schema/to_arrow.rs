//! Iceberg to Arrow.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use iceberg::spec::{NestedField, PrimitiveType, Schema as IcebergSchema, StructType, Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::DOC_KEY;
use crate::TableError;

/// The zone Parquet readers give to timestamps that are instants.
const UTC: &str = "UTC";

pub(crate) fn arrow_schema(schema: &IcebergSchema) -> Result<SchemaRef, TableError> {
    Ok(Arc::new(Schema::new(struct_fields(schema.as_struct())?)))
}

fn struct_fields(fields: &StructType) -> Result<Fields, TableError> {
    fields.fields().iter().map(|field| arrow_field(field)).collect()
}

pub(crate) fn arrow_field(field: &NestedField) -> Result<Field, TableError> {
    let mut metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field.id.to_string())]);
    if let Some(doc) = &field.doc {
        metadata.insert(DOC_KEY.to_owned(), doc.clone());
    }
    let data_type = arrow_type(&field.field_type, &field.name)?;
    Ok(Field::new(&field.name, data_type, !field.required).with_metadata(metadata))
}

fn arrow_type(iceberg: &Type, column: &str) -> Result<DataType, TableError> {
    Ok(match iceberg {
        Type::Primitive(primitive) => primitive_type(primitive, column)?,
        Type::Struct(fields) => DataType::Struct(struct_fields(fields)?),
        Type::List(list) => DataType::List(Arc::new(arrow_field(&list.element_field)?)),
        Type::Map(map) => {
            let entries = Fields::from(vec![arrow_field(&map.key_field)?, arrow_field(&map.value_field)?]);
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
        }
    })
}

fn primitive_type(primitive: &PrimitiveType, column: &str) -> Result<DataType, TableError> {
    let too_big =
        || TableError::unsupported(format!("column '{column}' of type {primitive} has no Arrow type"));
    Ok(match primitive {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => DataType::Decimal128(
            u8::try_from(*precision).map_err(|_| too_big())?,
            i8::try_from(*scale).map_err(|_| too_big())?,
        ),
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(length) => {
            DataType::FixedSizeBinary(i32::try_from(*length).map_err(|_| too_big())?)
        }
        PrimitiveType::Binary => DataType::Binary,
    })
}
