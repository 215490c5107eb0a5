//! Writing an export.

use bytes::Bytes;
use chrono::Utc;

use super::{FORMAT, MANIFEST, Manifest, Reference, folder, pack, survey};
use crate::{
    CatalogError,
    management::{self, AppState},
    store::Hash,
};

/// Objects listed at once.
const PAGE: u32 = 2_000;
/// A part is written once it is this large.
const PART_BYTES: usize = 8 << 20;
/// Older exports go.
const KEPT: usize = 5;

/// One export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Tenant.
    pub tenant: String,
    /// Where its manifest is.
    pub location: String,
    /// Branches and tags.
    pub references: usize,
    /// Commits and tree nodes.
    pub objects: u64,
}

/// Exports a tenant, then removes all but its newest exports.
pub(crate) async fn export(state: &AppState, tenant: &str) -> Result<Exported, CatalogError> {
    let record = management::tenant(state, tenant).await?;
    let record = serde_json::to_value(record).map_err(|error| CatalogError::Internal(error.to_string()))?;
    let exported_at_ms = Utc::now().timestamp_millis();
    let target = folder(&state.storage.tenant_root(tenant)).join(&format!("{exported_at_ms:015}"));
    // Before the objects: what these reach is there by then, and nothing removes it.
    let references = state.store.references(tenant).await?;
    let mut parts =
        Parts { state, tenant, target: target.to_string(), names: Vec::new(), buffer: Vec::new() };
    let objects = write_objects(&mut parts).await?;
    let manifest = Manifest {
        format: FORMAT,
        exported_at_ms,
        tenant: record,
        references: references.iter().map(Reference::from).collect(),
        parts: parts.names,
        objects,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| CatalogError::Internal(error.to_string()))?;
    let location = target.join(MANIFEST).to_string();
    state.storage.write_file(tenant, &location, Bytes::from(bytes)).await?;
    remove_old(state, tenant).await?;
    Ok(Exported { tenant: tenant.to_owned(), location, references: references.len(), objects })
}

struct Parts<'a> {
    state: &'a AppState,
    tenant: &'a str,
    target: String,
    names: Vec<String>,
    buffer: Vec<u8>,
}

impl Parts<'_> {
    async fn flush(&mut self) -> Result<(), CatalogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let name = format!("objects-{:05}", self.names.len());
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.state.storage.write_file(self.tenant, &format!("{}/{name}", self.target), bytes).await?;
        self.names.push(name);
        Ok(())
    }
}

async fn write_objects(parts: &mut Parts<'_>) -> Result<u64, CatalogError> {
    let (mut after, mut count) = (None, 0);
    loop {
        let page = parts.state.store.object_ages(parts.tenant, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.hash);
        let hashes: Vec<Hash> = page.iter().map(|object| object.hash).collect();
        for (hash, data) in parts.state.store.objects(parts.tenant, &hashes).await? {
            pack(&mut parts.buffer, &hash, &data);
            count += 1;
            if parts.buffer.len() >= PART_BYTES {
                parts.flush().await?;
            }
        }
    }
    parts.flush().await?;
    Ok(count)
}

/// Removes exports beyond those that are kept: manifests first, so that none is ever half there.
async fn remove_old(state: &AppState, tenant: &str) -> Result<(), CatalogError> {
    let mut folders = survey::exports(state, tenant).await?;
    folders.sort_by(|a, b| b.0.cmp(&a.0));
    for (_, mut files) in folders.into_iter().skip(KEPT) {
        files.sort_by_key(|file| !file.ends_with(MANIFEST));
        for file in files {
            state.storage.delete_file(tenant, &file).await?;
        }
    }
    Ok(())
}
