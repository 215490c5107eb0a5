//! Garbage collection of one tenant: mark from all references to commits, states, metadata, manifests and files, then sweep
//! what is older than the safety age and was not reached.
//!
//! Order makes it safe beside writers: old objects are listed before the mark begins, files after it; and before each
//! batch of deletions the references are read again, what they newly reach is marked, and each file is looked at once more.
//!
//! The same run, over one table's folder and without the database, finds the files that writers left behind there.
//!
//! Files are listed and judged one by one. What stays in memory is eight bytes and some for each needed file that lies where
//! the run searches, and the names of the metadata files and manifests that were read.

mod files;
mod run;
mod spelling;

#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use firn_catalog_client::{GcReport, GcRequest, GcTable};

use crate::{
    CatalogError,
    delegation::TableFiles,
    error::Missing,
    management::AppState,
    storage::Location,
    version::{Key, SAFETY_AGE},
};

pub(crate) use run::collect;

/// Shorter than this, and a file could be taken whose commit is under way.
const MIN_SAFETY_AGE: TimeDelta = TimeDelta::hours(1);

/// What to keep.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Only say what would go.
    pub(crate) dry_run: bool,
    /// What is younger stays in any case.
    pub(crate) safety_age: TimeDelta,
    /// How old states may be; all if `None`.
    pub(crate) history: Option<TimeDelta>,
    /// By reference, instead of that.
    pub(crate) history_of: Vec<(String, TimeDelta)>,
    /// Folders of one table: only files below them go. `None` for all that is the tenant's.
    pub(crate) folders: Option<Vec<Location>>,
}

impl Settings {
    /// Of a request; a safety age that is dangerous is refused.
    pub(crate) fn of(request: &GcRequest) -> Result<Self, CatalogError> {
        let age = |seconds: u64| {
            i64::try_from(seconds)
                .ok()
                .and_then(TimeDelta::try_seconds)
                .ok_or_else(|| CatalogError::Invalid(format!("an age of {seconds} seconds is out of range")))
        };
        let safety_age = request.safety_age_s.map(age).transpose()?.unwrap_or(SAFETY_AGE);
        if safety_age < MIN_SAFETY_AGE {
            return Err(CatalogError::Invalid(format!(
                "the safety age is at least {} seconds: a younger file may belong to a commit under way",
                MIN_SAFETY_AGE.num_seconds()
            )));
        }
        let history_of = request.history_of.iter().map(|(name, seconds)| Ok((name.clone(), age(*seconds)?)));
        Ok(Self {
            dry_run: request.dry_run,
            safety_age,
            history: request.history_s.map(age).transpose()?,
            history_of: history_of.collect::<Result<_, CatalogError>>()?,
            folders: None,
        })
    }

    /// Since when a reference's states are kept.
    fn keep_since(&self, reference: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let own = self.history_of.iter().find(|(name, _)| name == reference).map(|(_, age)| *age);
        own.or(self.history).map(|age| now - age.max(self.safety_age))
    }
}

/// The folders that hold a table's files and no others: its location, and what the caller vouches for. What the table's own
/// properties name doesn't count, since whoever writes the table sets those.
pub(crate) async fn folders_of(
    state: &AppState,
    tenant: &str,
    table: &GcTable,
) -> Result<Vec<Location>, CatalogError> {
    let repository = state.versions.repository(tenant);
    let at = repository.resolve(&table.reference).await?.hash;
    let mut key = table.ident.namespace.clone();
    key.push(table.ident.name.clone());
    let content = repository.get(at, &[Key(key)]).await?.pop().flatten();
    let content = content.filter(|content| content.content_type() == "ICEBERG_TABLE");
    let metadata = content.as_ref().and_then(|content| content.0.get("metadataLocation")?.as_str());
    let Some(metadata) = metadata else {
        return Err(CatalogError::NotFound {
            what: Missing::Table,
            name: table.ident.to_string(),
            hint: format!(
                " on {}: files of tables that are gone are found by a collection of the whole tenant",
                table.reference
            ),
        });
    };
    let bytes = state.storage.read_metadata(tenant, metadata).await?;
    let mut folders = vec![TableFiles::in_metadata(&state.storage, tenant, &bytes)?.place().clone()];
    for folder in &table.folders {
        folders.push(state.storage.check(tenant, folder)?);
    }
    // One within another is listed with it.
    let all = folders.clone();
    let mut kept: Vec<Location> = Vec::new();
    for folder in folders {
        if !kept.contains(&folder) && !all.iter().any(|other| folder.is_within(other)) {
            kept.push(folder);
        }
    }
    Ok(kept)
}

/// More removed files than this are counted, not listed.
const MAX_LISTED: usize = 1000;

/// Adds a file to a report.
fn list_file(report: &mut GcReport, location: String, bytes: u64, reason: String) {
    report.files_removed += 1;
    report.bytes_removed += bytes;
    if report.removed.len() < MAX_LISTED {
        report.removed.push(firn_catalog_client::GcFile { location, bytes, reason });
    }
}
