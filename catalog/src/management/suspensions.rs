//! Suspensions: what a person wants a stage not to do for a tenant until told otherwise. They are kept here because every
//! worker of a stage can reach the catalog, and they outlive all of them.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use firn_auth::{Action, TenantName};
use firn_catalog_client::{Suspension, SuspensionRequest};
use serde_json::{Value, json};

use super::{AppState, answer::Refused, tenants};
use crate::{
    CatalogError,
    store::{DocumentPut, DocumentSelection, Write},
};

const KIND: &str = "suspension";

/// The stages that look at their suspensions.
const STAGES: [&str; 1] = ["ingest"];

/// `GET /v1/suspensions`: those of the tenants that the token reaches. All stages of a suspended tenant stand still.
pub(super) async fn list(State(state): State<AppState>, headers: HeaderMap) -> Result<Json<Value>, Refused> {
    let principal = state.guard.authenticate(&headers).await?;
    let rows = state.store.documents(KIND, DocumentSelection::All).await?;
    let mut suspensions: Vec<Suspension> = Vec::new();
    for row in &rows {
        let Ok(name) = row.tenant.parse::<TenantName>() else { continue };
        if principal.claims.operator || state.guard.reaches(&principal, &name).await {
            suspensions.push(decode(&row.tenant, &row.body)?);
        }
    }
    if principal.claims.operator {
        let tenants = tenants::all(&state).await?;
        for tenant in tenants.into_iter().filter(|tenant| tenant.state == "suspended") {
            suspensions.retain(|suspension| suspension.tenant != tenant.name);
            suspensions.extend(STAGES.map(|stage| Suspension {
                tenant: tenant.name.clone(),
                stage: stage.to_owned(),
                reason: format!("the tenant is suspended: {}", tenant.reason),
                by: "an operator".to_owned(),
                since: String::new(),
            }));
        }
    }
    Ok(Json(json!({ "suspensions": suspensions })))
}

/// `POST /v1/tenants/{tenant}/suspensions/{stage}`: suspends; a suspension that is there already is answered.
pub(super) async fn suspend(
    State(state): State<AppState>,
    Path((tenant, stage)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Suspension>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Maintain).await?;
    check(&stage)?;
    let request: SuspensionRequest = super::parse(&body)?;
    tenants::require(&state, &tenant).await?;
    let suspension = Suspension {
        tenant: tenant.clone(),
        stage: stage.clone(),
        reason: request.reason,
        by: access.principal().name().to_owned(),
        since: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    };
    // Refused if there is one already, which is as good.
    put(&state, &tenant, &stage, Some(0), Some(Bytes::from(json!(suspension).to_string()))).await?;
    let selection = DocumentSelection::One { tenant: &tenant, key: &stage };
    let rows = state.store.documents(KIND, selection).await?;
    Ok(Json(rows.first().map_or(Ok(suspension), |row| decode(&tenant, &row.body))?))
}

/// `DELETE /v1/tenants/{tenant}/suspensions/{stage}`: resumes; one that isn't suspended is no error.
pub(super) async fn resume(
    State(state): State<AppState>,
    Path((tenant, stage)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Maintain).await?;
    check(&stage)?;
    tenants::require(&state, &tenant).await?;
    put(&state, &tenant, &stage, None, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check(stage: &str) -> Result<(), CatalogError> {
    if STAGES.contains(&stage) {
        return Ok(());
    }
    let message = format!("'{stage}' can't be suspended; stages that can: {}", STAGES.join(", "));
    Err(CatalogError::Invalid(message))
}

async fn put(
    state: &AppState,
    tenant: &str,
    stage: &str,
    expected_version: Option<i64>,
    body: Option<Bytes>,
) -> Result<(), CatalogError> {
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: tenant.to_owned(),
        key: stage.to_owned(),
        expected_version,
        body,
    };
    let write = Write { repository: tenant.to_owned(), documents: vec![put], ..Write::default() };
    state.store.write(&write).await?;
    Ok(())
}

fn decode(tenant: &str, body: &[u8]) -> Result<Suspension, CatalogError> {
    serde_json::from_slice(body).map_err(|error| {
        CatalogError::Internal(format!("a suspension of tenant '{tenant}' can't be read: {error}"))
    })
}
