//! Earlier states of a table: which snapshots lead to the current one, and whether their files are still there.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    SnapshotInfo, Table, TableError, TableErrorKind,
    manifests::{LiveFile, live_files},
};

/// Files looked for at once.
const PARALLEL_LOOKS: usize = 32;

/// The data and delete files of a table at one of its snapshots.
#[derive(Clone, Debug)]
pub struct TableState {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    pub(crate) files: Vec<LiveFile>,
}

impl Table {
    /// Whether a snapshot is the current one or one that it was built on, as far as the table's log goes back.
    #[must_use]
    pub fn descends_from(&self, snapshot_id: i64) -> bool {
        let mut next = self.current_snapshot();
        // Guards against a malformed circle.
        let mut seen = HashSet::new();
        while let Some(snapshot) = next.filter(|snapshot| seen.insert(snapshot.id)) {
            if snapshot.id == snapshot_id {
                return true;
            }
            next = snapshot.parent_id.and_then(|parent| self.snapshot(parent));
        }
        false
    }

    /// The state at a snapshot of the table's log. `NotFound` names files of it that are gone.
    pub async fn state(&self, snapshot_id: i64) -> Result<TableState, TableError> {
        let snapshot = self.snapshot(snapshot_id);
        let snapshot = snapshot.ok_or_else(|| match self.resolve_snapshot(Some(snapshot_id)) {
            Err(error) => error,
            Ok(_) => TableError::invalid(format!("snapshot {snapshot_id} of {} is malformed", self.ident())),
        })?;
        // What was read before may be in the cache and gone from the storage.
        self.need_files(snapshot_id, self.manifest_list(snapshot_id).into_iter().collect()).await?;
        let manifests = self.live_manifests(Some(snapshot_id)).await?;
        let listed: Vec<_> = manifests.data.iter().chain(&manifests.deletes).cloned().collect();
        let paths = listed.iter().map(|manifest| manifest.manifest_path.clone());
        self.need_files(snapshot_id, paths.collect()).await?;
        let files = live_files(self.file_io(), &listed).await?;
        let paths = files.iter().map(|file| file.location().to_owned());
        self.need_files(snapshot_id, paths.collect()).await?;
        Ok(TableState { snapshot, files })
    }

    async fn need_files(&self, snapshot_id: i64, locations: BTreeSet<String>) -> Result<(), TableError> {
        let looks: Vec<_> = locations
            .into_iter()
            .map(|location| async move {
                let is_there = self.file_io().exists(&location).await?;
                Ok::<_, TableError>((!is_there).then_some(location))
            })
            .collect();
        let looked = stream::iter(looks).buffered(PARALLEL_LOOKS);
        let missing: Vec<String> =
            looked.try_filter_map(|missing| async move { Ok(missing) }).try_collect().await?;
        let Some(first) = missing.first() else { return Ok(()) };
        let others = match missing.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        Err(TableError::new(
            TableErrorKind::NotFound,
            format!("files of snapshot {snapshot_id} of table {} are gone: {first}{others}", self.ident()),
        ))
    }
}
