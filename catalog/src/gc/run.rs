//! One collection, from the mark to the report.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};
use firn_catalog_client::GcReport;
use futures::StreamExt as _;

use super::{Settings, files::KeptFiles, list_file};
use crate::{
    CatalogError,
    management::AppState,
    storage::{Location, StoredFile},
    version::{Hash, Marks, Repository, Root},
};

/// Files deleted before the references are read again.
const BATCH: usize = 500;

/// Collects a tenant's garbage.
pub(crate) async fn collect(
    state: &AppState,
    tenant: &str,
    settings: &Settings,
) -> Result<GcReport, CatalogError> {
    let started = Utc::now();
    let repository = state.versions.repository(tenant);
    let (old, young_roots, young) = repository.old_objects(settings.safety_age).await?;
    let mut collection = Collection {
        state,
        tenant,
        settings,
        repository,
        marks: Marks::default(),
        heads: BTreeMap::new(),
        kept: KeptFiles::default(),
        report: GcReport { dry_run: settings.dry_run, ..GcReport::default() },
    };
    collection.mark(&young_roots).await?;
    collection.sweep_files(started.timestamp_millis()).await?;
    // Marked once more, so that objects go by what the references reach now.
    collection.mark(&[]).await?;
    let swept = collection.repository.sweep(old, young, &collection.marks, settings.dry_run).await?;
    let mut report = collection.report;
    report.references = collection.heads.len() as u64;
    report.states_kept = collection.marks.kept_states() as u64;
    (report.objects_kept, report.objects_removed) = (swept.kept, swept.removed);
    report.object_bytes_removed = swept.removed_bytes;
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

    async fn sweep_files(&mut self, started_ms: i64) -> Result<(), CatalogError> {
        if !self.kept.unreadable.is_empty() {
            // What can't be read may need any file.
            return Ok(());
        }
        let limit_ms = started_ms - self.settings.safety_age.num_milliseconds();
        let mut files = self.state.storage.list(self.tenant);
        let mut batch: Vec<(StoredFile, String)> = Vec::new();
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
                self.delete(std::mem::take(&mut batch)).await?;
            }
        }
        self.delete(batch).await
    }

    /// Why a file that nothing needs may go; `None` for files that Firn and its clients did not put there as a table's.
    fn reason(&self, location: &Location) -> Option<String> {
        for folder in location.folders() {
            if self.kept.tables.contains(&folder) {
                return Some("no kept state of its table needs it".to_owned());
            }
            if ends_in_uuid(folder.name()) {
                return Some("its table was dropped or never committed".to_owned());
            }
        }
        None
    }

    async fn delete(&mut self, batch: Vec<(StoredFile, String)>) -> Result<(), CatalogError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.mark(&[]).await?;
        if !self.kept.unreadable.is_empty() {
            return Ok(());
        }
        for (file, reason) in batch {
            if self.kept.holds(&file.location) {
                self.report.files_kept += 1;
                continue;
            }
            let location = file.location.to_string();
            if !self.settings.dry_run {
                self.state.storage.delete_file(self.tenant, &location).await?;
            }
            list_file(&mut self.report, location, file.bytes, reason);
        }
        Ok(())
    }
}

/// Whether a folder's name ends in a uuid, as those of all tables do that Firn places.
fn ends_in_uuid(name: &str) -> bool {
    const UUID: usize = 36;
    let Some(start) = name.len().checked_sub(UUID) else { return false };
    let (Some(stem), Some(end)) = (name.get(..start), name.get(start..)) else { return false };
    stem.ends_with('-') && uuid::Uuid::parse_str(end).is_ok()
}
