//! Arrow to Iceberg's JSON, with fresh field ids.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};

use super::DOC_KEY;
use crate::TableError;

/// Hands out field ids.
pub(crate) struct FieldIds {
    next: i32,
}

impl FieldIds {
    pub(crate) fn starting_at(next: i32) -> Self {
        Self { next }
    }

    /// The highest id handed out.
    pub(crate) fn last(&self) -> i32 {
        self.next - 1
    }

    fn take(&mut self) -> i32 {
        self.next += 1;
        self.next - 1
    }
}

/// A schema whose ids are assigned level by level, as Iceberg's own libraries do.
pub(crate) fn iceberg_schema(schema: &Schema, ids: &mut FieldIds) -> Result<Value, TableError> {
    let fields = schema.fields().iter().map(AsRef::as_ref).collect::<Vec<&Field>>();
    let mut json = struct_json(&fields, ids)?;
    json["schema-id"] = json!(0);
    Ok(json)
}

/// A column to add to an existing table: optional, since older files lack it.
pub(crate) fn optional_field(field: &Field, ids: &mut FieldIds) -> Result<Value, TableError> {
    let id = ids.take();
    field_json(&field.clone().with_nullable(true), id, ids)
}

fn struct_json(fields: &[&Field], ids: &mut FieldIds) -> Result<Value, TableError> {
    let own_ids = fields.iter().map(|_| ids.take()).collect::<Vec<_>>();
    let fields = fields
        .iter()
        .zip(own_ids)
        .map(|(field, id)| field_json(field, id, ids))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"type": "struct", "fields": fields}))
}

fn field_json(field: &Field, id: i32, ids: &mut FieldIds) -> Result<Value, TableError> {
    let mut json = json!({
        "id": id,
        "name": field.name(),
        "required": !field.is_nullable(),
        "type": type_json(field, ids)?,
    });
    if let Some(doc) = field.metadata().get(DOC_KEY) {
        json["doc"] = json!(doc);
    }
    Ok(json)
}

fn type_json(field: &Field, ids: &mut FieldIds) -> Result<Value, TableError> {
    match field.data_type() {
        DataType::Struct(fields) => struct_json(&fields.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ids),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            let id = ids.take();
            Ok(json!({
                "type": "list",
                "element-id": id,
                "element-required": !element.is_nullable(),
                "element": type_json(element, ids)?,
            }))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let (key_id, value_id) = (ids.take(), ids.take());
                Ok(json!({
                    "type": "map",
                    "key-id": key_id,
                    "key": type_json(&pair[0], ids)?,
                    "value-id": value_id,
                    "value-required": !pair[1].is_nullable(),
                    "value": type_json(&pair[1], ids)?,
                }))
            }
            _ => Err(unknown_type(field)),
        },
        primitive => primitive_name(primitive).map(Value::String).ok_or_else(|| unknown_type(field)),
    }
}

fn unknown_type(field: &Field) -> TableError {
    let (name, data_type) = (field.name(), field.data_type());
    TableError::invalid(format!(
        "column '{name}' has type {data_type}, which Iceberg tables cannot hold; cast it"
    ))
}

fn primitive_name(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "int",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "long",
        DataType::Float16 | DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            return Some(format!("decimal({precision}, {scale})"));
        }
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        // Always microseconds: nanoseconds exist in format version 3 only, and writing casts them down.
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::FixedSizeBinary(length) => return Some(format!("fixed[{length}]")),
        DataType::Dictionary(_, value) => return primitive_name(value),
        _ => return None,
    };
    Some(name.to_owned())
}
