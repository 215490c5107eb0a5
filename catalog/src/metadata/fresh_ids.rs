//! Field ids of a new table: the client's are only names for references within the request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Gives the fields of a schema fresh ids from 1 on, level by level as Iceberg's own libraries do. Answers new ids by old.
pub(super) fn assign(schema: &mut Value) -> BTreeMap<i64, i64> {
    let mut ids = Ids { next: 1, new_by_old: BTreeMap::new() };
    ids.structure(schema);
    if let Some(identifiers) = schema.get_mut("identifier-field-ids").and_then(Value::as_array_mut) {
        for id in identifiers {
            ids.translate(id);
        }
    }
    ids.new_by_old
}

/// Replaces the `source-id` of each field of a partition spec or sort order.
pub(super) fn translate_sources(layout: &mut Value, new_by_old: &BTreeMap<i64, i64>) {
    let ids = Ids { next: 0, new_by_old: new_by_old.clone() };
    for field in layout.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(id) = field.get_mut("source-id") {
            ids.translate(id);
        }
        for id in field.get_mut("source-ids").and_then(Value::as_array_mut).into_iter().flatten() {
            ids.translate(id);
        }
    }
}

struct Ids {
    next: i64,
    new_by_old: BTreeMap<i64, i64>,
}

impl Ids {
    fn structure(&mut self, kind: &mut Value) {
        let Some(fields) = kind.get_mut("fields").and_then(Value::as_array_mut) else { return };
        for field in fields.iter_mut() {
            self.assign(field, "id");
        }
        for field in fields {
            self.below(&mut field["type"]);
        }
    }

    fn below(&mut self, kind: &mut Value) {
        match kind.get("type").and_then(Value::as_str) {
            Some("struct") => self.structure(kind),
            Some("list") => {
                self.assign(kind, "element-id");
                self.below(&mut kind["element"]);
            }
            Some("map") => {
                self.assign(kind, "key-id");
                self.assign(kind, "value-id");
                self.below(&mut kind["key"]);
                self.below(&mut kind["value"]);
            }
            _ => {}
        }
    }

    fn assign(&mut self, holder: &mut Value, name: &str) {
        if !holder.is_object() {
            return;
        }
        if let Some(old) = holder[name].as_i64() {
            self.new_by_old.insert(old, self.next);
        }
        holder[name] = json!(self.next);
        self.next += 1;
    }

    fn translate(&self, id: &mut Value) {
        if let Some(new) = id.as_i64().and_then(|old| self.new_by_old.get(&old)) {
            *id = json!(new);
        }
    }
}
