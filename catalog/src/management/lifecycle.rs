//! The end of a tenant, in steps that can be taken back until the last: suspended, deleted, purged.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use bytes::Bytes;
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use firn_catalog_client::{Tenant, TenantSuspend};
use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AppState,
    answer::Refused,
    change::{Change, SYSTEM},
    holds, tenants, tokens,
};
use crate::{CatalogError, version::Actor};

const DEFAULT_GRACE_S: i64 = 30 * 86_400;
const MAX_GRACE_S: i64 = 3_650 * 86_400;
const MAX_REASON_CHARS: usize = 500;
/// Files that are deleted at once.
const PARALLEL: usize = 16;

#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct Grace {
    grace_s: Option<i64>,
}

/// `POST /v1/tenants/{tenant}/suspend`: everybody is refused until it is resumed.
pub(super) async fn suspend(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Tenant>, Refused> {
    state.guard.operator(&headers).await?;
    let request: TenantSuspend =
        if body.is_empty() { TenantSuspend::default() } else { super::parse(&body)? };
    if request.reason.chars().count() > MAX_REASON_CHARS || request.reason.chars().any(char::is_control) {
        let text = format!("a reason is one line of at most {MAX_REASON_CHARS} characters");
        return Err(CatalogError::Invalid(text).into());
    }
    let details = json!({"reason": request.reason});
    step(&state, &headers, &tenant, "tenant-suspended", &details, |tenant| match tenant.state.as_str() {
        "active" | "suspended" => {
            tenant.state = "suspended".to_owned();
            tenant.reason.clone_from(&request.reason);
            Ok(())
        }
        _ => Err(tenants::gone(tenant)),
    })
    .await
}

/// `POST /v1/tenants/{tenant}/resume`: one that is active stays so.
pub(super) async fn resume(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Tenant>, Refused> {
    step(&state, &headers, &tenant, "tenant-resumed", &Value::Null, |tenant| match tenant.state.as_str() {
        "active" | "suspended" => {
            tenant.state = "active".to_owned();
            tenant.reason.clear();
            Ok(())
        }
        _ => Err(tenants::gone(tenant)),
    })
    .await
}

/// `DELETE /v1/tenants/{tenant}?grace_s=`: nobody reaches it any more; after the grace period its data goes for good.
pub(super) async fn delete(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    Query(Grace { grace_s }): Query<Grace>,
    headers: HeaderMap,
) -> Result<Json<Tenant>, Refused> {
    state.guard.operator(&headers).await?;
    let grace_s = grace_s.unwrap_or(DEFAULT_GRACE_S);
    if !(0..=MAX_GRACE_S).contains(&grace_s) {
        return Err(CatalogError::Invalid(format!("a grace period has 0 to {MAX_GRACE_S} s")).into());
    }
    let now = Utc::now();
    let details = json!({"grace_s": grace_s});
    step(&state, &headers, &tenant, "tenant-deleted", &details, |tenant| match tenant.state.as_str() {
        // A repeated request doesn't move the day.
        "deleted" => Ok(()),
        "purged" => Err(tenants::gone(tenant)),
        _ => {
            tenant.state = "deleted".to_owned();
            tenant.deleted_at = Some(instant(now));
            tenant.purge_after = Some(instant(now + Duration::seconds(grace_s)));
            Ok(())
        }
    })
    .await
}

/// `POST /v1/tenants/{tenant}/restore`: as it was before it was deleted.
pub(super) async fn restore(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Tenant>, Refused> {
    step(&state, &headers, &tenant, "tenant-restored", &Value::Null, |tenant| match tenant.state.as_str() {
        "purging" | "purged" => Err(tenants::gone(tenant)),
        "deleted" => {
            tenant.state = if tenant.reason.is_empty() { "active" } else { "suspended" }.to_owned();
            (tenant.deleted_at, tenant.purge_after) = (None, None);
            Ok(())
        }
        _ => Ok(()),
    })
    .await
}

/// `POST /v1/tenants/{tenant}/purge`: removes the data of a deleted tenant whose grace period is over.
pub(super) async fn purge(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Tenant>, Refused> {
    let principal = state.guard.operator(&headers).await?;
    Ok(Json(purge_tenant(&state, &tenant, &tokens::actor(&principal, &headers)).await?))
}

/// Purges every tenant whose grace period is over; answers which.
pub(crate) async fn purge_due(state: &AppState) -> Result<Vec<String>, CatalogError> {
    let mut purged = Vec::new();
    for tenant in tenants::all(state).await? {
        let is_over = matches!(tenant.state.as_str(), "deleted" | "purging") && is_due(&tenant);
        // What is held waits, without keeping others from their end.
        if is_over && holds::active(state, &tenant.name).await?.is_empty() {
            purge_tenant(state, &tenant.name, &Actor::default()).await?;
            purged.push(tenant.name);
        }
    }
    Ok(purged)
}

/// Files first, rows after them: what stops half-way is done again. The tenant's own document stays, so that its name is not
/// given to anybody else.
async fn purge_tenant(state: &AppState, name: &str, actor: &Actor) -> Result<Tenant, CatalogError> {
    holds::forbid(state, name, "a purge").await?;
    tenants::change(state, name, actor, "tenant-purging", &Value::Null, |tenant| {
        match tenant.state.as_str() {
            "deleted" | "purging" if is_due(tenant) => tenant.state = "purging".to_owned(),
            "deleted" => {
                let (name, until) = (&tenant.name, tenant.purge_after.as_deref().unwrap_or_default());
                let text = format!("the tenant '{name}' can be restored until {until}: purge it after that");
                return Err(CatalogError::ReferenceConflict(text));
            }
            "purged" => {}
            _ => {
                let text = format!("the tenant '{}' is in use: delete it first", tenant.name);
                return Err(CatalogError::ReferenceConflict(text));
            }
        }
        Ok(())
    })
    .await?;
    let files = state.storage.list(name).try_for_each_concurrent(PARALLEL, |file| async move {
        state.storage.delete_file(name, &file.location.to_string()).await
    });
    files.await?;
    state.store.purge(name).await?;
    let details = json!({"tenant": name});
    // The tenant's own log is gone, too: what is told of its end is told in the one of all.
    Change::new(SYSTEM, actor, "tenant-purged", &details).make(state).await?;
    tenants::change(state, name, actor, "tenant-purged", &details, |tenant| {
        tenant.state = "purged".to_owned();
        tenant.tags.clear();
        tenant.reason.clear();
        Ok(())
    })
    .await
}

fn is_due(tenant: &Tenant) -> bool {
    let after = tenant.purge_after.as_deref().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    after.is_some_and(|after| after <= Utc::now())
}

/// One step, by an operator. The tenant that holds what belongs to no other stays.
async fn step(
    state: &AppState,
    headers: &HeaderMap,
    tenant: &str,
    kind: &'static str,
    details: &Value,
    edit: impl Fn(&mut Tenant) -> Result<(), CatalogError>,
) -> Result<Json<Tenant>, Refused> {
    let principal = state.guard.operator(headers).await?;
    if tenant == SYSTEM {
        let text = format!("'{SYSTEM}' holds what belongs to no other tenant: it is always in use");
        return Err(CatalogError::Invalid(text).into());
    }
    let actor = tokens::actor(&principal, headers);
    Ok(Json(tenants::change(state, tenant, &actor, kind, details, edit).await?))
}

fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
