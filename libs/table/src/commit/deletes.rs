//! What becomes of delete files when data files go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use iceberg::spec::{ManifestEntry, ManifestEntryRef, ManifestFile, ManifestStatus};

use super::row_deletes::{NewDelete, RowDeletes};
use crate::{
    Table, TableError, WrittenFile,
    deletes::{DeleteIndex, FileDeletes},
    manifests::{LiveFile, load_manifests},
};

/// Location and offset: a Puffin file holds many deletion vectors.
pub(super) type DeleteKey = (String, Option<i64>);

pub(super) fn delete_key(entry: &ManifestEntry) -> DeleteKey {
    (entry.file_path().to_owned(), entry.data_file.content_offset())
}

/// The base's delete manifests with their entries.
pub(super) struct LiveDeletes {
    pub(super) manifests: Vec<(ManifestFile, Arc<Vec<ManifestEntryRef>>)>,
    index: DeleteIndex,
}

impl LiveDeletes {
    pub(super) async fn load(table: &Table, manifests: Vec<ManifestFile>) -> Result<Self, TableError> {
        let index = DeleteIndex::load(table, &manifests).await?;
        let contents = load_manifests(table.file_io(), &manifests).await?;
        Ok(Self { manifests: manifests.into_iter().zip(contents).collect(), index })
    }

    /// Rows that were deleted by position since `sequence_number` would come back with the rewritten files; so would rows that
    /// were deleted by equality, where the new files are in other partitions than the old ones.
    pub(super) fn check_rewritten(
        &self,
        table: &Table,
        files: &[LiveFile],
        rewritten: &[WrittenFile],
        sequence_number: i64,
    ) -> Result<(), TableError> {
        for file in files {
            let deletes = self.index.of(file)?;
            let moved = rewritten.iter().any(|new| new.spec_id != file.spec_id);
            let equality = deletes.equality.iter().filter(|_| moved);
            let mut crucial = deletes.vector.iter().chain(&deletes.positions).chain(equality);
            if crucial.any(|delete| delete.sequence_number() > sequence_number) {
                let (location, table) = (file.location(), table.ident());
                return Err(TableError::conflict(format!(
                    "rows of {location} of table {table} were deleted while it was rewritten; plan again"
                )));
            }
        }
        Ok(())
    }

    /// Delete files that apply neither to files that stay nor to rewritten ones. Those have positions of their own, which no
    /// delete file can name.
    pub(super) fn unused(
        &self,
        stay: &[LiveFile],
        rewritten: &[WrittenFile],
        sequence_number: Option<i64>,
    ) -> Result<HashSet<DeleteKey>, TableError> {
        let entries = self.manifests.iter().flat_map(|(_, entries)| entries.iter());
        let mut unused: HashSet<_> =
            entries.filter(|entry| entry.is_alive()).map(|entry| delete_key(entry)).collect();
        let mut keep = |deletes: &[LiveFile]| {
            for delete in deletes {
                unused.remove(&delete_key(&delete.entry));
            }
        };
        for file in stay {
            let FileDeletes { vector, positions, equality } = self.index.of(file)?;
            keep(vector.as_slice());
            keep(&positions);
            keep(&equality);
        }
        for file in rewritten {
            let entry = ManifestEntry::builder()
                .status(ManifestStatus::Added)
                .sequence_number(sequence_number.unwrap_or(i64::MAX))
                .data_file(file.data_file.as_ref().clone())
                .build();
            let file = LiveFile { spec_id: file.spec_id, entry: Arc::new(entry) };
            keep(&self.index.of(&file)?.equality);
        }
        Ok(unused)
    }

    /// Rows to delete with what is known of their files. Positions beyond a file's end are refused.
    pub(super) fn of_rows(
        &self,
        table: &Table,
        files: &[LiveFile],
        rows: &BTreeMap<String, BTreeSet<u64>>,
    ) -> Result<Vec<RowDeletes>, TableError> {
        let by_location: HashMap<_, _> = files.iter().map(|file| (file.location(), file)).collect();
        let row_deletes = rows.iter().filter(|(_, positions)| !positions.is_empty()).map(|(location, positions)| {
            let Some(file) = by_location.get(location.as_str()) else {
                return Err(TableError::conflict(format!(
                    "table {} no longer holds {location}, from which rows were to be deleted; find the rows again",
                    table.ident()
                )));
            };
            let (last, held) = (positions.last().copied().unwrap_or_default(), file.data_file().record_count());
            if last >= held {
                return Err(TableError::invalid(format!("{location} has {held} rows, so there is no row {last} to delete")));
            }
            let positions = positions.iter().copied().collect();
            Ok(RowDeletes { file: LiveFile::clone(file), before: self.index.of(file)?, positions })
        });
        row_deletes.collect()
    }

    /// Delete files that apply to nothing once the new vectors are there.
    pub(super) fn replaced_by(
        &self,
        files: &[LiveFile],
        new: &[NewDelete],
    ) -> Result<HashSet<DeleteKey>, TableError> {
        let covered: HashSet<_> =
            new.iter().filter_map(|delete| delete.data_file.referenced_data_file()).collect();
        let (covered, stay): (Vec<_>, Vec<_>) =
            files.iter().cloned().partition(|file| covered.contains(file.location()));
        let mut unused = self.unused(&stay, &[], None)?;
        for file in &covered {
            for delete in self.index.of(file)?.equality {
                unused.remove(&delete_key(&delete.entry));
            }
        }
        Ok(unused)
    }
}
