//! The document of a new table, from a create request.

use serde_json::{Map, Value, json};

use super::{
    ApplyContext, Document, MetadataError, apply_updates, error::invalid, fresh_ids, properties::RESERVED,
};

/// A table to be.
pub(crate) struct NewTable {
    /// Schema, with the client's field ids.
    pub(crate) schema: Value,
    /// Partition spec over those ids.
    pub(crate) partition_spec: Option<Value>,
    /// Sort order over those ids.
    pub(crate) write_order: Option<Value>,
    /// Properties; `format-version` picks the version and is not kept.
    pub(crate) properties: Map<String, Value>,
}

/// Builds the document: fresh field ids, the format version asked for, nothing else decided by the server.
pub(crate) fn new_table(table: NewTable, context: &ApplyContext<'_>) -> Result<Document, MetadataError> {
    let NewTable { mut schema, partition_spec, write_order, mut properties } = table;
    let version = match properties.get("format-version") {
        None => 2,
        Some(value) => match value.as_str().and_then(|text| text.parse::<i64>().ok()) {
            Some(version) => version,
            None => return invalid(format!("the property 'format-version' is not a number: {value}")),
        },
    };
    properties.retain(|key, _| !RESERVED.contains(&key.as_str()));
    let new_by_old = fresh_ids::assign(&mut schema);
    let mut updates = vec![
        json!({"action": "upgrade-format-version", "format-version": version}),
        json!({"action": "add-schema", "schema": schema}),
        json!({"action": "set-current-schema", "schema-id": -1}),
    ];
    if let Some(mut spec) = partition_spec {
        fresh_ids::translate_sources(&mut spec, &new_by_old);
        for field in spec.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(field) = field.as_object_mut() {
                field.remove("field-id");
            }
        }
        updates.push(json!({"action": "add-spec", "spec": spec}));
        updates.push(json!({"action": "set-default-spec", "spec-id": -1}));
    }
    if let Some(mut order) = write_order {
        fresh_ids::translate_sources(&mut order, &new_by_old);
        updates.push(json!({"action": "add-sort-order", "sort-order": order}));
        updates.push(json!({"action": "set-default-sort-order", "sort-order-id": -1}));
    }
    updates.push(json!({"action": "set-properties", "updates": properties}));
    match apply_updates(None, &updates, context)? {
        Some(document) => Ok(document),
        None => invalid("the request describes no table"),
    }
}
