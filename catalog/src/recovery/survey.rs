//! What the object store holds: exports, and tables' metadata files.

use std::collections::BTreeMap;

use firn_auth::TenantName;
use futures::TryStreamExt as _;

use super::{FOLDER, MANIFEST, folder};
use crate::{
    CatalogError,
    management::AppState,
    storage::{Location, StoredFile},
};

/// A tenant's files that matter to a rebuild.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Folder of the newest export that is whole.
    pub(super) export: Option<String>,
    /// By folder of a table or view: its metadata files.
    pub(super) metadata: BTreeMap<String, Vec<MetadataFile>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MetadataFile {
    /// The number before the first dash of its name.
    pub(super) version: u32,
    pub(super) modified_ms: i64,
    pub(super) location: String,
}

/// By tenant, everything below the warehouse.
pub(super) async fn all(state: &AppState) -> Result<BTreeMap<String, Found>, CatalogError> {
    let Some(root) = state.storage.shared_root() else {
        let message = "each tenant has a bucket of its own: name the tenant to rebuild";
        return Err(CatalogError::Invalid(message.to_owned()));
    };
    below(state, root, |location| tenant_of(root, location)).await
}

/// Everything of one tenant.
pub(super) async fn one(state: &AppState, tenant: &str) -> Result<BTreeMap<String, Found>, CatalogError> {
    below(state, &state.storage.tenant_root(tenant), |_| Some(tenant.to_owned())).await
}

async fn below(
    state: &AppState,
    root: &Location,
    tenant_of: impl Fn(&Location) -> Option<String>,
) -> Result<BTreeMap<String, Found>, CatalogError> {
    let mut tenants: BTreeMap<String, Found> = BTreeMap::new();
    let mut files = state.storage.list_below(root.clone());
    while let Some(file) = files.try_next().await? {
        let Some(tenant) = tenant_of(&file.location) else { continue };
        let found = tenants.entry(tenant).or_default();
        if let Some(export) = export_of(&file.location) {
            found.export = found.export.take().max(Some(export));
        } else if let Some((table, metadata)) = metadata_of(&file) {
            found.metadata.entry(table).or_default().push(metadata);
        }
    }
    tenants.retain(|_, found| found.export.is_some() || !found.metadata.is_empty());
    Ok(tenants)
}

/// A tenant's exports, whole or not, with their files.
pub(super) async fn exports(
    state: &AppState,
    tenant: &str,
) -> Result<Vec<(String, Vec<String>)>, CatalogError> {
    let mut exports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files = state.storage.list_below(folder(&state.storage.tenant_root(tenant)));
    while let Some(file) = files.try_next().await? {
        if let Some(parent) = file.location.folders().next() {
            exports.entry(parent.to_string()).or_default().push(file.location.to_string());
        }
    }
    Ok(exports.into_iter().collect())
}

fn tenant_of(root: &Location, location: &Location) -> Option<String> {
    let folder = location.folders().take_while(|folder| folder.is_within(root)).last()?;
    folder.name().parse::<TenantName>().ok().map(|tenant| tenant.to_string())
}

/// The folder of an export whose manifest this is.
fn export_of(location: &Location) -> Option<String> {
    let mut folders = location.folders();
    let (own, parent) = (folders.next()?, folders.next()?);
    (location.name() == MANIFEST && parent.name() == FOLDER).then(|| own.to_string())
}

/// The folder of a table or view whose metadata file this is.
fn metadata_of(file: &StoredFile) -> Option<(String, MetadataFile)> {
    let name = file.location.name();
    let mut folders = file.location.folders();
    let (own, table) = (folders.next()?, folders.next()?);
    if !name.ends_with(".metadata.json") || own.name() != "metadata" {
        return None;
    }
    let version = name.split('-').next()?.parse().ok()?;
    let metadata =
        MetadataFile { version, modified_ms: file.modified_ms, location: file.location.to_string() };
    Some((table.to_string(), metadata))
}
