//! Snapshots: `add-snapshot`, `remove-snapshots`.

use serde_json::Value;

use super::{MetadataError, error::invalid, update::Change};

/// Clocks of writers may differ by this much; readers refuse a log that goes back further.
const CLOCK_SKEW_MS: i64 = 60_000;

impl Change {
    /// `add-snapshot`. A sequence number or first row id that others took meanwhile is a lost race.
    pub(super) fn add_snapshot(&mut self, update: &Value) -> Result<(), MetadataError> {
        let Some(snapshot) = update.get("snapshot").filter(|snapshot| snapshot.is_object()) else {
            return invalid("'snapshot' is missing or not an object");
        };
        let Some(id) = snapshot["snapshot-id"].as_i64().filter(|id| *id != -1) else {
            return invalid("'snapshot.snapshot-id' is missing or not an integer");
        };
        let Some(timestamp_ms) = snapshot["timestamp-ms"].as_i64() else {
            return invalid("'snapshot.timestamp-ms' is missing or not an integer");
        };
        if self.document.find("snapshots", "snapshot-id", id).is_some() {
            return invalid(format!("the table has a snapshot {id} already"));
        }
        if self.document.current_schema().is_none() {
            return invalid("a table without a schema can't have snapshots: add the schema first");
        }
        let latest_ms =
            self.document.list("snapshot-log").last().and_then(|entry| entry["timestamp-ms"].as_i64());
        if let Some(latest_ms) = latest_ms.filter(|latest_ms| latest_ms - timestamp_ms > CLOCK_SKEW_MS) {
            return invalid(format!(
                "the snapshot's time {timestamp_ms} is more than a minute before that of the latest one, {latest_ms}: \
                 check the clock of the computer that made it"
            ));
        }
        let version = self.document.format_version();
        if version >= 2 {
            self.check_sequence_number(snapshot)?;
        }
        if version >= 3 {
            self.take_row_ids(snapshot)?;
        }
        self.document.push("snapshots", snapshot.clone());
        self.added_snapshots.insert(id, timestamp_ms);
        Ok(())
    }

    /// `remove-snapshots`: with references and statistics that need them. Ids that don't exist are no error.
    pub(super) fn remove_snapshots(&mut self, update: &Value) -> Result<(), MetadataError> {
        let ids = super::update::id_list(update, "snapshot-ids")?;
        let kept = |holder: &Value| holder["snapshot-id"].as_i64().is_none_or(|id| !ids.contains(&id));
        for list in ["snapshots", "statistics", "partition-statistics"] {
            if self.document.0.contains_key(list) {
                self.document.list_mut(list).retain(|holder| kept(holder));
            }
        }
        let lost: Vec<String> = self
            .document
            .object("refs")
            .into_iter()
            .flatten()
            .filter(|(_, reference)| !kept(reference))
            .map(|(name, _)| name.clone())
            .collect();
        for name in lost {
            self.drop_reference(&name);
        }
        self.snapshots_removed = true;
        Ok(())
    }

    fn check_sequence_number(&mut self, snapshot: &Value) -> Result<(), MetadataError> {
        if !snapshot["manifest-list"].is_string() {
            return invalid("'snapshot.manifest-list' is missing or not a text");
        }
        if !snapshot["summary"]["operation"].is_string() {
            return invalid("'snapshot.summary.operation' is missing or not a text");
        }
        let Some(number) = snapshot["sequence-number"].as_i64() else {
            return invalid("'snapshot.sequence-number' is missing or not an integer");
        };
        let last = self.document.int("last-sequence-number").unwrap_or_default();
        let has_parent = snapshot["parent-snapshot-id"].as_i64().is_some_and(|id| id != -1);
        if number <= last && has_parent {
            return Err(MetadataError::Stale(format!(
                "sequence number {number} is taken, the table's last one is {last}: load the table again"
            )));
        }
        self.document.set("last-sequence-number", last.max(number));
        Ok(())
    }

    /// Row lineage of format version 3.
    fn take_row_ids(&mut self, snapshot: &Value) -> Result<(), MetadataError> {
        let (Some(first), Some(added)) = (snapshot["first-row-id"].as_i64(), snapshot["added-rows"].as_i64())
        else {
            return invalid("format version 3 needs 'snapshot.first-row-id' and 'snapshot.added-rows'");
        };
        if first < 0 || added < 0 {
            return invalid("'snapshot.first-row-id' and 'snapshot.added-rows' can't be negative");
        }
        let next = self.document.int("next-row-id").unwrap_or_default();
        if first < next {
            return Err(MetadataError::Stale(format!(
                "row id {first} is taken, the table's next one is {next}: load the table again"
            )));
        }
        let Some(after) = first.checked_add(added) else { return invalid("the row ids overflow") };
        self.document.set("next-row-id", after);
        Ok(())
    }
}
