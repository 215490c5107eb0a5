//! Tenants: created by an operator, seen by those who reach them.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use firn_auth::{Role, TenantName};
use firn_catalog_client::{Tenant, TenantCreate};
use serde_json::{Value, json};

use super::{AppState, answer::Refused, authenticate, authorize};
use crate::{
    CatalogError,
    error::Missing,
    store::{DocumentPut, DocumentSelection, Write},
};

const KIND: &str = "tenant";

/// `GET /v1/tenants`: those that the token reaches.
pub(super) async fn list(State(state): State<AppState>, headers: HeaderMap) -> Result<Json<Value>, Refused> {
    let principal = authenticate(&state, &headers)?;
    let mut tenants = all(&state).await?;
    tenants
        .retain(|tenant| tenant.name.parse().is_ok_and(|name: TenantName| principal.role(&name).is_some()));
    Ok(Json(json!({ "tenants": tenants })))
}

/// `POST /v1/tenants`: operators only.
pub(super) async fn create(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Tenant>, Refused> {
    let principal = authenticate(&state, &headers)?;
    if !principal.claims.operator {
        return Err(CatalogError::Forbidden("only an operator may create tenants".to_owned()).into());
    }
    let request: TenantCreate = serde_json::from_slice(&body)
        .map_err(|error| CatalogError::Invalid(format!("the request is not as documented: {error}")))?;
    Ok(Json(create_tenant(&state, &request).await?))
}

/// `GET /v1/tenants/{tenant}`.
pub(super) async fn show(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Tenant>, Refused> {
    authorize(&state, &headers, &tenant, Role::Agent)?;
    Ok(Json(require(&state, &tenant).await?))
}

/// The tenant, or the error that there is none.
pub(crate) async fn require(state: &AppState, name: &str) -> Result<Tenant, CatalogError> {
    let missing =
        || CatalogError::NotFound { what: Missing::Tenant, name: name.to_owned(), hint: String::new() };
    load(state, name).await?.ok_or_else(missing)
}

/// Creates a tenant with its repository, or answers the one that exists, whatever else the request says.
pub(crate) async fn create_tenant(state: &AppState, request: &TenantCreate) -> Result<Tenant, CatalogError> {
    let name: TenantName = request.name.parse().map_err(|error| CatalogError::Invalid(format!("{error}")))?;
    // The repository first: a tenant that can be seen can be used.
    state.versions.create(name.as_str()).await?;
    if let Some(tenant) = load(state, name.as_str()).await? {
        return Ok(tenant);
    }
    let tenant = Tenant {
        name: name.as_str().to_owned(),
        region: request.region.clone().unwrap_or_else(|| state.config.region.clone()),
        classifications: request.classifications.clone(),
        state: "active".to_owned(),
        location: state.storage.tenant_root(name.as_str()).to_string(),
        created_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    };
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: name.as_str().to_owned(),
        key: String::new(),
        expected_version: Some(0),
        body: Some(Bytes::from(json!(tenant).to_string())),
    };
    let write = Write { repository: name.as_str().to_owned(), documents: vec![put], ..Write::default() };
    // Refused means that another request created it just now.
    state.store.write(&write).await?;
    let missing = || CatalogError::Internal(format!("tenant '{name}' vanished while it was created"));
    load(state, name.as_str()).await?.ok_or_else(missing)
}

/// Puts back a tenant's record, whatever is there.
pub(crate) async fn put_tenant(state: &AppState, name: &str, record: &Value) -> Result<(), CatalogError> {
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: name.to_owned(),
        key: String::new(),
        expected_version: None,
        body: Some(Bytes::from(record.to_string())),
    };
    let write = Write { repository: name.to_owned(), documents: vec![put], ..Write::default() };
    state.store.write(&write).await?;
    Ok(())
}

/// Names of all tenants.
pub(crate) async fn tenant_names(state: &AppState) -> Result<Vec<TenantName>, CatalogError> {
    let tenants = all(state).await?;
    Ok(tenants.into_iter().filter_map(|tenant| tenant.name.parse().ok()).collect())
}

async fn all(state: &AppState) -> Result<Vec<Tenant>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::All).await?;
    rows.iter().map(|row| decode(&row.tenant, &row.body)).collect()
}

async fn load(state: &AppState, name: &str) -> Result<Option<Tenant>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::One { tenant: name, key: "" }).await?;
    rows.first().map(|row| decode(name, &row.body)).transpose()
}

fn decode(name: &str, body: &[u8]) -> Result<Tenant, CatalogError> {
    serde_json::from_slice(body).map_err(|error| {
        CatalogError::Internal(format!("the record of tenant '{name}' can't be read: {error}"))
    })
}
