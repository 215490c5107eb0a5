//! Legal holds: what is to stay as it is until somebody who may says otherwise. They win over garbage collection, purges,
//! expiry, erasures and the removal of references, and each refusal names them.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use firn_auth::Action;
use firn_catalog_client::{Hold, HoldRequest, Subject};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    AppState,
    answer::Refused,
    change::{Change, actor},
    erasures, tenants,
};
use crate::{CatalogError, error::Missing, store::DocumentSelection};

const KIND: &str = "hold";
const MAX_REASON_BYTES: usize = 2_000;

/// `GET /v1/tenants/{tenant}/holds`: also those that were released.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let mut holds: Vec<Hold> = all(&state, &tenant).await?.into_iter().map(|(hold, _)| hold).collect();
    holds.sort_by(|a, b| a.placed_at.cmp(&b.placed_at));
    Ok(Json(json!({ "holds": holds })))
}

/// `POST /v1/tenants/{tenant}/holds`.
pub(super) async fn place(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Hold>), Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    let held: HoldRequest = super::parse(&body)?;
    check(&held)?;
    tenants::require(&state, &tenant).await?;
    if let Some(reference) = &held.reference {
        state.versions.repository(&tenant).resolve(reference).await?;
    }
    let hold = Hold {
        id: Uuid::new_v4().simple().to_string(),
        placed_by: access.principal().name().to_owned(),
        placed_at: now(),
        released_by: None,
        released_at: None,
        active: true,
        held,
    };
    let details = details(&state, &tenant, &hold).await?;
    let change = Change::new(&tenant, &actor(&access), "hold-placed", &details);
    change.put(KIND, &hold.id, Some(0), &hold)?.make(&state).await?;
    Ok((StatusCode::CREATED, Json(hold)))
}

/// `DELETE /v1/tenants/{tenant}/holds/{id}`: releases it; it stays in the list. One that was released is no error.
pub(super) async fn release(
    State(state): State<AppState>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let found = all(&state, &tenant).await?.into_iter().find(|(hold, _)| hold.id == id);
    let missing = || CatalogError::NotFound { what: Missing::Hold, name: id.clone(), hint: String::new() };
    let (mut hold, version) = found.ok_or_else(missing)?;
    if hold.released_at.is_some() {
        return Ok(StatusCode::NO_CONTENT);
    }
    hold.released_by = Some(access.principal().name().to_owned());
    hold.released_at = Some(now());
    hold.active = false;
    let details = details(&state, &tenant, &hold).await?;
    let change = Change::new(&tenant, &actor(&access), "hold-released", &details);
    if !change.put(KIND, &hold.id, Some(version), &hold)?.make(&state).await? {
        let text = format!("the legal hold {id} was changed meanwhile: look at it again");
        return Err(CatalogError::ReferenceConflict(text).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The holds that are in force.
pub(super) async fn active(state: &AppState, tenant: &str) -> Result<Vec<Hold>, CatalogError> {
    let holds = all(state, tenant).await?;
    Ok(holds.into_iter().map(|(hold, _)| hold).filter(|hold| hold.active).collect())
}

/// Refuses what would remove data while anything of the tenant is held: nobody can tell what of it is needed.
pub(crate) async fn forbid(state: &AppState, tenant: &str, what: &str) -> Result<(), CatalogError> {
    refuse(active(state, tenant).await?.first(), what)
}

/// Refuses to move or remove a reference that is held.
pub(crate) async fn held_reference(
    state: &AppState,
    tenant: &str,
    reference: &str,
    what: &str,
) -> Result<(), CatalogError> {
    let holds = active(state, tenant).await?;
    refuse(holds.iter().find(|hold| hold.held.reference.as_deref() == Some(reference)), what)
}

/// Refuses to remove a table that is held, by whatever name its key is spelled.
pub(crate) async fn held_table(
    state: &AppState,
    tenant: &str,
    key: &[String],
    what: &str,
) -> Result<(), CatalogError> {
    let name = key.join(".");
    let holds = active(state, tenant).await?;
    refuse(holds.iter().find(|hold| hold.held.table.as_ref() == Some(&name)), what)
}

/// Refuses to erase a subject that is held, or anything while all of the tenant is. What else is held shows in the files.
pub(super) async fn held_subject(
    state: &AppState,
    tenant: &str,
    subject: &Subject,
) -> Result<(), CatalogError> {
    let is_all =
        |held: &HoldRequest| held.subject.is_none() && held.table.is_none() && held.reference.is_none();
    let holds = active(state, tenant).await?;
    let hold = holds.iter().find(|hold| hold.held.subject.as_ref() == Some(subject) || is_all(&hold.held));
    refuse(hold, "this erasure")
}

fn refuse(hold: Option<&Hold>, what: &str) -> Result<(), CatalogError> {
    match hold {
        None => Ok(()),
        Some(hold) => Err(CatalogError::ReferenceConflict(format!(
            "{} forbids {what}: it can be done once the hold is released ('firn hold release {}')",
            hold.describe(),
            hold.id
        ))),
    }
}

fn check(held: &HoldRequest) -> Result<(), CatalogError> {
    let invalid = |text: &str| Err(CatalogError::Invalid(text.to_owned()));
    let named = [held.subject.is_some(), held.table.is_some(), held.reference.is_some()];
    if named.into_iter().filter(|named| *named).count() > 1 {
        return invalid("a legal hold is on one of a subject, a table and a reference: place one for each");
    }
    if held.reason.trim().is_empty() || held.reason.len() > MAX_REASON_BYTES {
        return invalid("a legal hold needs a reason of at most 2,000 bytes");
    }
    if held.table.as_deref().is_some_and(|table| !table.contains('.')) {
        return invalid("a table is named as NAMESPACE.NAME");
    }
    match held.until.as_deref().map(DateTime::parse_from_rfc3339) {
        Some(Err(_)) => invalid("'until' is an instant of RFC 3339, such as 2027-01-31T00:00:00Z"),
        Some(Ok(until)) if until <= Utc::now() => invalid("'until' is in the past"),
        _ => Ok(()),
    }
}

/// For the audit log, which outlives what it tells of: a subject is told by its hash.
async fn details(state: &AppState, tenant: &str, hold: &Hold) -> Result<Value, CatalogError> {
    let held = &hold.held;
    let subject = match &held.subject {
        Some(subject) => Some(erasures::hash(state, tenant, subject).await?),
        None => None,
    };
    Ok(json!({
        "id": hold.id, "subject_hash": subject, "table": held.table, "reference": held.reference,
        "reason": held.reason, "until": held.until,
    }))
}

async fn all(state: &AppState, tenant: &str) -> Result<Vec<(Hold, i64)>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::Tenant(tenant)).await?;
    let decode = |row: &crate::store::DocumentRow| {
        let mut hold: Hold = serde_json::from_slice(&row.body).map_err(|error| {
            CatalogError::Internal(format!("a legal hold of tenant '{tenant}' can't be read: {error}"))
        })?;
        let until = hold.held.until.as_deref().and_then(|until| DateTime::parse_from_rfc3339(until).ok());
        hold.active = hold.released_at.is_none() && until.is_none_or(|until| until > Utc::now());
        Ok((hold, row.version))
    };
    rows.iter().map(decode).collect()
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}
