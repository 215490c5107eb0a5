//! Branches and tags that go by themselves: when they may is kept beside them, and the compactor asks now and then that it be
//! done. Protected branches never go, and nothing goes while a legal hold is in force.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use firn_auth::{Action, glob_fits};
use firn_catalog_client::{Expiry, ExpiryRequest, PruneRequest, Pruned};
use serde_json::{Value, json};

use super::{
    AppState,
    access::read_all,
    answer::Refused,
    change::{Change, actor},
    holds,
    policies::{RULES, StoredRules},
    tenants,
};
use crate::{
    CatalogError,
    error::Missing,
    store::{DocumentRow, DocumentSelection},
    version::{Actor, EXPIRY, MAIN, NamedRef},
};

/// `GET /v1/tenants/{tenant}/expiries`: those of branches and tags that exist, first those that go first.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    read_all(&state, &headers, &tenant).await?;
    let references = references(&state, &tenant).await?;
    let mut expiries: Vec<_> = all(&state, &tenant).await?.into_iter().map(|stored| stored.expiry).collect();
    expiries.retain(|expiry| references.iter().any(|reference| reference.name == expiry.reference));
    Ok(Json(json!({ "expiries": expiries })))
}

/// `PUT /v1/tenants/{tenant}/expiries/{ref}`, by who may delete it.
pub(super) async fn set(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Expiry>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::DeleteReference).await?;
    access.require_all(Action::DeleteReference, Some(&name))?;
    let ExpiryRequest { expires_at } = super::parse(&body)?;
    let instant = DateTime::parse_from_rfc3339(&expires_at).map_err(|_| {
        CatalogError::Invalid(
            "'expires_at' is an instant of RFC 3339, such as 2027-01-31T00:00:00Z".to_owned(),
        )
    })?;
    require(&state, &tenant, &name).await?;
    if let Some(reason) = never(&state, &tenant, &name).await? {
        return Err(CatalogError::Invalid(format!("{reason}, and never expires")).into());
    }
    let expiry = Expiry {
        reference: name.clone(),
        expires_at: instant.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true),
        set_by: access.principal().name().to_owned(),
        set_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    let change = Change::new(&tenant, &actor(&access), "reference-expiry-set", &json!(expiry));
    change.put(EXPIRY, &name, None, &expiry)?.make(&state).await?;
    Ok(Json(expiry))
}

/// `DELETE /v1/tenants/{tenant}/expiries/{ref}`: it stays until somebody deletes it.
pub(super) async fn unset(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::DeleteReference).await?;
    access.require_all(Action::DeleteReference, Some(&name))?;
    require(&state, &tenant, &name).await?;
    let details = json!({ "reference": name });
    let change = Change::new(&tenant, &actor(&access), "reference-expiry-unset", &details);
    change.remove(EXPIRY, &name, None).make(&state).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/tenants/{tenant}/expiries`: removes branches and tags whose time is over, and tells why others stay.
pub(super) async fn prune(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Maintain).await?;
    let PruneRequest { dry_run } = super::parse(&body)?;
    tenants::require(&state, &tenant).await?;
    let references = references(&state, &tenant).await?;
    let mut pruned = Vec::new();
    for Stored { expiry, .. } in all(&state, &tenant).await?.into_iter().filter(Stored::is_over) {
        let Some(found) = references.iter().find(|reference| reference.name == expiry.reference) else {
            continue;
        };
        let mut kept = never(&state, &tenant, &expiry.reference).await?;
        if kept.is_none() {
            let held = holds::forbid(&state, &tenant, "its expiry").await;
            kept = held.err().map(|error| error.to_string());
        }
        if kept.is_none() && !dry_run {
            match remove(&state, &tenant, found, &expiry, actor(&access)).await {
                // It moved just now: the next time it is looked at again.
                Err(CatalogError::ReferenceConflict(moved)) => kept = Some(moved),
                removed => removed?,
            }
        }
        pruned.push(Pruned {
            reference: expiry.reference,
            expires_at: expiry.expires_at,
            removed: kept.is_none(),
            reason: kept.unwrap_or_default(),
        });
    }
    Ok(Json(json!({ "pruned": pruned })))
}

/// Deletes it, and tells the audit log why. If this ends between the two steps the rest is of no matter: what is kept of a
/// reference that is gone says nothing, and goes when one of that name is made.
async fn remove(
    state: &AppState,
    tenant: &str,
    found: &NamedRef,
    expiry: &Expiry,
    actor: Actor,
) -> Result<(), CatalogError> {
    let repository = state.versions.repository(tenant).by(actor.clone());
    let deleted = repository.delete_reference(&expiry.reference, Some(found.hash)).await?;
    let details = json!({ "expiry": expiry, "tag": found.tag, "was_at": deleted.hash.to_string() });
    let change = Change::new(tenant, &actor, "reference-expired", &details);
    change.remove(EXPIRY, &expiry.reference, None).make(state).await?;
    tracing::info!(tenant, reference = expiry.reference, was_at = %deleted.hash, "a reference expired");
    Ok(())
}

/// Why a reference never expires, if it never does.
async fn never(state: &AppState, tenant: &str, name: &str) -> Result<Option<String>, CatalogError> {
    if name == MAIN {
        return Ok(Some(format!("'{MAIN}' is the default branch")));
    }
    let rows = state.store.documents(RULES, DocumentSelection::One { tenant, key: "" }).await?;
    let (rules, _) = StoredRules::of(rows.first()).map_err(CatalogError::Internal)?;
    let is_protected = rules.protections.iter().any(|protection| glob_fits(&protection.reference, name));
    Ok(is_protected.then(|| format!("'{name}' is protected")))
}

async fn references(state: &AppState, tenant: &str) -> Result<Vec<NamedRef>, CatalogError> {
    state.versions.repository(tenant).references().await
}

async fn require(state: &AppState, tenant: &str, name: &str) -> Result<(), CatalogError> {
    let missing =
        || CatalogError::NotFound { what: Missing::Reference, name: name.to_owned(), hint: String::new() };
    let known = references(state, tenant).await?;
    known.iter().any(|reference| reference.name == name).then_some(()).ok_or_else(missing)
}

fn instant(expiry: &Expiry) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(&expiry.expires_at).ok().map(|instant| instant.to_utc())
}

/// An expiry as it was read.
struct Stored {
    expiry: Expiry,
    /// When it was read, in microseconds by the database's clock: all replicas go by that one.
    read_at_us: i64,
}

impl Stored {
    /// Whether the reference's time is over.
    fn is_over(&self) -> bool {
        instant(&self.expiry).is_some_and(|instant| instant.timestamp_micros() <= self.read_at_us)
    }
}

/// First those that go first.
async fn all(state: &AppState, tenant: &str) -> Result<Vec<Stored>, CatalogError> {
    let rows = state.store.documents(EXPIRY, DocumentSelection::Tenant(tenant)).await?;
    let decode = |row: &DocumentRow| {
        let expiry = serde_json::from_slice::<Expiry>(&row.body).map_err(|error| {
            CatalogError::Internal(format!("an expiry of tenant '{tenant}' can't be read: {error}"))
        })?;
        Ok(Stored { expiry, read_at_us: row.read_at_us })
    };
    let mut expiries: Vec<Stored> = rows.iter().map(decode).collect::<Result<_, CatalogError>>()?;
    expiries.sort_by_key(|stored| instant(&stored.expiry));
    Ok(expiries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_over_by_the_databases_clock_whatever_this_process_thinks_it_is() {
        let stored = |expires_at: &str, read_at_us| Stored {
            expiry: Expiry {
                reference: "dev".to_owned(),
                expires_at: expires_at.to_owned(),
                set_by: "alice".to_owned(),
                set_at: String::new(),
            },
            read_at_us,
        };
        let (past, future) = ("2020-01-01T00:00:00Z", "2200-01-01T00:00:00Z");
        let second_us = |text: &str| DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_micros());
        let (past_us, future_us) = (second_us(past).unwrap_or(0), second_us(future).unwrap_or(0));
        assert!(!stored(past, past_us - 1).is_over() && stored(past, past_us).is_over());
        assert!(!stored(future, past_us).is_over() && stored(future, future_us).is_over());
        assert!(!stored("soon", future_us).is_over());
    }
}
