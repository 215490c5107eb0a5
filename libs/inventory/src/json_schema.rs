//! The published JSON Schema.

use serde_json::{Value, json};

use crate::fields::{FIELDS, Slot};

/// JSON Schema (2020-12) of the native format, generated from [`crate::Inventory`]: each field with its description, range,
/// unit (`x-firn-unit`) and class (`x-firn-class`). Unknown fields are allowed, and kept.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(crate::Inventory).to_value();
    schema["$id"] = json!(format!("urn:firn:schema:inventory:{}", crate::SCHEMA_VERSION));
    schema["title"] = json!("Firn inventory record");
    for field in &FIELDS {
        let property = &mut schema["properties"][field.name];
        if let Some(object) = property.as_object_mut() {
            object.remove("default");
            object.remove("format");
            object.remove("minimum");
        }
        match &field.slot {
            Slot::HostId => property["minLength"] = json!(1),
            Slot::Instant(_) => property["format"] = json!("date-time"),
            Slot::Int(_, range) => {
                property["minimum"] = json!(range.start());
                property["maximum"] = json!(range.end());
            }
            Slot::Long(_, range) => {
                property["minimum"] = json!(range.start());
                property["maximum"] = json!(range.end());
            }
            Slot::Text(_) | Slot::Flag(_) | Slot::Texts(_) | Slot::Software => {}
        }
        if let Some(unit) = field.unit {
            property["x-firn-unit"] = json!(unit);
        }
        property["x-firn-class"] = json!(field.class.as_str());
    }
    schema
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn published_schema_is_current() {
        let text = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
        expect_test::expect_file!["../../../docs/inventory.schema.json"].assert_eq(&text);
    }

    #[test]
    fn every_field_is_described() {
        let schema = json_schema();
        for field in &FIELDS {
            assert!(schema["properties"][field.name]["description"].is_string(), "{}", field.name);
        }
        assert_eq!(schema["required"], json!(["host_id"]));
    }
}
