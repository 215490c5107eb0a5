//! Refusals in the audit logs: the catalog's own, and those that Firn's other services report.

use std::collections::HashMap;

use axum::{extract::State, http::HeaderMap, http::StatusCode};
use bytes::Bytes;
use firn_auth::{Refused, TenantName};
use serde_json::json;

use super::{AppState, answer};
use crate::{
    CatalogError,
    store::{Store, StoreError, Write, Written},
    version::{Actor, audit_event},
};

/// What one report may hold.
const MAX_REPORTED: usize = 1_000;
/// Longer reasons are cut.
const MAX_REASON: usize = 1_000;

/// `POST /v1/refusals`: a list of [`Refused`] that a service decided by itself.
pub(super) async fn report(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, answer::Refused> {
    let reporter = state.guard.operator(&headers).await?;
    let mut refusals: Vec<Refused> = super::parse(&body)?;
    if refusals.len() > MAX_REPORTED {
        let text = format!("{} refusals at once: send at most {MAX_REPORTED}", refusals.len());
        return Err(CatalogError::Invalid(text).into());
    }
    for refused in &mut refusals {
        let cut = refused.reason.floor_char_boundary(MAX_REASON);
        refused.reason.truncate(cut);
    }
    write(&*state.store, refusals, Some(reporter.name())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Writes refusals into their tenants' audit logs. A tenant that doesn't exist has none; the metric and the log line are all
/// there is of those.
pub(super) async fn write(
    store: &dyn Store,
    refusals: Vec<Refused>,
    reporter: Option<&str>,
) -> Result<(), StoreError> {
    let mut by_tenant: HashMap<TenantName, Vec<Refused>> = HashMap::new();
    for refused in refusals {
        by_tenant.entry(refused.tenant.clone()).or_default().push(refused);
    }
    for (tenant, refusals) in by_tenant {
        let events = refusals.into_iter().map(|refused| {
            let Refused { principal, action, reason, count, request_id, .. } = refused;
            let mut details = json!({ "action": action, "reason": reason, "count": count });
            if let Some(reporter) = reporter {
                details["reportedBy"] = json!(reporter);
            }
            audit_event("denied", &Actor { principal, request_id }, &details)
        });
        let write = Write { repository: tenant.to_string(), events: events.collect(), ..Write::default() };
        if let Written::Refused(_) = store.write(&write).await? {
            tracing::info!(%tenant, "requests for a tenant that doesn't exist were refused");
        }
    }
    Ok(())
}
