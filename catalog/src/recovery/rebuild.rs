//! Putting an export back into an empty database.

use std::str::FromStr as _;

use bytes::Bytes;
use firn_catalog_client::TenantCreate;

use super::{FORMAT, MANIFEST, Manifest, adopt, survey, unpack};
use crate::{
    CatalogError,
    management::{self, AppState},
    store::{Hash, ReferenceMove, Refusal, Write, Written},
    version::{MAIN, NO_ANCESTOR},
};

/// Bytes of objects in one transaction.
const WRITE_BYTES: usize = 4 << 20;

/// One tenant that is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Tenant.
    pub tenant: String,
    /// When the export was written, in milliseconds since the epoch; `None` if there was none.
    pub exported_at_ms: Option<i64>,
    /// Branches and tags.
    pub references: usize,
    /// Commits and tree nodes.
    pub objects: u64,
    /// Tables and views that were taken from metadata files.
    pub adopted: Vec<String>,
    /// Those that were not.
    pub skipped: Vec<Skipped>,
}

/// A table's folder that was left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its folder.
    pub location: String,
    /// Why.
    pub reason: String,
}

/// Rebuilds the tenants that the warehouse holds, or the one that is named. `from_metadata`: take what metadata files say
/// beyond the export, or where there is none.
pub(crate) async fn rebuild(
    state: &AppState,
    only: Option<&str>,
    from_metadata: bool,
) -> Result<Vec<Rebuilt>, CatalogError> {
    let found = match only {
        Some(tenant) => survey::one(state, tenant).await?,
        None => survey::all(state).await?,
    };
    if found.is_empty() {
        let message = "there are neither exports nor tables: check storage.warehouse, and the tenant's name";
        return Err(CatalogError::Invalid(message.to_owned()));
    }
    // Nothing is written before it is known that everything can be.
    for (tenant, found) in &found {
        if state.store.heads(tenant, &[]).await?.is_some() && !is_empty(state, tenant).await? {
            let message = format!(
                "the database has commits of tenant '{tenant}': rebuild into an empty one, or name another tenant"
            );
            return Err(CatalogError::AlreadyExists(message));
        }
        if found.export.is_none() && !from_metadata {
            let message = format!(
                "tenant '{tenant}' has no export: its tables alone can be taken from their metadata files, as they are \
                 newest on whichever branch, with --from-metadata"
            );
            return Err(CatalogError::Invalid(message));
        }
    }
    let mut rebuilt = Vec::new();
    for (tenant, found) in found {
        let mut done = match &found.export {
            Some(folder) => put_back(state, &tenant, folder).await?,
            None => fresh(state, &tenant).await?,
        };
        if from_metadata {
            adopt::newest(state, &tenant, &found, &mut done).await?;
        }
        rebuilt.push(done);
    }
    Ok(rebuilt)
}

/// A tenant that a starting server made is as good as none.
async fn is_empty(state: &AppState, tenant: &str) -> Result<bool, CatalogError> {
    let references = state.store.references(tenant).await?;
    Ok(references.iter().all(|reference| reference.name == MAIN && reference.hash == *NO_ANCESTOR))
}

async fn fresh(state: &AppState, tenant: &str) -> Result<Rebuilt, CatalogError> {
    let request = TenantCreate { name: tenant.to_owned(), ..TenantCreate::default() };
    management::create_tenant(state, &request).await?;
    Ok(Rebuilt {
        tenant: tenant.to_owned(),
        exported_at_ms: None,
        references: 1,
        objects: 0,
        adopted: Vec::new(),
        skipped: Vec::new(),
    })
}

async fn put_back(state: &AppState, tenant: &str, folder: &str) -> Result<Rebuilt, CatalogError> {
    let damaged = |what: &str| {
        CatalogError::Invalid(format!(
            "the export {folder} of tenant '{tenant}' is damaged ({what}): delete its \
            {MANIFEST}, and the one before it is used"
        ))
    };
    let bytes = state.storage.read_file(tenant, &format!("{folder}/{MANIFEST}")).await?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(damaged(&format!("format {}, this version knows {FORMAT}", manifest.format)));
    }
    let mut count = 0;
    for part in &manifest.parts {
        let bytes = state.storage.read_file(tenant, &format!("{folder}/{part}")).await?;
        let objects = unpack(&bytes).ok_or_else(|| damaged(part))?;
        count += objects.len() as u64;
        write_objects(state, tenant, objects).await?;
    }
    if count != manifest.objects {
        return Err(damaged(&format!("{count} objects, not {}", manifest.objects)));
    }
    restore_references(state, tenant, &manifest).await.map_err(|reason| damaged(&reason))?;
    management::put_tenant(state, tenant, &manifest.tenant).await?;
    Ok(Rebuilt {
        exported_at_ms: Some(manifest.exported_at_ms),
        references: manifest.references.len(),
        objects: count,
        ..fresh(state, tenant).await?
    })
}

async fn write_objects(
    state: &AppState,
    tenant: &str,
    objects: Vec<(Hash, Bytes)>,
) -> Result<(), CatalogError> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for (hash, data) in objects {
        bytes += data.len();
        chunk.push((hash, data));
        if bytes >= WRITE_BYTES {
            put(state, tenant, std::mem::take(&mut chunk)).await?;
            bytes = 0;
        }
    }
    put(state, tenant, chunk).await
}

async fn put(state: &AppState, tenant: &str, objects: Vec<(Hash, Bytes)>) -> Result<(), CatalogError> {
    let write = Write { repository: tenant.to_owned(), create_repository: true, objects, ..Write::default() };
    state.store.write(&write).await?;
    Ok(())
}

/// All references at once, last: until then the tenant has none.
async fn restore_references(state: &AppState, tenant: &str, manifest: &Manifest) -> Result<(), String> {
    let present = state.store.references(tenant).await.map_err(|error| error.to_string())?;
    let mut references = Vec::new();
    for reference in &manifest.references {
        let to = Hash::from_str(&reference.hash).map_err(|error| error.to_string())?;
        let from = present.iter().find(|row| row.name == reference.name).map(|row| row.hash);
        references.push(ReferenceMove {
            name: reference.name.clone(),
            tag: reference.tag,
            from,
            to: Some(to),
        });
    }
    let write = Write {
        repository: tenant.to_owned(),
        create_repository: true,
        raise_access_epoch: true,
        references,
        ..Write::default()
    };
    match state.store.write(&write).await.map_err(|error| error.to_string())? {
        Written::Done => Ok(()),
        Written::Refused(Refusal::Reference { .. }) => {
            Err("a server runs on the database: stop it".to_owned())
        }
        Written::Refused(refusal) => Err(format!("{refusal:?}")),
    }
}
