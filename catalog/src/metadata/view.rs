//! Views: the view specification's document, its updates and requirement.

use serde_json::{Map, Value, json};

use super::{Document, MetadataError, error::invalid, schema};

/// Versions that the document keeps, unless the view's property says otherwise.
const DEFAULT_HISTORY: usize = 10;
const HISTORY: &str = "version.history.num-entries";

/// A view to be.
pub(crate) struct NewView {
    /// Root folder.
    pub(crate) location: String,
    /// Uuid.
    pub(crate) uuid: String,
    /// Schema of the view's result.
    pub(crate) schema: Value,
    /// First version.
    pub(crate) view_version: Value,
    /// Properties.
    pub(crate) properties: Map<String, Value>,
}

/// What updates of one commit refer to.
struct ViewChange {
    document: Document,
    now_ms: i64,
    last_schema_id: Option<i64>,
    last_version_id: Option<i64>,
}

/// The document of a new view.
pub(crate) fn new_view(view: NewView, now_ms: i64) -> Result<Document, MetadataError> {
    let mut document = Document::default();
    document.set("view-uuid", view.uuid);
    document.set("format-version", 1);
    document.set("location", view.location.trim_end_matches('/'));
    document.set("properties", Value::Object(view.properties));
    document.set("schemas", Vec::<Value>::new());
    document.set("versions", Vec::<Value>::new());
    document.set("version-log", Vec::<Value>::new());
    let mut version = view.view_version;
    if version.is_object() {
        version["schema-id"] = json!(-1);
    }
    let updates = [
        json!({"action": "add-schema", "schema": view.schema}),
        json!({"action": "add-view-version", "view-version": version}),
        json!({"action": "set-current-view-version", "view-version-id": -1}),
    ];
    apply_view_updates(&document, &updates, now_ms)
}

/// Applies updates to a view's document.
pub(crate) fn apply_view_updates(
    base: &Document,
    updates: &[Value],
    now_ms: i64,
) -> Result<Document, MetadataError> {
    let mut change =
        ViewChange { document: base.clone(), now_ms, last_schema_id: None, last_version_id: None };
    for (index, update) in updates.iter().enumerate() {
        let action = update["action"].as_str().unwrap_or_default();
        change
            .apply(action, update)
            .map_err(|error| error.within(&format!("updates[{index}] ({action})")))?;
    }
    change.expire_versions();
    Ok(change.document)
}

/// Checks requirements against a view.
pub(crate) fn check_view_requirements(view: &Document, requirements: &[Value]) -> Result<(), MetadataError> {
    for requirement in requirements {
        match (requirement["type"].as_str(), requirement["uuid"].as_str()) {
            (Some("assert-view-uuid"), Some(uuid)) => {
                let found = view.uuid().unwrap_or_default();
                if !found.eq_ignore_ascii_case(uuid) {
                    let text = format!("the view's uuid is {found}, not {uuid}: load the view again");
                    return Err(MetadataError::Stale(text));
                }
            }
            (kind, _) => {
                return invalid(format!(
                    "there is no such requirement of a view: {}",
                    kind.unwrap_or("none")
                ));
            }
        }
    }
    Ok(())
}

impl ViewChange {
    fn apply(&mut self, action: &str, update: &Value) -> Result<(), MetadataError> {
        match action {
            "assign-uuid" => match (update["uuid"].as_str(), self.document.uuid()) {
                (Some(uuid), Some(known)) if uuid.eq_ignore_ascii_case(known) => Ok(()),
                _ => invalid("a view's uuid can't change"),
            },
            "upgrade-format-version" if update["format-version"] == 1 => Ok(()),
            "upgrade-format-version" => invalid("views have format version 1"),
            "add-schema" => self.add_schema(&update["schema"]),
            "add-view-version" => self.add_version(&update["view-version"]),
            "set-current-view-version" => self.set_current_version(update),
            "set-location" => match update["location"].as_str() {
                Some(location) => {
                    self.document.set("location", location.trim_end_matches('/'));
                    Ok(())
                }
                None => invalid("'location' is missing or not a text"),
            },
            "set-properties" => {
                let Some(updates) = update["updates"].as_object() else {
                    return invalid("'updates' is missing or not an object");
                };
                self.document.object_mut("properties").extend(updates.clone());
                Ok(())
            }
            "remove-properties" => {
                for key in update["removals"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    self.document.object_mut("properties").remove(key);
                }
                Ok(())
            }
            _ => invalid("there is no such update of a view"),
        }
    }

    fn add_schema(&mut self, schema: &Value) -> Result<(), MetadataError> {
        schema::check(schema, i64::MAX)?;
        let known = self.document.list("schemas").iter().find(|known| schema::same(known, schema));
        let id = if let Some(id) = known.and_then(|known| known["schema-id"].as_i64()) {
            id
        } else {
            let id = self.document.highest("schemas", "schema-id") + 1;
            let mut schema = schema.clone();
            schema["schema-id"] = json!(id);
            self.document.push("schemas", schema);
            id
        };
        self.last_schema_id = Some(id);
        Ok(())
    }

    fn add_version(&mut self, version: &Value) -> Result<(), MetadataError> {
        if !version["representations"].is_array() || !version["default-namespace"].is_array() {
            return invalid("'view-version' lacks 'representations' or 'default-namespace'");
        }
        let mut version = version.clone();
        let schema_id = match (version["schema-id"].as_i64(), self.last_schema_id) {
            (Some(-1), Some(last)) => last,
            (Some(id), _) if self.document.find("schemas", "schema-id", id).is_some() => id,
            _ => return invalid("'view-version.schema-id' names no schema of the view"),
        };
        version["schema-id"] = json!(schema_id);
        let known = self.document.list("versions").iter().find(|known| same_version(known, &version));
        let id = if let Some(id) = known.and_then(|known| known["version-id"].as_i64()) {
            id
        } else {
            let id = self.document.highest("versions", "version-id").max(0) + 1;
            version["version-id"] = json!(id);
            if !version["timestamp-ms"].is_i64() {
                version["timestamp-ms"] = json!(self.now_ms);
            }
            self.document.push("versions", version);
            id
        };
        self.last_version_id = Some(id);
        Ok(())
    }

    fn set_current_version(&mut self, update: &Value) -> Result<(), MetadataError> {
        let id = match (update["view-version-id"].as_i64(), self.last_version_id) {
            (Some(-1), Some(last)) => last,
            (Some(id), _) => id,
            (None, _) => return invalid("'view-version-id' is missing or not an integer"),
        };
        let Some(version) = self.document.find("versions", "version-id", id) else {
            return invalid(format!("the view has no version {id}"));
        };
        if self.document.int("current-version-id") == Some(id) {
            return Ok(());
        }
        let is_new = self.last_version_id == Some(id);
        let timestamp_ms = version["timestamp-ms"].as_i64().filter(|_| is_new).unwrap_or(self.now_ms);
        self.document.set("current-version-id", id);
        let entry = json!({"version-id": id, "timestamp-ms": timestamp_ms});
        self.document.push("version-log", entry);
        Ok(())
    }

    /// Keeps the newest versions and always the current one; the log loses what no version is left for.
    fn expire_versions(&mut self) {
        let setting = self.document.property(HISTORY).and_then(|text| text.parse::<usize>().ok());
        let most = setting.unwrap_or(DEFAULT_HISTORY).max(1);
        let current = self.document.int("current-version-id");
        let excess = self.document.list("versions").len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let mut ids: Vec<i64> = self
            .document
            .list("versions")
            .iter()
            .filter_map(|version| version["version-id"].as_i64())
            .collect();
        ids.sort_unstable();
        ids.retain(|id| Some(*id) != current);
        ids.truncate(excess);
        let kept = |holder: &Value| holder["version-id"].as_i64().is_none_or(|id| !ids.contains(&id));
        self.document.list_mut("versions").retain(|version| kept(version));
        let gap = self.document.list("version-log").iter().rposition(|entry| !kept(entry));
        if let Some(gap) = gap {
            self.document.list_mut("version-log").drain(..=gap);
        }
    }
}

fn same_version(left: &Value, right: &Value) -> bool {
    let fields = ["schema-id", "summary", "representations", "default-catalog", "default-namespace"];
    fields.iter().all(|field| left[field] == right[field])
}
