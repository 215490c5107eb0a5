//! Branches and tags within a table: `set-snapshot-ref`, `remove-snapshot-ref`.

use serde_json::{Map, Value, json};

use super::{MetadataError, error::invalid, update::Change};

const MAIN: &str = "main";
/// What a reference consists of, besides its type and snapshot.
const RETENTION: [&str; 3] = ["max-ref-age-ms", "max-snapshot-age-ms", "min-snapshots-to-keep"];

impl Change {
    /// `set-snapshot-ref`: replaces the whole reference. Setting `main` makes the snapshot current.
    pub(super) fn set_reference(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(name) = update["ref-name"].as_str().filter(|name| !name.is_empty()) else {
            return invalid("'ref-name' is missing or empty");
        };
        let reference = parse(name, update)?;
        let id = reference["snapshot-id"].as_i64().unwrap_or_default();
        if self.document.find("snapshots", "snapshot-id", id).is_none() {
            return invalid(format!("the table has no snapshot {id} for the reference '{name}'"));
        }
        let before = self.document.object("refs").and_then(|refs| refs.get(name)).cloned();
        if before.as_ref() == Some(&reference) {
            return Ok(());
        }
        let previous = before.and_then(|before| before["snapshot-id"].as_i64());
        if let Some(previous) = previous.filter(|previous| reference["type"] == "branch" && *previous != id) {
            self.check_lineage(name, previous, id)?;
        }
        self.document.object_mut("refs").insert(name.to_owned(), reference);
        if name == MAIN {
            self.document.set("current-snapshot-id", id);
            if previous != Some(id) {
                self.log_current(id);
            }
        }
        Ok(())
    }

    /// `remove-snapshot-ref`: one that doesn't exist is no error.
    pub(super) fn remove_reference(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(name) = update["ref-name"].as_str() else { return invalid("'ref-name' is missing") };
        self.drop_reference(name);
        Ok(())
    }

    pub(super) fn drop_reference(&mut self, name: &str) {
        self.document.object_mut("refs").remove(name);
        if name == MAIN {
            self.document.set("current-snapshot-id", -1);
        }
    }

    /// A branch may move to any old snapshot (rollback), and to a new one that descends from where it is. A new one
    /// that has another parent was built on a state that is no longer there: a lost race. One without a parent replaces
    /// the table's content on purpose.
    fn check_lineage(&self, name: &str, previous: i64, id: i64) -> Result<(), MetadataError> {
        let mut current = id;
        while self.added_snapshots.contains_key(&current) {
            let snapshot = self.document.find("snapshots", "snapshot-id", current);
            match snapshot.and_then(|snapshot| snapshot["parent-snapshot-id"].as_i64()) {
                None | Some(-1) => return Ok(()),
                Some(parent) if parent == previous => return Ok(()),
                Some(parent) if parent == current => break,
                Some(parent) => current = parent,
            }
        }
        if current == id {
            return Ok(());
        }
        Err(MetadataError::Stale(format!(
            "snapshot {id} was built on snapshot {current}, but '{name}' is at {previous} now: load the table again"
        )))
    }
}

fn parse(name: &str, update: &Value) -> Result<Value, MetadataError> {
    let kind = update["type"].as_str().unwrap_or_default();
    if !matches!(kind, "branch" | "tag") {
        return invalid(format!("'type' of the reference '{name}' is neither branch nor tag"));
    }
    if name == MAIN && kind != "branch" {
        return invalid("'main' can't be a tag");
    }
    let Some(id) = update["snapshot-id"].as_i64() else {
        return invalid(format!("'snapshot-id' of the reference '{name}' is missing or not an integer"));
    };
    let mut reference = Map::new();
    reference.insert("type".to_owned(), json!(kind));
    reference.insert("snapshot-id".to_owned(), json!(id));
    for field in RETENTION {
        match &update[field] {
            Value::Null => continue,
            value if value.as_i64().is_some_and(|number| number > 0) => {
                if kind == "tag" && field != "max-ref-age-ms" {
                    return invalid(format!("a tag such as '{name}' can't have '{field}'"));
                }
                reference.insert(field.to_owned(), value.clone());
            }
            _ => return invalid(format!("'{field}' of the reference '{name}' is not a positive integer")),
        }
    }
    Ok(Value::Object(reference))
}
