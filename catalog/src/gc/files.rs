//! The files that kept tables and views consist of.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use firn_catalog_client::GcUnreadable;
use futures::StreamExt as _;
use serde_json::Value;

use super::spelling::{FileSet, lies_below};
use crate::{
    CatalogError,
    management::AppState,
    manifests::{Manifest, ManifestError, ManifestFile, read_list},
    off_thread::off_thread,
    storage::Location,
    version::Marks,
};

/// Files read at once.
const PARALLEL: usize = 8;

/// Why a location is looked into no further.
const ODD: &str = "its location is spelled in a way that can't be read";

/// Files that stay. Adding to it costs only what is new.
pub(super) struct KeptFiles {
    /// Those that lie where this collection searches.
    files: FileSet,
    /// Metadata, manifest lists and manifests that were looked into. Exact, since what they name would be missed otherwise.
    read: HashSet<String>,
    /// Roots of tables and views.
    pub(super) tables: BTreeSet<Location>,
    /// What can't be read, so that nobody knows what it needs.
    pub(super) unreadable: Vec<GcUnreadable>,
}

/// What one file leads to.
#[derive(Default)]
struct Found {
    files: Vec<String>,
    lists: Vec<String>,
    manifests: Vec<ManifestFile>,
    table: Option<String>,
}

/// A file to look into.
#[derive(Clone)]
enum Look {
    Metadata(String),
    List(String),
    Manifest(Box<ManifestFile>),
}

impl Look {
    fn location(&self) -> &str {
        match self {
            Self::Metadata(location) | Self::List(location) => location,
            Self::Manifest(listed) => &listed.path,
        }
    }
}

/// Where a location leads.
enum Place {
    /// Into the tenant's storage.
    Inside,
    /// Elsewhere: nothing is read or removed there.
    Outside,
    /// Into the tenant's storage for some servers and engines, but not in a form that Firn would read.
    Odd,
}

impl KeptFiles {
    /// Nothing yet, of what lies below `folders`.
    pub(super) fn below(folders: &[Location]) -> Self {
        let folders: Vec<String> = folders.iter().map(Location::to_string).collect();
        Self {
            files: FileSet::below(folders.iter().map(String::as_str)),
            read: HashSet::new(),
            tables: BTreeSet::new(),
            unreadable: Vec::new(),
        }
    }

    /// Whether a file is needed.
    pub(super) fn holds(&self, location: &Location) -> bool {
        self.files.holds(&location.to_string())
    }

    /// Follows all marked contents to their files.
    pub(super) async fn follow(
        &mut self,
        state: &AppState,
        tenant: &str,
        marks: &Marks,
    ) -> Result<(), CatalogError> {
        let mut waiting = Vec::new();
        for (location, kind) in marks.contents() {
            match kind {
                "ICEBERG_TABLE" | "ICEBERG_VIEW" => waiting.push(Look::Metadata(location.to_owned())),
                // Nothing is known of what other files it may lead to.
                _ => {
                    self.keep(state, tenant, location);
                }
            }
        }
        while !waiting.is_empty() {
            waiting.retain(|look| self.is_to_be_read(state, tenant, look.location()));
            let looks: Vec<_> = waiting.drain(..).map(|look| look_into(state, tenant, look)).collect();
            let mut found = futures::stream::iter(looks).buffer_unordered(PARALLEL);
            while let Some((look, outcome)) = found.next().await {
                match outcome {
                    Ok(found) => {
                        for file in &found.files {
                            self.keep(state, tenant, file);
                        }
                        waiting.extend(found.lists.into_iter().map(Look::List));
                        waiting.extend(found.manifests.into_iter().map(|one| Look::Manifest(Box::new(one))));
                        self.tables
                            .extend(found.table.and_then(|place| state.storage.check(tenant, &place).ok()));
                    }
                    Err(Stop::Unreadable(reason)) => {
                        let location = look.location().to_owned();
                        self.unreadable.push(GcUnreadable { location, reason });
                    }
                    Err(Stop::Failed(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Keeps a file that leads to others, and answers whether it is to be looked into.
    fn is_to_be_read(&mut self, state: &AppState, tenant: &str, text: &str) -> bool {
        let place = self.keep(state, tenant, text);
        let is_new = !matches!(place, Place::Outside) && self.read.insert(text.to_owned());
        if is_new && matches!(place, Place::Odd) {
            let unreadable = GcUnreadable { location: text.to_owned(), reason: ODD.to_owned() };
            self.unreadable.push(unreadable);
            return false;
        }
        is_new
    }

    /// Keeps a file.
    fn keep(&mut self, state: &AppState, tenant: &str, text: &str) -> Place {
        self.files.insert(text);
        if state.storage.check(tenant, text).is_ok() {
            return Place::Inside;
        }
        let root = state.storage.tenant_root(tenant).to_string();
        if lies_below(text, &root) { Place::Odd } else { Place::Outside }
    }
}

enum Stop {
    Unreadable(String),
    Failed(CatalogError),
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Invalid(reason) => Self::Unreadable(reason),
            other => Self::Failed(other),
        }
    }
}

impl From<ManifestError> for Stop {
    fn from(error: ManifestError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

async fn look_into(state: &AppState, tenant: &str, look: Look) -> (Look, Result<Found, Stop>) {
    let found = match look.clone() {
        Look::Metadata(location) => metadata(state, tenant, &location).await,
        Look::List(location) => list(state, tenant, &location).await,
        Look::Manifest(listed) => manifest(state, tenant, *listed).await,
    };
    (look, found)
}

async fn metadata(state: &AppState, tenant: &str, location: &str) -> Result<Found, Stop> {
    let bytes = state.storage.read_metadata(tenant, location).await?;
    let document: BTreeMap<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| Stop::Unreadable(error.to_string()))?;
    let text = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
    let all = |list: &str| document.get(list).and_then(Value::as_array).into_iter().flatten();
    let mut found = Found {
        table: document.get("location").and_then(Value::as_str).map(str::to_owned),
        ..Found::default()
    };
    for snapshot in all("snapshots") {
        found.lists.extend(text(snapshot, "manifest-list"));
        if snapshot["manifests"].is_array() {
            // Format version 1 may list manifests in place; they would have to be read without a list's help.
            return Err(Stop::Unreadable("its snapshots have no manifest lists".to_owned()));
        }
    }
    for statistics in all("statistics").chain(all("partition-statistics")) {
        found.files.extend(text(statistics, "statistics-path"));
    }
    Ok(found)
}

async fn list(state: &AppState, tenant: &str, location: &str) -> Result<Found, Stop> {
    let bytes = state.storage.read_file(tenant, location).await?;
    let manifests = off_thread(move || read_list(&bytes)).await??;
    Ok(Found { manifests, ..Found::default() })
}

async fn manifest(state: &AppState, tenant: &str, listed: ManifestFile) -> Result<Found, Stop> {
    let bytes = state.storage.read_file(tenant, &listed.path).await?;
    let manifest = off_thread(move || Manifest::parse(&bytes, &listed)).await??;
    let live = manifest.entries.into_iter().filter(|entry| entry.is_live());
    Ok(Found { files: live.map(|entry| entry.path).collect(), ..Found::default() })
}
