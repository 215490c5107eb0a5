//! The columns of a schema, found by name or id.

use std::collections::BTreeMap;

use serde_json::Value;

use super::primitive::Primitive;
use crate::metadata::schema_fields;

/// Columns that every table has, whatever its schema says.
const RESERVED: [&str; 9] = [
    "_file",
    "_pos",
    "_deleted",
    "_spec_id",
    "_partition",
    "_row_id",
    "_last_updated_sequence_number",
    "_change_type",
    "_commit_snapshot_id",
];

/// A column at any depth.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) id: i64,
    /// Names from the top, joined by dots.
    pub(crate) path: String,
    /// `None` for nested types, and for those whose values aren't compared.
    pub(crate) kind: Option<Primitive>,
    /// Never null.
    pub(crate) required: bool,
    /// Within a list or map, so that a row has several values of it.
    pub(crate) repeated: bool,
}

/// A schema's columns.
pub(crate) struct Columns {
    by_id: BTreeMap<i64, Column>,
    /// In lower case if names are found by any case; then two columns may have one.
    by_name: BTreeMap<String, Vec<i64>>,
    case_sensitive: bool,
}

impl Columns {
    pub(crate) fn new(schema: &Value, case_sensitive: bool) -> Self {
        let column = |(id, field): (i64, crate::metadata::SchemaField<'_>)| {
            let kind = field.kind.as_str().and_then(Primitive::parse);
            let (required, repeated) = (field.required, field.repeated);
            (id, Column { id, path: field.path, kind, required, repeated })
        };
        let by_id: BTreeMap<i64, Column> = schema_fields(schema).into_iter().map(column).collect();
        let mut by_name: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for column in by_id.values() {
            let name = if case_sensitive { column.path.clone() } else { column.path.to_lowercase() };
            by_name.entry(name).or_default().push(column.id);
        }
        Self { by_id, by_name, case_sensitive }
    }

    /// A column by its id.
    pub(crate) fn by_id(&self, id: i64) -> Option<&Column> {
        self.by_id.get(&id)
    }

    /// A column by its full name; the text says why there is none.
    pub(crate) fn named(&self, name: &str) -> Result<&Column, String> {
        let spelled = if self.case_sensitive { name.to_owned() } else { name.to_lowercase() };
        match self.by_name.get(&spelled).map(Vec::as_slice) {
            Some([id]) => self.by_id.get(id).ok_or_else(|| format!("there is no column '{name}'")),
            Some(several) => {
                let paths: Vec<&str> = several.iter().map(|id| self.by_id[id].path.as_str()).collect();
                Err(format!("'{name}' may be any of the columns {}: ask case-sensitively", paths.join(", ")))
            }
            None => Err(format!("there is no column '{name}'")),
        }
    }

    /// Ids of the columns that a list of names means. Columns that all tables have are passed over.
    pub(crate) fn ids(&self, names: &[String], path: &str) -> Result<Vec<i64>, String> {
        let named = names.iter().enumerate().filter(|(_, name)| !RESERVED.contains(&name.as_str()));
        named
            .map(|(index, name)| {
                self.named(name)
                    .map(|column| column.id)
                    .map_err(|error| format!("$.{path}[{index}]: {error}"))
            })
            .collect()
    }
}
