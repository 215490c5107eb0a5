//! Copies of erasures beside the tenant's tables, in `<tenant>/_erasures/`: so a database that is restored from before an erasure,
//! or made anew, learns of it again. Without that, records of the subject that lie in the log still would be taken anew.
//!
//! A copy holds the subject's value only while the rows are there, too: the one that is written when they are gone has it no more.

use bytes::Bytes;
use firn_auth::TenantName;
use firn_catalog_client::ErasureJob;
use futures::{StreamExt, TryStreamExt, stream};

use super::{AppState, KEY_KIND, KIND, details, load, stored_key};
use crate::{
    CatalogError, management::change::Change, storage::Location, store::DocumentSelection, version::Actor,
};

/// Folder of a tenant's copies.
const FOLDER: &str = "_erasures";
/// Tenants looked at once.
const PARALLEL: usize = 16;

fn folder(state: &AppState, tenant: &str) -> Location {
    state.storage.tenant_root(tenant).join(FOLDER)
}

/// Writes the copy of an erasure, over the one before.
pub(super) async fn write(state: &AppState, tenant: &str, job: &ErasureJob) -> Result<(), CatalogError> {
    if job.erasure.dry_run {
        return Ok(());
    }
    // What is learned of the rows is learned again.
    let copy = ErasureJob { events: [].into(), unfenced: [].into(), root: String::new(), ..job.clone() };
    let bytes = serde_json::to_vec(&copy).map_err(|error| CatalogError::Internal(error.to_string()))?;
    let location = folder(state, tenant).join(&format!("{}.json", job.erasure.id)).to_string();
    state.storage.replace_file(tenant, &location, Bytes::from(bytes)).await
}

/// Puts back the erasures that the object store knows of and the database doesn't; answers how many, by tenant. Of a tenant whose
/// files can't be read the log tells, and the next start looks again.
pub(crate) async fn recover_erasures(state: &AppState, tenants: Vec<TenantName>) -> Vec<(TenantName, usize)> {
    let looks = tenants.into_iter().map(|tenant| async move {
        match recover(state, tenant.as_str()).await {
            Ok(0) => None,
            Ok(count) => Some((tenant, count)),
            Err(error) => {
                tracing::warn!(tenant = tenant.as_str(), %error, "erasures in the object store were not looked at");
                None
            }
        }
    });
    stream::iter(looks).buffer_unordered(PARALLEL).filter_map(futures::future::ready).collect().await
}

async fn recover(state: &AppState, tenant: &str) -> Result<usize, CatalogError> {
    let files: Vec<_> = state.storage.list_below(folder(state, tenant)).try_collect().await?;
    if files.is_empty() {
        return Ok(0);
    }
    let known = load(state, DocumentSelection::Tenant(tenant)).await?;
    let mut count = 0;
    for file in files.into_iter().filter(|file| file.location.name().ends_with(".json")) {
        let bytes = state.storage.read_file(tenant, &file.location.to_string()).await?;
        let job: ErasureJob = match serde_json::from_slice(&bytes) {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(tenant, file = %file.location, %error, "a copy of an erasure can't be read, and is left out");
                continue;
            }
        };
        if job.erasure.tenant != tenant || known.iter().any(|known| known.erasure.id == job.erasure.id) {
            continue;
        }
        count += usize::from(put_back(state, tenant, &job).await?);
    }
    Ok(count)
}

async fn put_back(state: &AppState, tenant: &str, job: &ErasureJob) -> Result<bool, CatalogError> {
    let mut change = Change::new(tenant, &Actor::default(), "erasure-recovered", &details(&job.erasure));
    change = change.put(KIND, &job.erasure.id, Some(0), job)?;
    if stored_key(state, tenant).await?.is_none() {
        change = change.put(KEY_KIND, "", Some(0), &job.key)?;
    }
    change.make(state).await
}
