//! Partition specs: `add-spec`, `set-default-spec`, `remove-partition-specs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Document, MetadataError, error::invalid, schema, types::transform_misfit, update::Change};

/// Partition field ids start after this one.
const FIRST_PARTITION_ID: i64 = 999;

impl Change {
    /// `add-spec`: an equal spec is reused, whatever its ids and unknown fields say.
    pub(super) fn add_spec(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(spec) = update.get("spec").filter(|spec| spec["fields"].is_array()) else {
            return invalid("'spec' is missing or has no list 'fields'");
        };
        check_names(spec)?;
        let known = self.document.list("partition-specs").iter().find(|known| same(known, spec));
        if let Some(id) = known.and_then(|known| known["spec-id"].as_i64()) {
            self.last_spec_id = Some(id);
            return Ok(());
        }
        let mut spec = spec.clone();
        self.give_field_ids(&mut spec)?;
        let id = self.document.highest("partition-specs", "spec-id") + 1;
        spec["spec-id"] = json!(id);
        self.document.push("partition-specs", spec);
        self.last_spec_id = Some(id);
        self.added_specs.insert(id);
        Ok(())
    }

    /// `set-default-spec`; -1 means the one just added.
    pub(super) fn set_default_spec(&mut self, update: &Value) -> Result<(), MetadataError> {
        let id = self.chosen_id(update, "spec-id", self.last_spec_id, "partition spec")?;
        if self.document.find("partition-specs", "spec-id", id).is_none() {
            return invalid(format!("the table has no partition spec {id}"));
        }
        self.document.set("default-spec-id", id);
        self.layout_changed = true;
        Ok(())
    }

    /// `remove-partition-specs`: ids that don't exist are no error.
    pub(super) fn remove_specs(&mut self, update: &Value) -> Result<(), MetadataError> {
        let ids = super::update::id_list(update, "spec-ids")?;
        if let Some(default) = self.document.int("default-spec-id").filter(|id| ids.contains(id)) {
            return invalid(format!("partition spec {default} is the default one and can't be removed"));
        }
        let kept = |spec: &Value| spec["spec-id"].as_i64().is_none_or(|id| !ids.contains(&id));
        self.document.list_mut("partition-specs").retain(|spec| kept(spec));
        Ok(())
    }

    /// Fields without an id get the one of an equal field of an older spec, or the next free one.
    fn give_field_ids(&mut self, spec: &mut Value) -> Result<(), MetadataError> {
        let mut last = self.document.int("last-partition-id").unwrap_or(FIRST_PARTITION_ID);
        let mut used = BTreeSet::new();
        let fields = spec["fields"].as_array_mut();
        for field in fields.into_iter().flatten() {
            let id = match field["field-id"].as_i64() {
                Some(id) => id,
                None => older_id(&self.document, field).unwrap_or(last + 1),
            };
            if !used.insert(id) {
                return invalid(format!("two fields of the spec have the id {id}"));
            }
            last = last.max(id);
            field["field-id"] = json!(id);
        }
        if self.document.format_version() == 1 && !used.iter().copied().eq((1000..).take(used.len())) {
            return invalid("format version 1 needs partition field ids without gaps from 1000 on");
        }
        self.document.set("last-partition-id", last);
        Ok(())
    }

    /// Checks the default spec, and those added, against the schema that the commit leaves behind.
    pub(super) fn check_specs(&self) -> Result<(), MetadataError> {
        let Some(schema) = self.document.current_schema() else { return Ok(()) };
        let columns = schema::fields(schema);
        let default = self.document.int("default-spec-id");
        for spec in self.document.list("partition-specs") {
            let id = spec["spec-id"].as_i64();
            let is_new = id.is_some_and(|id| self.added_specs.contains(&id));
            if id != default && !is_new {
                continue;
            }
            for field in spec["fields"].as_array().into_iter().flatten() {
                let name = field["name"].as_str().unwrap_or_default();
                check_source(field, "partition field", name, &columns)?;
                let clash = columns.iter().find(|(_, column)| column.path == name);
                let is_source = |column: &i64| field["source-id"].as_i64() == Some(*column);
                let allowed = |column: &i64| field["transform"] == "identity" && is_source(column);
                if is_new && clash.is_some_and(|(column, _)| !allowed(column)) {
                    return invalid(format!("the partition field '{name}' has the name of another column"));
                }
            }
        }
        Ok(())
    }
}

/// Checks that the source column of a partition or sort field exists and takes its transform.
pub(super) fn check_source(
    field: &Value,
    what: &str,
    name: &str,
    columns: &std::collections::BTreeMap<i64, schema::Field<'_>>,
) -> Result<(), MetadataError> {
    let transform = field["transform"].as_str().unwrap_or_default();
    let Some(source) = field["source-id"].as_i64() else {
        // Transforms of several columns (format version 3) are kept as they are.
        let has_several = field["source-ids"].is_array();
        return if has_several { Ok(()) } else { invalid(format!("the {what} '{name}' has no source-id")) };
    };
    let Some(column) = columns.get(&source) else {
        let gone = transform == "void";
        return if gone {
            Ok(())
        } else {
            invalid(format!("the {what} '{name}' has no source column: {source}"))
        };
    };
    match transform_misfit(transform, column.kind) {
        Some(reason) => invalid(format!("the {what} '{name}': {reason}")),
        None => Ok(()),
    }
}

/// A version 1 document may have one `partition-spec` instead of a list.
pub(super) fn adopt_single(document: &mut Document) {
    if !document.list("partition-specs").is_empty() {
        return;
    }
    let fields = document.list("partition-spec").to_vec();
    document.set("partition-specs", vec![json!({"spec-id": 0, "fields": fields})]);
    document.set("default-spec-id", 0);
}

fn older_id(document: &Document, field: &Value) -> Option<i64> {
    let specs = document.list("partition-specs").iter();
    let mut fields = specs.filter_map(|spec| spec["fields"].as_array()).flatten();
    let same =
        |old: &&Value| old["source-id"] == field["source-id"] && old["transform"] == field["transform"];
    fields.find(same)?["field-id"].as_i64()
}

fn check_names(spec: &Value) -> Result<(), MetadataError> {
    let mut names = BTreeSet::new();
    for field in spec["fields"].as_array().into_iter().flatten() {
        let (name, transform) = (field["name"].as_str().unwrap_or_default(), field["transform"].as_str());
        if name.is_empty() || transform.is_none() {
            return invalid("a field of the spec lacks 'name' or 'transform'");
        }
        if !names.insert(name) {
            return invalid(format!("two fields of the spec are named '{name}'"));
        }
    }
    Ok(())
}

fn same(left: &Value, right: &Value) -> bool {
    let fields = |spec: &Value| -> Vec<Value> {
        let fields = spec["fields"].as_array().into_iter().flatten();
        fields
            .map(|field| json!([field["source-id"], field["source-ids"], field["transform"], field["name"]]))
            .collect()
    };
    fields(left) == fields(right)
}
