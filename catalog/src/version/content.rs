//! Contents: Nessie's JSON objects, kept as they came.

use std::{
    fmt::{self, Write as _},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Content;

/// Nessie's name of an Iceberg table.
pub(crate) const TABLE: &str = "ICEBERG_TABLE";
/// Nessie's name of a namespace.
pub(crate) const NAMESPACE: &str = "NAMESPACE";

/// A content's JSON. Its canonical form is kept once it was needed: a node's bytes hold that of all its contents, however few of
/// them a commit changes.
pub struct Json {
    value: Value,
    canonical: OnceLock<Box<str>>,
}

impl Deref for Json {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl Content {
    /// A content from its JSON.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(Arc::new(Json { value, canonical: OnceLock::new() }))
    }

    /// A content from its canonical form.
    pub(super) fn from_canonical(text: &str) -> serde_json::Result<Self> {
        let value = serde_json::from_str(text)?;
        Ok(Self(Arc::new(Json { value, canonical: OnceLock::from(Box::from(text)) })))
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
        let mut value = self.0.value.clone();
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

    /// Whether it is a table or a view.
    #[must_use]
    pub fn is_table_or_view(&self) -> bool {
        matches!(self.content_type(), TABLE | "ICEBERG_VIEW")
    }

    /// Whether two namespaces are the same but for their ids: they were created on two branches.
    pub(super) fn same_namespace(&self, other: &Self) -> bool {
        self.is_namespace() && other.is_namespace() && self.with_id("") == other.with_id("")
    }

    /// JSON with its fields in order, so that equal contents have equal bytes.
    pub(super) fn canonical(&self) -> &str {
        self.0.canonical.get_or_init(|| {
            let mut text = String::with_capacity(256);
            write_canonical(&self.0, &mut text);
            text.into_boxed_str()
        })
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
