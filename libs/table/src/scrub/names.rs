//! Locations that are compared, and columns by all names they ever had.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// A location in the one form in which two of the same file are equal.
pub(super) fn plain(location: &str) -> String {
    for prefix in ["file://", "file:"] {
        if let Some(path) = location.strip_prefix(prefix) {
            return path.to_owned();
        }
    }
    for scheme in ["s3a://", "s3n://"] {
        if let Some(rest) = location.strip_prefix(scheme) {
            return format!("s3://{rest}");
        }
    }
    location.to_owned()
}

/// Names of a table's top-level columns by their ids, over all its schemas: a data file keeps the name that a column had when it
/// was written.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnNames(HashMap<i32, BTreeSet<String>>);

impl ColumnNames {
    /// Adds those of a metadata document.
    pub(super) fn add(&mut self, document: &Value) {
        for schema in document["schemas"].as_array().into_iter().flatten() {
            for field in schema["fields"].as_array().into_iter().flatten() {
                let id = field["id"].as_i64().and_then(|id| i32::try_from(id).ok());
                if let (Some(id), Some(name)) = (id, field["name"].as_str()) {
                    self.0.entry(id).or_default().insert(name.to_owned());
                }
            }
        }
    }

    /// Whether a column of a file is, or ever was, called `name`.
    pub(super) fn is(&self, field: &arrow::datatypes::Field, name: &str) -> bool {
        let names = crate::schema::field_id(field).and_then(|id| self.0.get(&id));
        field.name() == name || names.is_some_and(|names| names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_location_are_equal() {
        assert_eq!(plain("file:///a/b"), plain("file:/a/b"));
        assert_eq!(plain("s3a://bucket/a"), plain("s3://bucket/a"));
        assert_ne!(plain("s3://bucket/a"), plain("s3://bucket/b"));
    }
}
