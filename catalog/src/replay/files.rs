//! What a side did to a table's files, judged by its manifests.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};

use super::{
    Stop,
    sides::{Line, Side, Sides},
    snapshot::{Replayed, Snapshot},
};
use crate::{
    management::AppState,
    manifests::{Entry, FileContent, Manifest, ManifestError, ManifestFile, Status, read_list},
    metadata::Document,
    off_thread::off_thread,
};

/// Manifests read at once.
const PARALLEL: usize = 8;

impl From<ManifestError> for Stop {
    fn from(error: ManifestError) -> Self {
        Self::Conflict(error.to_string())
    }
}

/// A file is known by its path, a deletion vector by its place in one as well.
pub(super) type FileId = (String, Option<i64>);

/// A manifest that was read.
pub(super) struct Read {
    pub(super) listed: ManifestFile,
    pub(super) manifest: Manifest,
}

/// What changed between two snapshots.
pub(super) struct Changes {
    /// Manifests that hold added files.
    pub(super) new: Vec<Read>,
    pub(super) added: BTreeSet<FileId>,
    pub(super) removed: BTreeSet<FileId>,
}

/// Replays a side's files onto the other; `None` if it changed none.
pub(super) async fn replay(
    state: &AppState,
    tenant: &str,
    sides: &Sides<'_>,
) -> Result<Option<Replayed>, Stop> {
    let (base, replayed, onto) = (sides.base, sides.replayed, sides.onto);
    if base.current_snapshot_id() == replayed.document.current_snapshot_id() {
        return Ok(None);
    }
    let line = sides.replayable_line().map_err(Stop::Conflict)?;
    if onto.document.format_version() < 2 {
        return Err(Stop::Conflict(
            "tables of format version 1 are not merged: upgrade the table".to_owned(),
        ));
    }
    sides.check_readable().map_err(Stop::Conflict)?;
    let reader = Reader { state, tenant };
    let base_list = reader.list(base, "merge base").await?;
    let side_list = reader.list(replayed.document, replayed.name).await?;
    let onto_list = reader.list(onto.document, onto.name).await?;
    let changes = reader.changes(&base_list, &side_list).await?;
    check_replayed(&changes, &line, replayed, onto.document.format_version()).map_err(Stop::Conflict)?;
    let moved = reader.moved(&base_list, &onto_list, &changes.removed).await?;
    check_onto(&moved, &changes.removed, onto).map_err(Stop::Conflict)?;
    let snapshot = Snapshot::new(sides, line)?;
    Ok(Some(snapshot.build(&changes, onto_list, moved)?))
}

/// Reads manifests of one tenant.
#[derive(Clone, Copy)]
struct Reader<'a> {
    state: &'a AppState,
    tenant: &'a str,
}

impl Reader<'_> {
    /// The manifests of a document's current snapshot; none if it has none.
    async fn list(&self, document: &Document, name: &str) -> Result<Vec<ManifestFile>, Stop> {
        let Some(id) = document.current_snapshot_id() else { return Ok(Vec::new()) };
        let list = document.snapshot(id).and_then(|snapshot| snapshot["manifest-list"].as_str());
        let Some(list) = list else {
            return Err(Stop::Conflict(format!("snapshot {id} of the {name} has no manifest list")));
        };
        let bytes = self.state.storage.read_file(self.tenant, list).await?;
        Ok(off_thread(move || read_list(&bytes)).await??)
    }

    async fn read(self, listed: ManifestFile) -> Result<Read, Stop> {
        let bytes = self.state.storage.read_file(self.tenant, &listed.path).await?;
        off_thread(move || {
            let manifest = Manifest::parse(&bytes, &listed)?;
            Ok(Read { listed, manifest })
        })
        .await?
    }

    async fn read_all(&self, listed: Vec<ManifestFile>) -> Result<Vec<Read>, Stop> {
        let all: Vec<_> = listed.into_iter().map(|listed| self.read(listed)).collect();
        futures::stream::iter(all).buffered(PARALLEL).try_collect().await
    }

    /// What differs, by the manifests that only one of both snapshots has: it costs what changed.
    async fn changes(&self, before: &[ManifestFile], after: &[ManifestFile]) -> Result<Changes, Stop> {
        let new = self.read_all(only_in(after, before)).await?;
        let gone = self.read_all(only_in(before, after)).await?;
        let (in_new, in_gone) = (live(&new), live(&gone));
        let added = in_new.difference(&in_gone).cloned().collect();
        let removed = in_gone.difference(&in_new).cloned().collect();
        Ok(Changes { new, added, removed })
    }

    /// The other side's manifests that matter: all that it has of its own, and those of the base that may hold a file
    /// to be removed.
    async fn moved(
        &self,
        base: &[ManifestFile],
        onto: &[ManifestFile],
        removed: &BTreeSet<FileId>,
    ) -> Result<Moved, Stop> {
        let own = self.read_all(only_in(onto, base)).await?;
        let kept: Vec<ManifestFile> = match removed.is_empty() {
            true => Vec::new(),
            false => only_in(onto, &only_in(onto, base)),
        };
        Ok(Moved { own, kept: self.read_all(kept).await? })
    }
}

/// Manifests of the state that is replayed onto.
pub(super) struct Moved {
    pub(super) own: Vec<Read>,
    pub(super) kept: Vec<Read>,
}

fn only_in(these: &[ManifestFile], others: &[ManifestFile]) -> Vec<ManifestFile> {
    let known: BTreeSet<&str> = others.iter().map(|manifest| manifest.path.as_str()).collect();
    these.iter().filter(|manifest| !known.contains(manifest.path.as_str())).cloned().collect()
}

fn live(manifests: &[Read]) -> BTreeSet<FileId> {
    manifests.iter().flat_map(Read::live).map(id).collect()
}

pub(super) fn id(entry: &Entry) -> FileId {
    (entry.path.clone(), entry.offset)
}

impl Read {
    pub(super) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.manifest.entries.iter().filter(|entry| entry.is_live())
    }
}

/// That the replayed side only added data files and rewrote some.
fn check_replayed(
    changes: &Changes,
    line: &Line,
    replayed: Side<'_>,
    format_version: i64,
) -> Result<(), String> {
    let name = replayed.name;
    let mut live = changes.new.iter().flat_map(Read::live);
    if live.any(|entry| changes.added.contains(&id(entry)) && entry.content != FileContent::Data) {
        return Err(format!("the {name} removed rows by delete files"));
    }
    if changes.removed.is_empty() {
        return Ok(());
    }
    if !line.complete {
        return Err(format!("snapshots of the {name} since the merge base have expired"));
    }
    let rewrote = line.steps.iter().rposition(|step| step.operation == "replace");
    let appended = line.steps.iter().position(|step| step.operation == "append");
    if format_version >= 3 && appended.is_some_and(|appended| rewrote.is_some_and(|last| appended < last)) {
        return Err(format!(
            "the {name} may have rewritten rows that it added itself, whose row ids would change"
        ));
    }
    Ok(())
}

/// That the other side has nothing that would hit replayed rows, and still has what the replay removes.
fn check_onto(moved: &Moved, removed: &BTreeSet<FileId>, onto: Side<'_>) -> Result<(), String> {
    let name = onto.name;
    let paths: BTreeSet<&str> = removed.iter().map(|(path, _)| path.as_str()).collect();
    for entry in moved.own.iter().flat_map(Read::live).filter(|entry| entry.status == Status::Added) {
        match entry.content {
            FileContent::Data => {}
            FileContent::EqualityDeletes => return Err(format!("the {name} has equality deletes")),
            FileContent::PositionDeletes if removed.is_empty() => {}
            FileContent::PositionDeletes => match &entry.referenced {
                Some(path) if !paths.contains(path.as_str()) => {}
                _ => return Err(format!("the {name} deleted rows of files that were rewritten")),
            },
        }
    }
    let present: BTreeSet<FileId> =
        moved.own.iter().chain(&moved.kept).flat_map(Read::live).map(id).collect();
    match removed.difference(&present).next() {
        None => Ok(()),
        Some((path, _)) => Err(format!("the {name} no longer has {path}, which was rewritten")),
    }
}
