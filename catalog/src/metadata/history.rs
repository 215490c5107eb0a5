//! What a commit leaves in the logs: `snapshot-log`, `metadata-log`, `last-updated-ms`.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::{Document, update::Change};

/// Former metadata files that the log keeps, unless the table's property says otherwise.
const DEFAULT_PREVIOUS_VERSIONS: usize = 100;
const PREVIOUS_VERSIONS: &str = "write.metadata.previous-versions-max";

impl Change {
    /// Notes that `main` is at another snapshot from now on.
    pub(super) fn log_current(&mut self, id: i64) {
        let timestamp_ms = self.added_snapshots.get(&id).copied().unwrap_or(self.now_ms);
        // An old snapshot that becomes current again does so after what is in the log.
        let latest =
            self.document.list("snapshot-log").last().and_then(|entry| entry["timestamp-ms"].as_i64());
        let is_new = self.added_snapshots.contains_key(&id);
        let timestamp_ms = if is_new { timestamp_ms } else { timestamp_ms.max(latest.unwrap_or_default()) };
        let entry = json!({"snapshot-id": id, "timestamp-ms": timestamp_ms});
        self.document.push("snapshot-log", entry);
    }

    /// Snapshots that were current only within the commit leave the log; a removed one takes what was before it along,
    /// since a log with a hole would answer time travel wrongly.
    pub(super) fn trim_snapshot_log(&mut self) {
        if self.added_snapshots.is_empty() && !self.snapshots_removed {
            return;
        }
        let current = self.document.current_snapshot_id();
        let snapshots = self.document.list("snapshots").iter();
        let existing: BTreeSet<i64> =
            snapshots.filter_map(|snapshot| snapshot["snapshot-id"].as_i64()).collect();
        let mut kept = Vec::new();
        for entry in self.document.list("snapshot-log") {
            let id = entry["snapshot-id"].as_i64();
            if id.is_some_and(|id| existing.contains(&id)) {
                let was_passing =
                    id != current && id.is_some_and(|id| self.added_snapshots.contains_key(&id));
                if !was_passing {
                    kept.push(Arc::clone(entry));
                }
            } else {
                kept.clear();
            }
        }
        *self.document.list_mut("snapshot-log") = kept;
    }

    /// Adds the metadata file that the commit replaces to the log and sets the time, which never goes back.
    pub(super) fn stamp(&mut self, previous_location: Option<&str>) {
        let before_ms = self.document.int("last-updated-ms").unwrap_or_default();
        if let Some(location) = previous_location {
            let entry = json!({"metadata-file": location, "timestamp-ms": before_ms});
            self.document.push("metadata-log", entry);
        }
        let setting = self.document.property(PREVIOUS_VERSIONS).and_then(|text| text.parse().ok());
        let most = setting.unwrap_or(DEFAULT_PREVIOUS_VERSIONS).max(1);
        if self.document.list("metadata-log").len() > most {
            let log = self.document.list_mut("metadata-log");
            log.drain(..log.len() - most);
        }
        let logged =
            self.document.list("snapshot-log").last().and_then(|entry| entry["timestamp-ms"].as_i64());
        let updated_ms = self.now_ms.max(before_ms).max(logged.unwrap_or_default());
        self.document.set("last-updated-ms", updated_ms);
    }
}

/// A document without references but with a current snapshot has it as `main`.
pub(super) fn adopt_main(document: &mut Document) {
    let Some(id) = document.current_snapshot_id() else { return };
    let refs = document.object_mut("refs");
    refs.entry("main").or_insert_with(|| json!({"type": "branch", "snapshot-id": id}));
}
