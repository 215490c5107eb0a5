//! Applying a commit's updates, one after another, to a document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Document, MetadataError, error::invalid};

/// Latest format version that Firn knows.
const MAX_FORMAT_VERSION: i64 = 3;
const DEFAULT_FORMAT_VERSION: i64 = 2;

/// What a commit needs to know beside its updates.
pub(crate) struct ApplyContext<'a> {
    /// Milliseconds since the epoch.
    pub(crate) now_ms: i64,
    /// The metadata file that the commit replaces.
    pub(crate) previous_location: Option<&'a str>,
    /// Location of a new table whose updates name none.
    pub(crate) default_location: &'a str,
    /// Uuid of a new table whose updates assign none.
    pub(crate) fresh_uuid: &'a str,
}

/// A document in change, and what updates of the same commit refer to.
pub(super) struct Change {
    pub(super) document: Document,
    pub(super) now_ms: i64,
    pub(super) last_schema_id: Option<i64>,
    pub(super) last_spec_id: Option<i64>,
    pub(super) last_order_id: Option<i64>,
    pub(super) added_specs: BTreeSet<i64>,
    /// Times of snapshots added by this commit, by id.
    pub(super) added_snapshots: BTreeMap<i64, i64>,
    pub(super) snapshots_removed: bool,
    /// Current schema, default spec or default order was set, so that they must be checked against each other.
    pub(super) layout_changed: bool,
    /// The table is being created.
    pub(super) is_new: bool,
}

/// Applies updates to a table's document, or to nothing for a table that is being created. Answers `None` if they
/// change nothing.
pub(crate) fn apply_updates(
    base: Option<&Document>,
    updates: &[Value],
    context: &ApplyContext<'_>,
) -> Result<Option<Document>, MetadataError> {
    let document = base.cloned().unwrap_or_else(|| empty(updates));
    let mut change = Change {
        document,
        now_ms: context.now_ms,
        last_schema_id: None,
        last_spec_id: None,
        last_order_id: None,
        added_specs: BTreeSet::new(),
        added_snapshots: BTreeMap::new(),
        snapshots_removed: false,
        layout_changed: false,
        is_new: base.is_none(),
    };
    for (index, update) in updates.iter().enumerate() {
        let action = update["action"].as_str().unwrap_or_default();
        change
            .apply(action, update)
            .map_err(|error| error.within(&format!("updates[{index}] ({action})")))?;
    }
    if base == Some(&change.document) {
        return Ok(None);
    }
    change.finish(context)?;
    Ok(Some(change.document))
}

/// A document without anything but the version it will have: there is no downgrade within a create.
fn empty(updates: &[Value]) -> Document {
    let by_update = updates.iter().filter(|update| update["action"] == "upgrade-format-version");
    let by_property = updates.iter().filter_map(|update| update["updates"]["format-version"].as_str());
    let version = by_update.filter_map(|update| update["format-version"].as_i64()).next();
    let version = version.or_else(|| by_property.filter_map(|text| text.parse().ok()).next());
    let mut document = Document::default();
    document.set("format-version", version.unwrap_or(DEFAULT_FORMAT_VERSION).min(DEFAULT_FORMAT_VERSION));
    document
}

impl Change {
    fn apply(&mut self, action: &str, update: &Value) -> Result<(), MetadataError> {
        match action {
            "assign-uuid" => self.assign_uuid(update),
            "upgrade-format-version" => match update["format-version"].as_i64() {
                Some(version) => self.upgrade_to(version),
                None => invalid("'format-version' is missing or not an integer"),
            },
            "add-schema" => self.add_schema(update),
            "set-current-schema" => self.set_current_schema(update),
            "remove-schemas" => self.remove_schemas(update),
            "add-spec" => self.add_spec(update),
            "set-default-spec" => self.set_default_spec(update),
            "remove-partition-specs" => self.remove_specs(update),
            "add-sort-order" => self.add_sort_order(update),
            "set-default-sort-order" => self.set_default_sort_order(update),
            "add-snapshot" => self.add_snapshot(update),
            "remove-snapshots" => self.remove_snapshots(update),
            "set-snapshot-ref" => self.set_reference(update),
            "remove-snapshot-ref" => self.remove_reference(update),
            "set-location" => self.set_location(update),
            "set-properties" => self.set_properties(update),
            "remove-properties" => self.remove_properties(update),
            "set-statistics" => self.set_statistics(update, "statistics", "statistics"),
            "remove-statistics" => self.remove_statistics(update, "statistics"),
            "set-partition-statistics" => {
                self.set_statistics(update, "partition-statistics", "partition-statistics")
            }
            "remove-partition-statistics" => self.remove_statistics(update, "partition-statistics"),
            "add-encryption-key" => self.add_encryption_key(update),
            "remove-encryption-key" => self.remove_encryption_key(update),
            _ => invalid("there is no such update of a table"),
        }
    }

    fn assign_uuid(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(uuid) = update["uuid"].as_str().and_then(|text| uuid::Uuid::parse_str(text).ok()) else {
            return invalid("'uuid' is missing or no UUID");
        };
        let uuid = uuid.to_string();
        match self.document.uuid() {
            Some(known) if known.eq_ignore_ascii_case(&uuid) => Ok(()),
            Some(known) if !self.is_new => {
                invalid(format!("the table has the uuid {known}, which can't change"))
            }
            _ => {
                self.document.set("table-uuid", uuid);
                Ok(())
            }
        }
    }

    /// Raises the format version; the same one is no change.
    pub(super) fn upgrade_to(&mut self, version: i64) -> Result<(), MetadataError> {
        let current = self.document.format_version();
        if !(1..=MAX_FORMAT_VERSION).contains(&version) {
            return invalid(format!(
                "format version {version} is not supported: 1 to {MAX_FORMAT_VERSION} are"
            ));
        }
        if version < current {
            return invalid(format!("format version {current} can't be lowered to {version}"));
        }
        self.document.set("format-version", version);
        if version > current && version >= 2 {
            self.document.0.remove("schema");
            self.document.0.remove("partition-spec");
        }
        Ok(())
    }

    /// The id that a `set-…` update names, -1 standing for the one added before in this commit.
    pub(super) fn chosen_id(
        &self,
        update: &Value,
        field: &str,
        last: Option<i64>,
        what: &str,
    ) -> Result<i64, MetadataError> {
        match (update[field].as_i64(), last) {
            (Some(-1), Some(last)) => Ok(last),
            (Some(-1), None) => invalid(format!("-1 means the {what} just added, but none was")),
            (Some(id), _) => Ok(id),
            (None, _) => invalid(format!("'{field}' is missing or not an integer")),
        }
    }

    /// Fills in what every table has, checks the whole, and stamps it.
    pub(super) fn finish(&mut self, context: &ApplyContext<'_>) -> Result<(), MetadataError> {
        if self.document.current_schema().is_none() {
            return invalid("the table has no current schema: send add-schema and set-current-schema");
        }
        let defaults = [
            ("table-uuid", json!(context.fresh_uuid)),
            ("location", json!(context.default_location.trim_end_matches('/'))),
            ("properties", json!({})),
            ("partition-specs", json!([{"spec-id": 0, "fields": []}])),
            ("default-spec-id", json!(0)),
            ("last-partition-id", json!(999)),
            ("sort-orders", json!([{"order-id": 0, "fields": []}])),
            ("default-sort-order-id", json!(0)),
            ("snapshots", json!([])),
            ("refs", json!({})),
            ("snapshot-log", json!([])),
            ("metadata-log", json!([])),
        ];
        for (field, value) in defaults {
            self.document.set_default(field, value);
        }
        self.finish_by_version();
        if self.layout_changed || self.is_new {
            self.check_specs()?;
            self.check_order()?;
        }
        self.trim_snapshot_log();
        self.stamp(context.previous_location);
        Ok(())
    }

    fn finish_by_version(&mut self) {
        let version = self.document.format_version();
        if self.document.current_snapshot_id().is_none() {
            // The specification's own library writes -1 up to version 2 and null from version 3 on.
            let none = if version >= 3 { Value::Null } else { json!(-1) };
            self.document.set("current-snapshot-id", none);
        }
        if version >= 2 {
            self.document.set_default("last-sequence-number", json!(0));
        } else {
            // Readers of version 1 may know the single schema and spec only.
            let schema = self.document.current_schema().cloned().unwrap_or_default();
            let default = self.document.int("default-spec-id").unwrap_or_default();
            let spec = self.document.find("partition-specs", "spec-id", default);
            let fields = spec.map(|spec| spec["fields"].clone()).unwrap_or_default();
            self.document.set("schema", schema);
            self.document.set("partition-spec", fields);
        }
        if version >= 3 {
            self.document.set_default("next-row-id", json!(0));
        }
    }
}

/// A list of integer ids.
pub(super) fn id_list(update: &Value, field: &str) -> Result<BTreeSet<i64>, MetadataError> {
    let ids =
        update[field].as_array().map(|ids| ids.iter().map(Value::as_i64).collect::<Option<BTreeSet<i64>>>());
    match ids {
        Some(Some(ids)) => Ok(ids),
        _ => invalid(format!("'{field}' is missing or not a list of integers")),
    }
}
