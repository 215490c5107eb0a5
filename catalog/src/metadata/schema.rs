//! Schemas: `add-schema`, `set-current-schema`, `remove-schemas`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Document, MetadataError, error::invalid, types::primitive_since, update::Change};

/// Deeper nesting than any table has; bounds the recursion over what clients send.
const MAX_DEPTH: usize = 64;

/// A field of a schema at any depth.
pub(crate) struct Field<'a> {
    /// Names from the top, joined by dots.
    pub(crate) path: String,
    /// Type: a text, or an object.
    pub(crate) kind: &'a Value,
    /// Required, itself and everything above.
    pub(crate) required: bool,
    /// Within a list or map.
    pub(crate) repeated: bool,
}

impl Change {
    /// `add-schema`: an equal schema is reused, whatever its id and unknown fields say.
    pub(super) fn add_schema(&mut self, update: &Value) -> Result<(), MetadataError> {
        let schema = update.get("schema").filter(|schema| schema.is_object());
        let Some(schema) = schema else { return invalid("'schema' is missing or not an object") };
        let fields = check(schema, self.document.format_version())?;
        let highest = fields.keys().max().copied().unwrap_or_default();
        let last = self.document.int("last-column-id").unwrap_or_default();
        self.document.set("last-column-id", last.max(highest));

        let known = self.document.list("schemas").iter().find(|known| same(known, schema));
        let id = if let Some(known) = known {
            known["schema-id"].as_i64().unwrap_or_default()
        } else {
            let id = self.document.highest("schemas", "schema-id") + 1;
            let mut schema = schema.clone();
            schema["schema-id"] = json!(id);
            schema["type"] = json!("struct");
            self.document.push("schemas", schema);
            id
        };
        self.last_schema_id = Some(id);
        Ok(())
    }

    /// `set-current-schema`; -1 means the one just added.
    pub(super) fn set_current_schema(&mut self, update: &Value) -> Result<(), MetadataError> {
        let id = self.chosen_id(update, "schema-id", self.last_schema_id, "schema")?;
        if self.document.find("schemas", "schema-id", id).is_none() {
            return invalid(format!("the table has no schema {id}"));
        }
        self.document.set("current-schema-id", id);
        self.layout_changed = true;
        Ok(())
    }

    /// `remove-schemas`: ids that don't exist are no error.
    pub(super) fn remove_schemas(&mut self, update: &Value) -> Result<(), MetadataError> {
        let ids = super::update::id_list(update, "schema-ids")?;
        if let Some(current) = self.document.int("current-schema-id").filter(|id| ids.contains(id)) {
            return invalid(format!("schema {current} is the current one and can't be removed"));
        }
        let kept = |schema: &Value| schema["schema-id"].as_i64().is_none_or(|id| !ids.contains(&id));
        self.document.list_mut("schemas").retain(|schema| kept(schema));
        Ok(())
    }
}

/// A version 1 document may have one `schema` instead of a list.
pub(super) fn adopt_single(document: &mut Document) {
    if !document.list("schemas").is_empty() {
        return;
    }
    let Some(mut schema) = document.object("schema").cloned().map(Value::Object) else {
        return;
    };
    let id = schema["schema-id"].as_i64().unwrap_or_default();
    schema["schema-id"] = json!(id);
    document.set("schemas", vec![schema]);
    document.set("current-schema-id", id);
}

/// Checks a schema; answers its fields by id.
pub(super) fn check(schema: &Value, format_version: i64) -> Result<BTreeMap<i64, Field<'_>>, MetadataError> {
    let mut walk = Walk { format_version, fields: BTreeMap::new(), paths: BTreeSet::new() };
    walk.structure(schema, "", true, false, 0)?;
    let identifiers = schema.get("identifier-field-ids").and_then(Value::as_array);
    for id in identifiers.into_iter().flatten() {
        let field = id.as_i64().and_then(|id| walk.fields.get(&id));
        let Some(field) = field else {
            return invalid(format!("identifier field {id} is not in the schema"));
        };
        let unfit = if field.repeated {
            "is within a list or map"
        } else if !field.required {
            "is optional"
        } else if !field.kind.is_string() {
            "is not a primitive"
        } else if matches!(field.kind.as_str(), Some("float" | "double")) {
            "is a floating-point number"
        } else {
            continue;
        };
        return invalid(format!("identifier field '{}' {unfit}", field.path));
    }
    Ok(walk.fields)
}

/// Fields of a schema that was checked before, by id.
pub(crate) fn fields(schema: &Value) -> BTreeMap<i64, Field<'_>> {
    check(schema, i64::MAX).unwrap_or_default()
}

struct Walk<'a> {
    format_version: i64,
    fields: BTreeMap<i64, Field<'a>>,
    paths: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn structure(
        &mut self,
        kind: &'a Value,
        path: &str,
        required: bool,
        repeated: bool,
        depth: usize,
    ) -> Result<(), MetadataError> {
        let Some(fields) = kind.get("fields").and_then(Value::as_array) else {
            return invalid(format!("the struct '{path}' has no list 'fields'"));
        };
        for field in fields {
            let Some(name) = field["name"].as_str().filter(|name| !name.is_empty()) else {
                return invalid(format!("a field of '{path}' has no name"));
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let required = required && field["required"].as_bool().unwrap_or_default();
            if self.format_version < 3 && field.get("initial-default").is_some_and(|value| !value.is_null()) {
                return invalid(format!("the default of '{path}' needs format version 3"));
            }
            self.field(&field["id"], &field["type"], path, required, repeated, depth)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        id: &Value,
        kind: &'a Value,
        path: String,
        required: bool,
        repeated: bool,
        depth: usize,
    ) -> Result<(), MetadataError> {
        if depth > MAX_DEPTH {
            return invalid(format!("'{path}' is nested deeper than {MAX_DEPTH} levels"));
        }
        let Some(id) = id.as_i64() else { return invalid(format!("the field '{path}' has no integer id")) };
        if !self.paths.insert(path.clone()) {
            return invalid(format!("the schema has two fields named '{path}'"));
        }
        let field = Field { path: path.clone(), kind, required, repeated };
        if let Some(other) = self.fields.insert(id, field) {
            return invalid(format!("the fields '{}' and '{path}' have the same id {id}", other.path));
        }
        match kind {
            Value::String(name) => self.primitive(name, &path),
            _ => self.nested(kind, &path, required, repeated, depth),
        }
    }

    fn primitive(&self, name: &str, path: &str) -> Result<(), MetadataError> {
        match primitive_since(name) {
            None => invalid(format!("'{path}' has the unknown type '{name}'")),
            Some(since) if since > self.format_version => {
                invalid(format!("'{path}' has the type '{name}', which needs format version {since}"))
            }
            Some(_) => Ok(()),
        }
    }

    fn nested(
        &mut self,
        kind: &'a Value,
        path: &str,
        required: bool,
        repeated: bool,
        depth: usize,
    ) -> Result<(), MetadataError> {
        let below = depth + 1;
        match kind["type"].as_str() {
            Some("struct") => self.structure(kind, path, required, repeated, below),
            Some("list") => self.field(
                &kind["element-id"],
                &kind["element"],
                format!("{path}.element"),
                required,
                true,
                below,
            ),
            Some("map") => {
                self.field(&kind["key-id"], &kind["key"], format!("{path}.key"), required, true, below)?;
                self.field(&kind["value-id"], &kind["value"], format!("{path}.value"), required, true, below)
            }
            _ => invalid(format!("'{path}' has no type: a text, or an object of type struct, list or map")),
        }
    }
}

/// Whether two schemas mean the same: what the specification names, and nothing else.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    let identifiers = |schema: &Value| -> BTreeSet<i64> {
        let ids = schema.get("identifier-field-ids").and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(Value::as_i64).collect()
    };
    identifiers(left) == identifiers(right) && canonical_type(left) == canonical_type(right)
}

fn canonical_type(kind: &Value) -> Value {
    match kind {
        Value::String(name) => json!(name.replace(' ', "")),
        _ if kind["type"] == "list" => {
            json!(["list", kind["element-id"], kind["element-required"], canonical_type(&kind["element"])])
        }
        _ if kind["type"] == "map" => json!([
            "map",
            kind["key-id"],
            kind["value-id"],
            kind["value-required"],
            canonical_type(&kind["key"]),
            canonical_type(&kind["value"])
        ]),
        _ => {
            let fields = kind.get("fields").and_then(Value::as_array);
            let fields = fields.into_iter().flatten().map(|field| {
                json!([
                    field["id"],
                    field["name"],
                    field["required"].as_bool().unwrap_or_default(),
                    field["doc"],
                    field["initial-default"],
                    field["write-default"],
                    canonical_type(&field["type"])
                ])
            });
            Value::Array(fields.collect())
        }
    }
}
