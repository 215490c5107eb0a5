//! Contents: Nessie's JSON objects, kept as they came.

use std::{fmt::Write as _, sync::Arc};

use serde_json::Value;

use super::Content;

/// Nessie's name of a namespace.
pub(crate) const NAMESPACE: &str = "NAMESPACE";

impl Content {
    /// A content from its JSON.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(Arc::new(value))
    }

    /// `ICEBERG_TABLE`, `NAMESPACE` …; empty if it has none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its id, the same through all changes of the content.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.get("id").and_then(Value::as_str)
    }

    /// The same with an id.
    #[must_use]
    pub fn with_id(&self, id: &str) -> Self {
        let mut value = (*self.0).clone();
        if let Value::Object(fields) = &mut value {
            fields.insert("id".to_owned(), Value::from(id));
        }
        Self::new(value)
    }

    /// Whether it is a namespace.
    #[must_use]
    pub fn is_namespace(&self) -> bool {
        self.content_type() == NAMESPACE
    }

    /// Whether two namespaces are the same but for their ids: they were created on two branches.
    pub(super) fn same_namespace(&self, other: &Self) -> bool {
        self.is_namespace() && other.is_namespace() && self.with_id("") == other.with_id("")
    }

    /// JSON with its fields in order, so that equal contents have equal bytes.
    pub(super) fn canonical(&self) -> String {
        let mut text = String::with_capacity(256);
        write_canonical(&self.0, &mut text);
        text
    }
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            text.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(&Value::from(name.as_str()), text);
                text.push(':');
                write_canonical(&fields[name], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        // Writing to a String can't fail.
        leaf => drop(write!(text, "{leaf}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_orders_fields_on_every_level() {
        let content = Content::new(
            json!({"type": "X", "b": {"z": 1.5, "a": [null, "\"ü"]}, "a": 18446744073709551615u64}),
        );
        assert_eq!(
            content.canonical(),
            r#"{"a":18446744073709551615,"b":{"a":[null,"\"ü"],"z":1.5},"type":"X"}"#
        );
    }
}
