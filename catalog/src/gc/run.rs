//! One collection, from the mark to the report.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};
use firn_catalog_client::GcReport;
use futures::StreamExt as _;

use super::{Settings, files::KeptFiles, list_file};
use crate::{
    CatalogError,
    management::AppState,
    storage::{Location, Storage, StoredFile},
    version::{Hash, Marks, Repository, Root},
};

/// Files deleted before the references are read again.
const BATCH: usize = 500;
/// Files looked at and deleted at once.
const PARALLEL: usize = 8;
/// Why a file of a table that is there may go.
const UNNEEDED: &str = "no kept state of its table needs it";

/// Collects a tenant's garbage.
pub(crate) async fn collect(
    state: &AppState,
    tenant: &str,
    settings: &Settings,
) -> Result<GcReport, CatalogError> {
    let started = Utc::now();
    let repository = state.versions.repository(tenant);
    let (old, young_roots, young) = repository.old_objects(settings.safety_age).await?;
    let whole = [state.storage.tenant_root(tenant)];
    let folders = settings.folders.as_deref().unwrap_or(&whole);
    let mut collection = Collection {
        state,
        tenant,
        settings,
        repository,
        marks: Marks::default(),
        heads: BTreeMap::new(),
        kept: KeptFiles::below(folders),
        report: GcReport { dry_run: settings.dry_run, ..GcReport::default() },
    };
    collection.mark(&young_roots).await?;
    let limit_ms = started.timestamp_millis() - settings.safety_age.num_milliseconds();
    for folder in folders {
        collection.sweep_files(folder, limit_ms).await?;
    }
    if settings.folders.is_none() {
        // Marked once more, so that objects go by what the references reach now.
        collection.mark(&[]).await?;
        let swept = collection.repository.sweep(old, young, &collection.marks, settings.dry_run).await?;
        let report = &mut collection.report;
        (report.objects_kept, report.objects_removed) = (swept.kept, swept.removed);
        report.object_bytes_removed = swept.removed_bytes;
    }
    let mut report = collection.report;
    report.references = collection.heads.len() as u64;
    report.states_kept = collection.marks.kept_states() as u64;
    report.unreadable = collection.kept.unreadable;
    report.started_at = started.to_rfc3339_opts(SecondsFormat::Millis, true);
    report.finished_at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    Ok(report)
}

struct Collection<'a> {
    state: &'a AppState,
    tenant: &'a str,
    settings: &'a Settings,
    repository: Repository,
    marks: Marks,
    /// References as they were when last marked from.
    heads: BTreeMap<String, Hash>,
    kept: KeptFiles,
    report: GcReport,
}

impl Collection<'_> {
    /// Marks from references that moved since the last mark, and from `more`, until none moves.
    async fn mark(&mut self, more: &[Root]) -> Result<(), CatalogError> {
        let mut more = more.to_vec();
        loop {
            let now = Utc::now();
            let found = self.repository.references().await?;
            if found.is_empty() {
                // Every repository has a main: this answers that there is no such tenant.
                self.repository.resolve("main").await?;
            }
            let moved =
                found.iter().filter(|reference| self.heads.get(&reference.name) != Some(&reference.hash));
            let root = |hash, name: &str| Root { hash, keep_since: self.settings.keep_since(name, now) };
            let mut roots: Vec<Root> = moved.map(|reference| root(reference.hash, &reference.name)).collect();
            roots.append(&mut more);
            if roots.is_empty() {
                return Ok(());
            }
            self.repository.mark(&roots, &mut self.marks).await?;
            self.kept.follow(self.state, self.tenant, &self.marks).await?;
            self.heads = found.into_iter().map(|reference| (reference.name, reference.hash)).collect();
        }
    }

    async fn sweep_files(&mut self, folder: &Location, limit_ms: i64) -> Result<(), CatalogError> {
        if !self.kept.unreadable.is_empty() {
            // What can't be read may need any file.
            return Ok(());
        }
        let mut files = self.state.storage.list_below(folder.clone());
        let mut batch: Vec<(StoredFile, &'static str)> = Vec::new();
        while let Some(file) = files.next().await {
            let file = file?;
            if self.kept.holds(&file.location) {
                self.report.files_kept += 1;
            } else if file.modified_ms > limit_ms {
                self.report.files_young += 1;
            } else if let Some(reason) = self.reason(&file.location) {
                batch.push((file, reason));
            } else {
                self.report.files_foreign += 1;
            }
            if batch.len() == BATCH {
                self.delete(std::mem::take(&mut batch), limit_ms).await?;
            }
        }
        self.delete(batch, limit_ms).await
    }

    /// Why a file that nothing needs may go; `None` for files that Firn and its clients did not put there as a table's.
    fn reason(&self, location: &Location) -> Option<&'static str> {
        if self.settings.folders.is_some() {
            return Some(UNNEEDED);
        }
        for folder in location.folders() {
            if self.kept.tables.contains(&folder) {
                return Some(UNNEEDED);
            }
            if ends_in_uuid(folder.name()) {
                return Some("its table was dropped or never committed");
            }
        }
        None
    }

    async fn delete(
        &mut self,
        batch: Vec<(StoredFile, &'static str)>,
        limit_ms: i64,
    ) -> Result<(), CatalogError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.mark(&[]).await?;
        if !self.kept.unreadable.is_empty() {
            return Ok(());
        }
        let (needed, unneeded): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|(file, _)| self.kept.holds(&file.location));
        self.report.files_kept += needed.len() as u64;
        let (storage, tenant, dry_run) = (&self.state.storage, self.tenant, self.settings.dry_run);
        let removals: Vec<_> = unneeded
            .into_iter()
            .map(|(file, reason)| async move {
                let removed = dry_run || remove_unchanged(storage, tenant, &file, limit_ms).await?;
                Ok::<_, CatalogError>((file, reason, removed))
            })
            .collect();
        let mut removals = futures::stream::iter(removals).buffered(PARALLEL);
        while let Some(outcome) = removals.next().await {
            match outcome? {
                (file, reason, true) => {
                    list_file(&mut self.report, file.location.to_string(), file.bytes, reason.to_owned());
                }
                (_, _, false) => self.report.files_changed += 1,
            }
        }
        Ok(())
    }
}

/// Deletes a file if it is still the one that was listed: a long listing may be hours old, and someone may have written the
/// same name since.
pub(super) async fn remove_unchanged(
    storage: &Storage,
    tenant: &str,
    listed: &StoredFile,
    limit_ms: i64,
) -> Result<bool, CatalogError> {
    let Some(now) = storage.look(&listed.location).await? else { return Ok(false) };
    // Not by equal times: some servers list fractions of a second and tell whole ones.
    if now.bytes != listed.bytes || now.modified_ms > limit_ms {
        return Ok(false);
    }
    storage.delete_file(tenant, &listed.location.to_string()).await?;
    Ok(true)
}

/// Whether a folder's name ends in a uuid, as those of all tables do that Firn places.
fn ends_in_uuid(name: &str) -> bool {
    const UUID: usize = 36;
    let Some(start) = name.len().checked_sub(UUID) else { return false };
    let (Some(stem), Some(end)) = (name.get(..start), name.get(start..)) else { return false };
    stem.ends_with('-') && uuid::Uuid::parse_str(end).is_ok()
}
