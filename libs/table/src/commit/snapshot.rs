//! A new snapshot: its manifests, manifest list and JSON.

mod restore;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use iceberg::spec::{ManifestContentType, ManifestEntryRef, ManifestFile, PartitionSpec};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Operation,
    deletes::{DeleteKey, LiveDeletes, delete_key},
    prepare::check_base,
    random_u64,
    row_deletes::{NewDelete, write_deletes},
    summary::Changes,
};
use crate::{
    Table, TableError, WrittenFile,
    manifests::{
        LiveFile, ManifestEncoder, NewManifestList, live_files, load_manifest, load_manifests,
        write_manifest_list,
    },
};

/// Files listed in one manifest; about 8 MB of Avro.
const FILES_PER_MANIFEST: usize = 10_000;
/// Small manifests of one spec that may pile up before an append merges them; Iceberg's own default.
const MANIFESTS_TO_MERGE: usize = 100;
/// A manifest below this size is small.
const SMALL_MANIFEST_BYTES: i64 = 1 << 20;

/// Which live files an operation removes.
enum Removal {
    Nothing,
    Everything,
    Files(HashSet<String>),
}

/// Live data files of the base, by what a commit does to them.
#[derive(Default)]
struct ChangedFiles {
    gone: Vec<LiveFile>,
    stay: Vec<LiveFile>,
}

/// Builds one snapshot on top of a table's current one.
pub(super) struct SnapshotBuilder<'a> {
    table: &'a Table,
    specs: BTreeMap<i32, PartitionSpec>,
    metadata_path: String,
    snapshot_id: i64,
    /// Part of every file name of this attempt.
    attempt_id: Uuid,
    written: Vec<String>,
    changes: Changes,
}

impl<'a> SnapshotBuilder<'a> {
    pub(super) fn new(table: &'a Table) -> Result<Self, TableError> {
        let metadata_path = match table.properties().get("write.metadata.path") {
            Some(path) => path.trim_end_matches('/').to_owned(),
            None => format!("{}/metadata", table.location()?),
        };
        Ok(Self {
            table,
            specs: table.partition_specs()?,
            metadata_path,
            snapshot_id: unused_snapshot_id(table),
            attempt_id: Uuid::now_v7(),
            written: Vec::new(),
            changes: Changes::default(),
        })
    }

    pub(super) fn snapshot_id(&self) -> i64 {
        self.snapshot_id
    }

    /// Everything that was written so far.
    pub(super) fn into_written(self) -> Vec<String> {
        self.written
    }

    /// Validates `operation` against the base, writes the files, and answers the snapshot's JSON.
    pub(super) async fn build(
        &mut self,
        operation: &Operation,
        summary: &BTreeMap<String, String>,
    ) -> Result<Value, TableError> {
        match operation {
            Operation::DeleteRows { rows } => return self.row_delta(rows, &[], summary).await,
            Operation::RowDelta { delete, add } if !delete.is_empty() => {
                return self.row_delta(&delete.sets(), add, summary).await;
            }
            Operation::Restore { state, base_snapshot_id } => {
                check_base(self.table, *base_snapshot_id)?;
                return self.restore(state, summary).await;
            }
            _ => {}
        }
        let (name, removal) = self.check(operation)?;
        let sequence_number = self.rewritten_sequence_number(operation)?;
        let mut manifests = self.add_files(operation.added(), sequence_number).await?;
        let base = self.table.live_manifests(None).await?;
        if matches!(removal, Removal::Nothing) {
            manifests.extend(self.merge_small(base.data).await?);
            manifests.extend(base.deletes);
            return self.finish(name, summary, manifests).await;
        }
        let (data, changed) = self.remove_files(base.data, removal).await?;
        manifests.extend(data);
        if !base.deletes.is_empty() {
            let added = sequence_number.map_or(&[][..], |_| operation.added());
            let deletes = LiveDeletes::load(self.table, base.deletes).await?;
            if let Some(sequence_number) = sequence_number {
                deletes.check_rewritten(self.table, &changed.gone, added, sequence_number)?;
            }
            let unused = deletes.unused(&changed.stay, added, sequence_number)?;
            manifests.extend(self.remove_deletes(deletes, &unused).await?);
        }
        self.finish(name, summary, manifests).await
    }

    /// Added files are as new as the delete files, which name the files that they apply to, and so none of these.
    async fn row_delta(
        &mut self,
        rows: &BTreeMap<String, BTreeSet<u64>>,
        add: &[WrittenFile],
        summary: &BTreeMap<String, String>,
    ) -> Result<Value, TableError> {
        let base = self.table.live_manifests(None).await?;
        let deletes = LiveDeletes::load(self.table, base.deletes).await?;
        let files = live_files(self.table.file_io(), &base.data).await?;
        let row_deletes = deletes.of_rows(self.table, &files, rows)?;
        let data_path = self.table.data_path()?;
        let prefix = format!("{data_path}/{}", self.attempt_id);
        let new = write_deletes(self.table, &prefix, row_deletes, &mut self.written).await?;
        // A vector takes the place of what deleted rows of its file before.
        let replaced = match self.table.format_version() {
            ..3 => HashSet::new(),
            _ => deletes.replaced_by(&files, &new)?,
        };
        let mut by_spec: BTreeMap<i32, Vec<NewDelete>> = BTreeMap::new();
        for delete in new {
            self.changes.add(&delete.data_file);
            by_spec.entry(delete.spec_id).or_default().push(delete);
        }
        let mut manifests = self.add_files(add, None).await?;
        manifests.extend(self.merge_small(base.data).await?);
        manifests.extend(self.remove_deletes(deletes, &replaced).await?);
        for (spec_id, new) in by_spec {
            let mut encoder = self.encoder(spec_id, ManifestContentType::Deletes)?;
            for delete in new {
                encoder.add(delete.data_file, None)?;
            }
            manifests.push(encoder.write(self.table.file_io()).await?);
        }
        let operation = if add.is_empty() { "delete" } else { "overwrite" };
        self.finish(operation, summary, manifests).await
    }

    /// Rewritten files keep the data sequence number of the snapshot that they were read from: deletes up to it are applied,
    /// and equality deletes after it still apply.
    fn rewritten_sequence_number(&self, operation: &Operation) -> Result<Option<i64>, TableError> {
        let Operation::Rewrite { base_snapshot_id, .. } = operation else { return Ok(None) };
        let mut next = self.table.current_snapshot();
        let mut steps_left = self.table.snapshot_documents().len();
        while let Some(snapshot) = next.filter(|_| steps_left > 0) {
            if snapshot.id == *base_snapshot_id {
                return Ok(Some(snapshot.sequence_number));
            }
            steps_left -= 1;
            next = snapshot.parent_id.and_then(|parent| self.table.snapshot(parent));
        }
        Err(TableError::conflict(format!(
            "snapshot {base_snapshot_id}, from which files of table {} were rewritten, has expired or was rolled back; plan \
             again",
            self.table.ident()
        )))
    }

    fn check(&self, operation: &Operation) -> Result<(&'static str, Removal), TableError> {
        let files = |locations: &[String]| Removal::Files(locations.iter().cloned().collect());
        Ok(match operation {
            Operation::Append { .. }
            | Operation::DeleteRows { .. }
            | Operation::RowDelta { .. }
            | Operation::ExpireSnapshots { .. }
            | Operation::SetCurrent { .. }
            | Operation::Restore { .. } => ("append", Removal::Nothing),
            Operation::Rewrite { remove, .. } => ("replace", files(remove)),
            Operation::Overwrite { remove, base_snapshot_id, .. } => {
                let current = self.table.current_snapshot().map(|snapshot| snapshot.id);
                if let Some(expected) = base_snapshot_id
                    && *expected != current
                {
                    return Err(TableError::conflict(format!(
                        "table {} is at snapshot {current:?}, but the overwrite was computed from {expected:?}; compute \
                         it again",
                        self.table.ident()
                    )));
                }
                ("overwrite", remove.as_ref().map_or(Removal::Everything, |remove| files(remove)))
            }
        })
    }

    async fn add_files(
        &mut self,
        files: &[WrittenFile],
        sequence_number: Option<i64>,
    ) -> Result<Vec<ManifestFile>, TableError> {
        let mut by_spec: BTreeMap<i32, Vec<&WrittenFile>> = BTreeMap::new();
        for file in files {
            self.changes.add(&file.data_file);
            by_spec.entry(file.spec_id).or_default().push(file);
        }
        let mut manifests = Vec::new();
        for (spec_id, files) in by_spec {
            for chunk in files.chunks(FILES_PER_MANIFEST) {
                let mut encoder = self.encoder(spec_id, ManifestContentType::Data)?;
                for file in chunk {
                    encoder.add(file.data_file.as_ref().clone(), sequence_number)?;
                }
                manifests.push(encoder.write(self.table.file_io()).await?);
            }
        }
        Ok(manifests)
    }

    /// Manifests without the removed files, and which those are; manifests that list none of them stay as they are.
    async fn remove_files(
        &mut self,
        base: Vec<ManifestFile>,
        removal: Removal,
    ) -> Result<(Vec<ManifestFile>, ChangedFiles), TableError> {
        let mut changed = ChangedFiles::default();
        let mut missing = match &removal {
            Removal::Files(files) => files.clone(),
            Removal::Nothing | Removal::Everything => HashSet::new(),
        };
        let removed = |location: &str| match &removal {
            Removal::Nothing => false,
            Removal::Everything => true,
            Removal::Files(files) => files.contains(location),
        };
        let mut manifests = Vec::new();
        let contents = load_manifests(self.table.file_io(), &base).await?;
        for (manifest, entries) in base.into_iter().zip(contents) {
            let live = entries.iter().filter(|entry| entry.is_alive());
            let (gone, stay): (Vec<_>, Vec<_>) = live.partition(|entry| removed(entry.file_path()));
            let spec_id = manifest.partition_spec_id;
            let file =
                |entry: &&ManifestEntryRef| LiveFile { spec_id, entry: ManifestEntryRef::clone(entry) };
            changed.gone.extend(gone.iter().map(file));
            changed.stay.extend(stay.iter().map(file));
            if gone.is_empty() {
                manifests.push(manifest);
                continue;
            }
            let mut encoder = self.encoder(spec_id, ManifestContentType::Data)?;
            for entry in gone {
                missing.remove(entry.file_path());
                self.changes.remove(&entry.data_file);
                encoder.remove(entry)?;
            }
            for entry in stay {
                encoder.keep(entry)?;
            }
            manifests.push(encoder.write(self.table.file_io()).await?);
        }
        match missing.into_iter().min() {
            None => Ok((manifests, changed)),
            Some(location) => Err(TableError::conflict(format!(
                "table {} no longer holds {location}, which the commit replaces; another writer was faster: plan again",
                self.table.ident()
            ))),
        }
    }

    /// Delete manifests without some files.
    async fn remove_deletes(
        &mut self,
        deletes: LiveDeletes,
        unused: &HashSet<DeleteKey>,
    ) -> Result<Vec<ManifestFile>, TableError> {
        let mut manifests = Vec::new();
        for (manifest, entries) in deletes.manifests {
            let live = entries.iter().filter(|entry| entry.is_alive());
            let (gone, stay): (Vec<_>, Vec<_>) = live.partition(|entry| unused.contains(&delete_key(entry)));
            if gone.is_empty() {
                manifests.push(manifest);
                continue;
            }
            let mut encoder = self.encoder(manifest.partition_spec_id, ManifestContentType::Deletes)?;
            for entry in gone {
                self.changes.remove(&entry.data_file);
                encoder.remove(entry)?;
            }
            for entry in stay {
                encoder.keep(entry)?;
            }
            manifests.push(encoder.write(self.table.file_io()).await?);
        }
        Ok(manifests)
    }

    /// Keeps the manifest list short: small data manifests of one spec become one once there are many.
    async fn merge_small(&mut self, base: Vec<ManifestFile>) -> Result<Vec<ManifestFile>, TableError> {
        let small = |manifest: &ManifestFile| manifest.manifest_length < SMALL_MANIFEST_BYTES;
        let (small, mut manifests): (Vec<_>, Vec<_>) = base.into_iter().partition(small);
        let mut by_spec: BTreeMap<i32, Vec<ManifestFile>> = BTreeMap::new();
        for manifest in small {
            by_spec.entry(manifest.partition_spec_id).or_default().push(manifest);
        }
        for (spec_id, group) in by_spec {
            if group.len() < MANIFESTS_TO_MERGE {
                manifests.extend(group);
                continue;
            }
            let mut encoder = self.encoder(spec_id, ManifestContentType::Data)?;
            for manifest in &group {
                let entries = load_manifest(self.table.file_io(), manifest).await?;
                for entry in entries.iter().filter(|entry| entry.is_alive()) {
                    encoder.keep(entry)?;
                }
            }
            manifests.push(encoder.write(self.table.file_io()).await?);
        }
        Ok(manifests)
    }

    async fn finish(
        &mut self,
        operation: &str,
        extra: &BTreeMap<String, String>,
        manifests: Vec<ManifestFile>,
    ) -> Result<Value, TableError> {
        let metadata = self.table.metadata();
        let base = self.table.current_snapshot();
        let parent_id = base.as_ref().map(|snapshot| snapshot.id);
        let list = NewManifestList {
            location: format!("{}/snap-{}-{}.avro", self.metadata_path, self.snapshot_id, self.attempt_id),
            format_version: self.table.format_version(),
            snapshot_id: self.snapshot_id,
            parent_id,
            sequence_number: metadata["last-sequence-number"].as_i64().unwrap_or(0) + 1,
            first_row_id: metadata["next-row-id"].as_u64(),
        };
        self.written.push(list.location.clone());
        let next_row_id = write_manifest_list(self.table.file_io(), &list, manifests).await?;
        let now_ms = chrono::Utc::now().timestamp_millis();
        let mut snapshot = json!({
            "snapshot-id": self.snapshot_id,
            "sequence-number": list.sequence_number,
            // Histories are read by time, so it never goes back, whatever the clock does.
            "timestamp-ms": now_ms.max(metadata["last-updated-ms"].as_i64().unwrap_or(0)),
            "manifest-list": list.location,
            "summary": self.changes.summary(operation, base.as_ref(), extra),
            "schema-id": metadata["current-schema-id"],
        });
        if let Some(parent_id) = parent_id {
            snapshot["parent-snapshot-id"] = json!(parent_id);
        }
        if let (3.., Some(first), Some(next)) = (list.format_version, list.first_row_id, next_row_id) {
            snapshot["first-row-id"] = json!(first);
            snapshot["added-rows"] = json!(next - first);
        }
        Ok(snapshot)
    }

    fn encoder(&mut self, spec_id: i32, content: ManifestContentType) -> Result<ManifestEncoder, TableError> {
        let spec = self.specs.get(&spec_id).cloned().ok_or_else(|| {
            TableError::invalid(format!(
                "table {} has no partition spec {spec_id}; write the files anew",
                self.table.ident()
            ))
        })?;
        let location = format!("{}/{}-m{}.avro", self.metadata_path, self.attempt_id, self.written.len());
        self.written.push(location.clone());
        ManifestEncoder::new(
            location,
            content,
            self.table.format_version(),
            self.snapshot_id,
            self.table.schema_of_spec(&spec)?,
            spec,
        )
    }
}

fn unused_snapshot_id(table: &Table) -> i64 {
    loop {
        let id = i64::try_from(random_u64() >> 1).unwrap_or(i64::MAX);
        if id > 0 && table.snapshot(id).is_none() {
            return id;
        }
    }
}
