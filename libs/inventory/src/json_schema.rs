//! The published JSON Schema.

use serde_json::Value;

/// JSON Schema (2020-12) of the native format, generated from [`crate::Inventory`].
#[must_use]
pub fn json_schema() -> Value {
    todo!()
}
