//! Adding up the rows that single snapshots added and removed, by file and position.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::{ManifestEntryRef, ManifestStatus};
use roaring::RoaringTreemap;

use super::RETENTION;
use crate::{
    SnapshotInfo, Table, TableError,
    deletes::{DeleteIndex, FileDeletes, load_deleted_rows},
    manifests::{LiveFile, live_files, load_manifest},
    scan::FileRows,
};

/// Rows by the location of their file.
type RowsByFile = BTreeMap<String, (LiveFile, RoaringTreemap)>;

/// What a line of snapshots added and removed so far.
#[derive(Default)]
pub(super) struct Changes {
    added: RowsByFile,
    removed: RowsByFile,
}

/// A snapshot's files with what is deleted from them.
struct State {
    files: HashMap<String, (LiveFile, FileDeletes)>,
}

impl State {
    async fn of(table: &Table, snapshot_id: Option<i64>) -> Result<Self, TableError> {
        let Some(id) = snapshot_id else { return Ok(Self { files: HashMap::new() }) };
        let manifests = table.live_manifests(Some(id)).await?;
        let deletes = DeleteIndex::load(table, &manifests.deletes).await?;
        let mut files = HashMap::new();
        for file in live_files(table.file_io(), &manifests.data).await? {
            let deletes = deletes.of(&file)?;
            files.insert(file.location().to_owned(), (file, deletes));
        }
        Ok(Self { files })
    }

    /// Positions of the rows of `file` that are not deleted; `deleted` is what was loaded of the state.
    fn live(file: &LiveFile, deleted: &PositionsByFile) -> RoaringTreemap {
        let mut rows = all_rows(file);
        if let Some(deleted) = deleted.get(file.location()) {
            rows -= deleted.as_ref();
        }
        rows
    }
}

type PositionsByFile = HashMap<String, std::sync::Arc<RoaringTreemap>>;

fn all_rows(file: &LiveFile) -> RoaringTreemap {
    let mut rows = RoaringTreemap::new();
    rows.insert_range(0..file.data_file().record_count());
    rows
}

/// Whether the same delete files apply.
fn same_deletes(one: &FileDeletes, other: &FileDeletes) -> bool {
    let names = |deletes: &FileDeletes| {
        let by_position = deletes.vector.iter().chain(&deletes.positions);
        let mut names: Vec<_> = by_position
            .map(|delete| (delete.location().to_owned(), delete.data_file().content_offset()))
            .collect();
        names.sort();
        names
    };
    names(one) == names(other)
}

impl Changes {
    /// An append: its files exist while the snapshot does, compacted since or not.
    pub(super) async fn append(&mut self, table: &Table, snapshot_id: i64) -> Result<(), TableError> {
        let manifests = table.live_manifests(Some(snapshot_id)).await?.data;
        for manifest in manifests.iter().filter(|manifest| manifest.added_snapshot_id == snapshot_id) {
            let entries = load_manifest(table.file_io(), manifest).await?;
            let added = |entry: &&ManifestEntryRef| {
                entry.status == ManifestStatus::Added && entry.snapshot_id == Some(snapshot_id)
            };
            for entry in entries.iter().filter(added) {
                let file = LiveFile { spec_id: manifest.partition_spec_id, entry: entry.clone() };
                let rows = all_rows(&file);
                self.add(file, rows);
            }
        }
        Ok(())
    }

    /// Any other change: what differs between the snapshot and its parent. The inner error says why that can't be told.
    pub(super) async fn overwrite(
        &mut self,
        table: &Table,
        step: &SnapshotInfo,
    ) -> Result<Result<(), String>, TableError> {
        if step.summary.get("firn.reason").is_some_and(|reason| reason == RETENTION) {
            return Ok(Ok(()));
        }
        if let Some(parent) = step.parent_id.filter(|parent| table.snapshot(*parent).is_none()) {
            return Ok(Err(format!("snapshot {parent}, before {}, has expired", step.id)));
        }
        let (before, after) =
            (State::of(table, step.parent_id).await?, State::of(table, Some(step.id)).await?);
        let changed = |state: &State, other: &State| {
            let differs = |(location, (_, deletes)): &(&String, &(LiveFile, FileDeletes))| {
                other.files.get(*location).is_none_or(|(_, others)| {
                    !same_deletes(deletes, others) || deletes.equality.len() != others.equality.len()
                })
            };
            state.files.iter().filter(differs).map(|(_, file)| file.clone()).collect::<Vec<_>>()
        };
        let (old, new) = (changed(&before, &after), changed(&after, &before));
        if old.iter().chain(&new).any(|(_, deletes)| !deletes.equality.is_empty()) {
            return Ok(Err(format!("snapshot {} has rows that were deleted by equality", step.id)));
        }
        let (old_deleted, new_deleted) = (deleted(table, &old).await?, deleted(table, &new).await?);
        for (file, _) in old {
            let mut gone = State::live(&file, &old_deleted);
            if after.files.contains_key(file.location()) {
                gone -= State::live(&file, &new_deleted);
            }
            self.remove(file, gone);
        }
        for (file, _) in new.into_iter().filter(|(file, _)| !before.files.contains_key(file.location())) {
            let rows = State::live(&file, &new_deleted);
            self.add(file, rows);
        }
        Ok(Ok(()))
    }

    fn add(&mut self, file: LiveFile, rows: RoaringTreemap) {
        let location = file.location().to_owned();
        self.added.entry(location).or_insert_with(|| (file, RoaringTreemap::new())).1 |= rows;
    }

    /// Rows that were added in the same line only leave what was added.
    fn remove(&mut self, file: LiveFile, mut rows: RoaringTreemap) {
        if let Some((_, added)) = self.added.get_mut(file.location()) {
            let taken_back = &*added & &rows;
            *added -= &taken_back;
            rows -= taken_back;
        }
        let location = file.location().to_owned();
        self.removed.entry(location).or_insert_with(|| (file, RoaringTreemap::new())).1 |= rows;
    }

    /// The rows added, and those removed.
    pub(super) fn into_rows(self) -> (Vec<FileRows>, Vec<FileRows>) {
        let rows = |rows: RowsByFile| {
            let some = rows.into_values().filter(|(_, rows)| !rows.is_empty());
            some.map(|(file, rows)| FileRows::only(file, &rows)).collect()
        };
        (rows(self.added), rows(self.removed))
    }
}

async fn deleted(table: &Table, files: &[(LiveFile, FileDeletes)]) -> Result<PositionsByFile, TableError> {
    let files = files.iter().map(|(file, deletes)| (file, deletes)).collect::<Vec<_>>();
    load_deleted_rows(table.file_io(), &files).await
}
