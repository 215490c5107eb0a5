//! What two sides made of a table, judged by its documents alone.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{iceberg::POSITION_PREFIX, metadata::Document};

/// What a replayed side must have left as it was, and how people call it.
const LAYOUT: [(&str, &str); 10] = [
    ("table-uuid", "uuid"),
    ("format-version", "format version"),
    ("location", "location"),
    ("schemas", "schema"),
    ("current-schema-id", "schema"),
    ("partition-specs", "partition spec"),
    ("default-spec-id", "partition spec"),
    ("sort-orders", "sort order"),
    ("default-sort-order-id", "sort order"),
    ("encryption-keys", "encryption keys"),
];

/// Operations that keep all rows that were there.
const APPEND: &str = "append";
const REPLACE: &str = "replace";
const MAIN: &str = "main";

/// One side's state of a table.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// `source` or `target`.
    pub(super) name: &'static str,
    pub(super) document: &'a Document,
}

/// A table's state before both sides, and which side's changes are to be replayed onto which.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) base: &'a Document,
    pub(super) replayed: Side<'a>,
    pub(super) onto: Side<'a>,
}

/// A snapshot of a side's line, since the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) id: i64,
    pub(super) operation: String,
}

/// The snapshots of a side since the base, oldest first.
pub(super) struct Line {
    pub(super) steps: Vec<Step>,
    /// Whether it goes back to the base; snapshots in between may have expired.
    pub(super) complete: bool,
}

impl Sides<'_> {
    /// Updates that bring the replayed side's changes of properties and references onto the other.
    pub(super) fn metadata_updates(&self) -> Result<Vec<Value>, String> {
        if self.onto.document.uuid() != self.base.uuid() {
            return Err(format!("the {} holds another table of the same name", self.onto.name));
        }
        for (field, word) in LAYOUT {
            if self.replayed.document.field(field) != self.base.field(field) {
                return Err(format!("the {} changed the table's {word}", self.replayed.name));
            }
        }
        let mut updates = self.property_updates()?;
        updates.extend(self.reference_updates()?);
        Ok(updates)
    }

    fn property_updates(&self) -> Result<Vec<Value>, String> {
        let none = Map::new();
        let properties = |document: &'_ Document| document.object("properties").cloned().unwrap_or_default();
        let (base, onto) = (properties(self.base), properties(self.onto.document));
        let replayed = self.replayed.document.object("properties").unwrap_or(&none);
        let (mut set, mut removed) = (Map::new(), Vec::new());
        let names: BTreeSet<&String> = base.keys().chain(replayed.keys()).chain(onto.keys()).collect();
        for name in names {
            let (before, there, here) = (base.get(name), replayed.get(name), onto.get(name));
            let (moved_there, moved_here) = (there != before, here != before);
            // Of positions it says that both took records of one partition since they parted, even if both came as far:
            // merged, those records would be there twice.
            let differs = there != here || name.starts_with(POSITION_PREFIX);
            if moved_there && moved_here && differs {
                return Err(format!("the property '{name}' was changed on both sides"));
            }
            match there {
                _ if !moved_there || there == here => {}
                Some(value) => drop(set.insert(name.clone(), value.clone())),
                None => removed.push(name.clone()),
            }
        }
        let mut updates = Vec::new();
        if !set.is_empty() {
            updates.push(json!({"action": "set-properties", "updates": set}));
        }
        if !removed.is_empty() {
            updates.push(json!({"action": "remove-properties", "removals": removed}));
        }
        Ok(updates)
    }

    /// Branches and tags within the table. Where `main` points is the replay's to say; what else it holds is merged.
    fn reference_updates(&self) -> Result<Vec<Value>, String> {
        let none = Map::new();
        let references = |document| Document::object(document, "refs").unwrap_or(&none);
        let (base, onto) = (references(self.base), references(self.onto.document));
        let replayed = references(self.replayed.document);
        let mut updates = Vec::new();
        let names: BTreeSet<&String> = base.keys().chain(replayed.keys()).collect();
        for name in names {
            let (before, there, here) = (base.get(name), replayed.get(name), onto.get(name));
            if name == MAIN {
                if let (Some(before), Some(there)) = (before, there)
                    && retention(before) != retention(there)
                {
                    return Err(format!("the {} changed the retention of 'main'", self.replayed.name));
                }
                continue;
            }
            if there == before || there == here {
                continue;
            }
            if here != before {
                return Err(format!("the table's reference '{name}' was changed on both sides"));
            }
            let Some(there) = there else {
                updates.push(json!({"action": "remove-snapshot-ref", "ref-name": name}));
                continue;
            };
            let id = there["snapshot-id"].as_i64().unwrap_or(-1);
            if self.onto.document.snapshot(id).is_none() {
                let side = self.replayed.name;
                return Err(format!(
                    "the {side} set the table's reference '{name}' to a snapshot of its own"
                ));
            }
            updates.push(set_reference(name, there, id));
        }
        Ok(updates)
    }

    /// The replayed side's snapshots, if none of them changed or removed rows.
    pub(super) fn replayable_line(&self) -> Result<Line, String> {
        let line = line(self.base, self.replayed)?;
        match line.steps.iter().find(|step| step.operation != APPEND && step.operation != REPLACE) {
            None => Ok(line),
            Some(step) => Err(format!(
                "the {} changed or removed rows (snapshot {} is of operation '{}')",
                self.replayed.name, step.id, step.operation
            )),
        }
    }

    /// That rows of files with the base's columns can be read as rows of the other side's schema.
    pub(super) fn check_readable(&self) -> Result<(), String> {
        let last = self.base.int("last-column-id").unwrap_or_default();
        let schema = self.onto.document.current_schema();
        match schema.and_then(|schema| new_required(schema, last)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "the {} added the required column '{name}', which rows of the {} don't have",
                self.onto.name, self.replayed.name
            )),
        }
    }
}

/// An update that points a reference to a snapshot and keeps the rest of it.
pub(super) fn set_reference(name: &str, reference: &Value, snapshot_id: i64) -> Value {
    let mut update = reference.as_object().cloned().unwrap_or_default();
    update.insert("action".to_owned(), json!("set-snapshot-ref"));
    update.insert("ref-name".to_owned(), json!(name));
    update.entry("type").or_insert_with(|| json!("branch"));
    update.insert("snapshot-id".to_owned(), json!(snapshot_id));
    Value::Object(update)
}

/// Refuses a target that did anything but rewrite files.
pub(super) fn only_rewrites(base: &Document, target: &Document) -> Result<(), String> {
    let line = line(base, Side { name: "target", document: target })?;
    match line.steps.iter().find(|step| step.operation != REPLACE) {
        _ if !line.complete => Err("snapshots of the target have expired".to_owned()),
        None => Ok(()),
        Some(step) => Err(format!("snapshot {} of the target is of operation '{}'", step.id, step.operation)),
    }
}

fn line(base: &Document, side: Side<'_>) -> Result<Line, String> {
    let from = base.current_snapshot_id();
    let mut next = side.document.current_snapshot_id();
    let mut steps = Vec::new();
    let mut complete = false;
    loop {
        if next == from {
            complete = true;
            break;
        }
        let Some(id) = next else {
            return Err(format!("the {} replaced the table's rows or rolled it back", side.name));
        };
        // Each step is another snapshot of the document; the bound guards against a malformed circle.
        let bound = side.document.list("snapshots").len();
        let Some(snapshot) = side.document.snapshot(id).filter(|_| steps.len() < bound) else { break };
        let operation = snapshot["summary"]["operation"].as_str().unwrap_or_default().to_owned();
        steps.push(Step { id, operation });
        next = snapshot["parent-snapshot-id"].as_i64().filter(|id| *id != -1);
    }
    steps.reverse();
    Ok(Line { steps, complete })
}

/// A reference without where it points.
fn retention(reference: &Value) -> Map<String, Value> {
    let mut rest = reference.as_object().cloned().unwrap_or_default();
    rest.remove("snapshot-id");
    rest
}

/// A required field, at any depth, with an id above `last` and no value for rows written before it.
fn new_required(value: &Value, last: i64) -> Option<String> {
    match value {
        Value::Array(all) => all.iter().find_map(|value| new_required(value, last)),
        Value::Object(fields) => {
            let is_new = fields.get("id").and_then(Value::as_i64).is_some_and(|id| id > last);
            let required = fields.get("required") == Some(&Value::Bool(true));
            let fills = fields.get("initial-default").is_some_and(|value| !value.is_null());
            if is_new && required && !fills {
                return fields.get("name").and_then(Value::as_str).map(str::to_owned);
            }
            fields.values().find_map(|value| new_required(value, last))
        }
        _ => None,
    }
}
