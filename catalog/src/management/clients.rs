//! Clients of the built-in issuer: a name within a tenant, a role, and a secret that is shown once and kept as a hash.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use firn_auth::{Claims, Role, Scope, TenantName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AppState, answer::Refused, authorize};
use crate::{
    CatalogError,
    store::{DocumentPut, DocumentSelection, Hash, Write, Written},
};

const KIND: &str = "client";

/// Body of a creation.
#[derive(Deserialize)]
struct Request {
    name: String,
    role: Role,
    #[serde(default)]
    scopes: Vec<Scope>,
    /// The only host it may upload for.
    #[serde(default)]
    host: Option<String>,
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the secret, which is 256 random bits, so that a slow hash would add nothing.
    secret_hash: String,
    role: Role,
    scopes: Vec<Scope>,
    host: Option<String>,
}

/// `POST /v1/tenants/{tenant}/clients`: answers the id (`TENANT/NAME`) and, this once, the secret.
pub(super) async fn create(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    authorize(&state, &headers, &tenant, Role::Admin)?;
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| CatalogError::Invalid(format!("the request is not as documented: {error}")))?;
    // A client's name follows a tenant's rules: it is part of an id with a slash.
    let name: TenantName = request.name.parse().map_err(|_| {
        CatalogError::Invalid(format!("'{}' is not a name of a-z, 0-9 and '-'", request.name))
    })?;
    if request.scopes.iter().any(|scope| *scope != Scope::InventoryWrite) {
        return Err(CatalogError::Forbidden(
            "clients can't have the scopes of Firn's own services".to_owned(),
        )
        .into());
    }
    let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let stored = Stored {
        secret_hash: Hash::of(secret.as_bytes()).to_string(),
        role: request.role,
        scopes: request.scopes,
        host: request.host,
    };
    let body = Some(Bytes::from(json!(stored).to_string()));
    if !put(&state, &tenant, name.as_str(), Some(0), body).await? {
        return Err(
            CatalogError::AlreadyExists(format!("the client '{tenant}/{name}' exists already")).into()
        );
    }
    Ok(Json(json!({"client_id": format!("{tenant}/{name}"), "client_secret": secret})))
}

/// `DELETE /v1/tenants/{tenant}/clients/{name}`: no new tokens from now on; one that doesn't exist is no error.
pub(super) async fn remove(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    authorize(&state, &headers, &tenant, Role::Admin)?;
    put(&state, &tenant, &name, None, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Claims for a client, if the secret is its own.
pub(crate) async fn client_claims(
    state: &AppState,
    id: &str,
    secret: &str,
    ttl: Duration,
) -> Result<Option<Claims>, CatalogError> {
    let Some((tenant, name)) = id.split_once('/') else { return Ok(None) };
    let Ok(tenant) = tenant.parse::<TenantName>() else { return Ok(None) };
    let selection = DocumentSelection::One { tenant: tenant.as_str(), key: name };
    let rows = state.store.documents(KIND, selection).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let stored: Stored = serde_json::from_slice(&row.body)
        .map_err(|error| CatalogError::Internal(format!("the client '{id}' can't be read: {error}")))?;
    if stored.secret_hash != Hash::of(secret.as_bytes()).to_string() {
        return Ok(None);
    }
    let mut claims = Claims::new(id, ttl);
    claims.tenants.insert(tenant, stored.role);
    claims.scopes = stored.scopes;
    claims.host = stored.host;
    Ok(Some(claims))
}

async fn put(
    state: &AppState,
    tenant: &str,
    name: &str,
    expected_version: Option<i64>,
    body: Option<Bytes>,
) -> Result<bool, CatalogError> {
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: tenant.to_owned(),
        key: name.to_owned(),
        expected_version,
        body,
    };
    let write = Write { repository: tenant.to_owned(), documents: vec![put], ..Write::default() };
    Ok(state.store.write(&write).await? == Written::Done)
}
