//! The snapshot that does again what a side did.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Stop,
    files::{Changes, FileId, Moved, Read, id},
    sides::{Line, Sides, set_reference},
};
use crate::manifests::{Entry, FileContent, ManifestFile, NewManifestList, Status};

/// Replayed snapshots that a summary lists; older ones are not found again by incremental readers.
const MAX_LISTED: usize = 1000;
/// Summary: the snapshots that a replay stands for, oldest first.
pub(crate) const REPLAYS: &str = "firn.replays";
/// Summary: the snapshot that both sides came from.
pub(crate) const REPLAY_BASE: &str = "firn.replay-base";

/// Updates and new files of a replay.
pub(super) struct Replayed {
    pub(super) updates: Vec<Value>,
    pub(super) files: Vec<(String, Bytes)>,
}

/// The snapshot to be.
pub(super) struct Snapshot<'a> {
    sides: Sides<'a>,
    line: Line,
    id: i64,
    sequence_number: i64,
    folder: String,
    attempt: Uuid,
    files: Vec<(String, Bytes)>,
    totals: Totals,
}

/// Files and rows that come and go.
#[derive(Default)]
struct Totals {
    added: Sum,
    removed: Sum,
    removed_delete_files: i64,
    removed_position_deletes: i64,
}

#[derive(Default)]
struct Sum {
    files: i64,
    records: i64,
    bytes: i64,
}

impl Sum {
    fn count(&mut self, entry: &Entry) {
        self.files += 1;
        self.records += entry.records;
        self.bytes += entry.bytes;
    }
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(sides: &Sides<'a>, line: Line) -> Result<Self, Stop> {
        let onto = sides.onto.document;
        let folder = match (onto.property("write.metadata.path"), onto.location()) {
            (Some(path), _) => path.trim_end_matches('/').to_owned(),
            (None, Some(location)) => format!("{}/metadata", location.trim_end_matches('/')),
            (None, None) => return Err(Stop::Conflict("the table has no location".to_owned())),
        };
        let id = loop {
            let id = (rand::random::<u64>() >> 1) as i64;
            if id > 0 && onto.snapshot(id).is_none() {
                break id;
            }
        };
        Ok(Self {
            sides: *sides,
            line,
            id,
            sequence_number: onto.int("last-sequence-number").unwrap_or_default() + 1,
            folder,
            attempt: Uuid::now_v7(),
            files: Vec::new(),
            totals: Totals::default(),
        })
    }

    pub(super) fn build(
        mut self,
        changes: &Changes,
        onto: Vec<ManifestFile>,
        moved: Moved,
    ) -> Result<Replayed, Stop> {
        let mut manifests = Vec::new();
        for read in &changes.new {
            manifests.extend(self.added_files(read, &changes.added)?);
        }
        let mut rewritten: HashMap<String, ManifestFile> = HashMap::new();
        for read in moved.own.into_iter().chain(moved.kept) {
            if read.live().any(|entry| changes.removed.contains(&id(entry))) {
                rewritten.insert(read.listed.path.clone(), self.without(read, &changes.removed)?);
            }
        }
        for listed in onto {
            manifests.push(rewritten.remove(&listed.path).unwrap_or(listed));
        }
        self.finish(&manifests)
    }

    /// The added files of one manifest, in a manifest of this snapshot.
    fn added_files(&mut self, read: &Read, added: &BTreeSet<FileId>) -> Result<Option<ManifestFile>, Stop> {
        let rewrites: BTreeSet<i64> =
            self.line.steps.iter().filter(|step| step.operation == "replace").map(|step| step.id).collect();
        let mut entries = Vec::new();
        for entry in read.live().filter(|entry| added.contains(&id(entry))) {
            self.totals.added.count(entry);
            let rewritten = entry.snapshot_id.is_some_and(|snapshot| rewrites.contains(&snapshot));
            // The other side's numbers may be lower than this one's: deletes that a number must exceed are older still.
            let kept = entry.sequence_number.filter(|_| rewritten).map(|own| own.min(self.sequence_number));
            entries.push(Entry {
                status: Status::Added,
                snapshot_id: Some(self.id),
                sequence_number: kept,
                file_sequence_number: None,
                first_row_id: None,
                ..entry.clone()
            });
        }
        if entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.manifest(read, entries)?))
    }

    /// A manifest without the removed files.
    fn without(&mut self, read: Read, removed: &BTreeSet<FileId>) -> Result<ManifestFile, Stop> {
        let mut entries = Vec::new();
        for entry in read.live() {
            if removed.contains(&id(entry)) {
                if entry.content == FileContent::Data {
                    self.totals.removed.count(entry);
                } else {
                    self.totals.removed_delete_files += 1;
                    self.totals.removed_position_deletes += entry.records;
                }
                entries.push(Entry { status: Status::Deleted, snapshot_id: Some(self.id), ..entry.clone() });
            } else {
                entries.push(Entry { status: Status::Existing, ..entry.clone() });
            }
        }
        self.manifest(&read, entries)
    }

    fn manifest(&mut self, read: &Read, entries: Vec<Entry>) -> Result<ManifestFile, Stop> {
        let path = format!("{}/{}-m{}.avro", self.folder, self.attempt, self.files.len());
        let (bytes, listed) =
            read.manifest.with_entries(entries, &read.listed, &path, self.id, self.sequence_number)?;
        self.files.push((path, bytes));
        Ok(listed)
    }

    fn finish(mut self, manifests: &[ManifestFile]) -> Result<Replayed, Stop> {
        let onto = self.sides.onto.document;
        let parent_id = onto.current_snapshot_id();
        let list = NewManifestList {
            format_version: onto.format_version(),
            snapshot_id: self.id,
            parent_id,
            sequence_number: self.sequence_number,
            next_row_id: onto.int("next-row-id").unwrap_or_default(),
        };
        let (bytes, row_ids) = list.write(manifests)?;
        let location = format!("{}/snap-{}-{}.avro", self.folder, self.id, self.attempt);
        let now_ms = chrono::Utc::now().timestamp_millis();
        let mut snapshot = json!({
            "snapshot-id": self.id,
            "sequence-number": self.sequence_number,
            // Histories are read by time, so it never goes back, whatever the clock does.
            "timestamp-ms": now_ms.max(onto.int("last-updated-ms").unwrap_or_default()),
            "manifest-list": location,
            "summary": self.summary(),
            "schema-id": onto.int("current-schema-id"),
        });
        if let Some(parent_id) = parent_id {
            snapshot["parent-snapshot-id"] = json!(parent_id);
        }
        if onto.format_version() >= 3 {
            snapshot["first-row-id"] = json!(list.next_row_id);
            snapshot["added-rows"] = json!(row_ids);
        }
        self.files.push((location, bytes));
        let main = onto.object("refs").and_then(|refs| refs.get("main")).cloned().unwrap_or_default();
        let updates = vec![
            json!({"action": "add-snapshot", "snapshot": snapshot}),
            set_reference("main", &main, self.id),
        ];
        Ok(Replayed { updates, files: self.files })
    }

    /// What happened, as one operation. Where rows came and files were rewritten, readers of increments must read anew.
    fn operation(&self) -> &'static str {
        let appended = self.line.steps.iter().any(|step| step.operation == "append");
        let removes = self.totals.removed.files + self.totals.removed_delete_files > 0;
        match (appended || !self.line.complete, removes) {
            (true, true) => "overwrite",
            (true, false) => "append",
            (false, _) => "replace",
        }
    }

    fn summary(&self) -> BTreeMap<String, String> {
        let (added, removed) = (&self.totals.added, &self.totals.removed);
        let skipped = self.line.steps.len().saturating_sub(MAX_LISTED);
        let replays: Vec<String> =
            self.line.steps.iter().skip(skipped).map(|step| step.id.to_string()).collect();
        let base = self.sides.base.current_snapshot_id();
        let mut summary = BTreeMap::from([
            ("operation".to_owned(), self.operation().to_owned()),
            ("engine-name".to_owned(), "firn".to_owned()),
            (REPLAYS.to_owned(), replays.join(",")),
            (REPLAY_BASE.to_owned(), base.map_or_else(String::new, |id| id.to_string())),
        ]);
        for (key, value) in [
            ("added-data-files", added.files),
            ("added-records", added.records),
            ("added-files-size", added.bytes),
            ("deleted-data-files", removed.files),
            ("deleted-records", removed.records),
            ("removed-files-size", removed.bytes),
            ("removed-delete-files", self.totals.removed_delete_files),
        ] {
            if value > 0 {
                summary.insert(key.to_owned(), value.to_string());
            }
        }
        let onto = self.sides.onto.document;
        let before = onto.current_snapshot_id().and_then(|id| onto.snapshot(id));
        for (key, change) in [
            ("total-data-files", added.files - removed.files),
            ("total-records", added.records - removed.records),
            ("total-files-size", added.bytes - removed.bytes),
            ("total-delete-files", -self.totals.removed_delete_files),
            ("total-position-deletes", -self.totals.removed_position_deletes),
            ("total-equality-deletes", 0),
        ] {
            // A total that the state before doesn't know stays unknown.
            let total = match before {
                None => Some(0),
                Some(before) => before["summary"][key].as_str().and_then(|text| text.parse::<i64>().ok()),
            };
            if let Some(total) = total {
                summary.insert(key.to_owned(), (total + change).max(0).to_string());
            }
        }
        summary
    }
}
