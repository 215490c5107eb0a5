//! Leases: a name held by one worker at a time, for as long as it renews it, with a fencing token that rises with each
//! new holder. Times are the database's, so that workers' clocks don't matter.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use firn_auth::Action;
use firn_catalog_client::{Lease, LeaseRequest};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{AppState, answer::Refused};
use crate::{
    CatalogError,
    store::{DocumentPut, DocumentRow, DocumentSelection, Write, Written},
};

const KIND: &str = "lease";
const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// Tries against others who take or renew the same lease.
const ATTEMPTS: usize = 5;

/// What is stored. The row stays when a lease is given back, since its token must never fall.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Empty if nobody has it.
    holder: String,
    fencing_token: i64,
    ttl_ms: u64,
}

#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct Holder {
    /// Who has it. What lacks is said only to those who may know.
    #[serde(default)]
    holder: String,
}

/// `POST /v1/tenants/{tenant}/leases/{name}`: acquire, or renew with the same holder.
pub(super) async fn acquire(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Lease>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Maintain).await?;
    let request: LeaseRequest = super::parse(&body)?;
    if request.holder.is_empty() || request.ttl_ms == 0 || request.ttl_ms > MAX_TTL_MS {
        let text = format!("a lease needs a holder and a ttl_ms of 1 to {MAX_TTL_MS}");
        return Err(CatalogError::Invalid(text).into());
    }
    for _ in 0..ATTEMPTS {
        let row = load(&state, &tenant, &name).await?;
        let (held, version) = present(&name, row.as_ref())?;
        let token = match held {
            Some((stored, remaining_ms)) if remaining_ms > 0 && stored.holder != request.holder => {
                return Err(held_by_other(&name, &stored.holder, remaining_ms).into());
            }
            Some((stored, remaining_ms)) if remaining_ms > 0 => stored.fencing_token,
            Some((stored, _)) => stored.fencing_token + 1,
            None => 1,
        };
        let stored = Stored { holder: request.holder.clone(), fencing_token: token, ttl_ms: request.ttl_ms };
        if put(&state, &tenant, &name, version, &stored).await? {
            let remaining_ms = request.ttl_ms;
            return Ok(Json(Lease { name, holder: request.holder, fencing_token: token, remaining_ms }));
        }
    }
    Err(CatalogError::Unavailable(format!("the lease '{name}' is contended: try again")).into())
}

/// `DELETE /v1/tenants/{tenant}/leases/{name}?holder=`: one that isn't held by the holder is left alone.
pub(super) async fn release(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    Query(Holder { holder }): Query<Holder>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Maintain).await?;
    if holder.is_empty() {
        return Err(CatalogError::Invalid("say whose lease it is: '?holder='".to_owned()).into());
    }
    let row = load(&state, &tenant, &name).await?;
    if let (Some((stored, _)), version) = present(&name, row.as_ref())?
        && stored.holder == holder
    {
        let free = Stored { holder: String::new(), fencing_token: stored.fencing_token, ttl_ms: 0 };
        // Refused means that the lease was renewed or taken meanwhile: it is no longer this request's to give.
        put(&state, &tenant, &name, version, &free).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn load(state: &AppState, tenant: &str, name: &str) -> Result<Option<DocumentRow>, CatalogError> {
    let selection = DocumentSelection::One { tenant, key: name };
    Ok(state.store.documents(KIND, selection).await?.into_iter().next())
}

/// The lease and how long it still holds, and the row's version.
fn present(name: &str, row: Option<&DocumentRow>) -> Result<(Option<(Stored, u64)>, i64), CatalogError> {
    let Some(row) = row else { return Ok((None, 0)) };
    let stored: Stored = serde_json::from_slice(&row.body)
        .map_err(|error| CatalogError::Internal(format!("the lease '{name}' can't be read: {error}")))?;
    let age_ms = u64::try_from((row.read_at_us - row.updated_at_us).max(0) / 1000).unwrap_or(u64::MAX);
    let remaining_ms = stored.ttl_ms.saturating_sub(age_ms);
    Ok((Some((stored, remaining_ms)), row.version))
}

async fn put(
    state: &AppState,
    tenant: &str,
    name: &str,
    version: i64,
    stored: &Stored,
) -> Result<bool, CatalogError> {
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: tenant.to_owned(),
        key: name.to_owned(),
        expected_version: Some(version),
        body: Some(Bytes::from(json!(stored).to_string())),
    };
    let write = Write { repository: tenant.to_owned(), documents: vec![put], ..Write::default() };
    Ok(state.store.write(&write).await? == Written::Done)
}

fn held_by_other(name: &str, holder: &str, remaining_ms: u64) -> CatalogError {
    let message = format!("the lease '{name}' is held by '{holder}' for another {remaining_ms} ms");
    CatalogError::Conflict { message, conflicts: Vec::new() }
}
