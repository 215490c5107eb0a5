//! Clients of the built-in issuer: a name within a tenant, a role, and secrets that are shown once and kept as hashes. A
//! rotation adds one; the former stays good for a while, so that nobody stands outside meanwhile.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use firn_auth::{Action, Claims, Role, Scope, TenantName};
use firn_catalog_client::{Client, ClientCreate, ClientRotate, ClientSecret};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    AppState,
    answer::Refused,
    change::{Change, actor},
    rules, tenants, tokens,
};
use crate::{
    CatalogError,
    error::Missing,
    store::{DocumentSelection, Hash},
};

const KIND: &str = "client";
const DEFAULT_OVERLAP_S: u64 = 86_400;
const MAX_OVERLAP_S: u64 = 30 * 86_400;
/// Secrets that are good at once.
const MAX_SECRETS: usize = 5;

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    secrets: Vec<Secret>,
    role: Role,
    scopes: Vec<Scope>,
    host: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Secret {
    /// SHA-256 of the secret, which is 256 random bits, so that a slow hash would add nothing.
    hash: String,
    /// Seconds since the epoch.
    made: i64,
    /// After this it is no longer good; seconds since the epoch.
    until: Option<i64>,
}

impl Secret {
    /// A fresh one, and its text.
    fn fresh(now: i64) -> (Self, String) {
        let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        (Self { hash: hash(&text), made: now, until: None }, text)
    }

    fn is_good(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

fn hash(secret: &str) -> String {
    Hash::of(secret.as_bytes()).to_string()
}

/// `GET /v1/tenants/{tenant}/clients`.
pub(super) async fn list(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let rows = state.store.documents(KIND, DocumentSelection::Tenant(&tenant)).await?;
    let now = Utc::now().timestamp();
    let mut clients = Vec::with_capacity(rows.len());
    for row in rows {
        let id = format!("{tenant}/{}", row.key);
        let stored = decode(&id, &row.body)?;
        let good = stored.secrets.iter().filter(|secret| secret.is_good(now));
        clients.push(Client {
            client_id: id,
            role: stored.role,
            secrets: good.map(|secret| instant(secret.made)).collect(),
            scopes: stored.scopes,
            host: stored.host,
        });
    }
    Ok(Json(json!({ "clients": clients })))
}

/// `POST /v1/tenants/{tenant}/clients`: answers the id (`TENANT/NAME`) and, this once, the secret.
pub(super) async fn create(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ClientSecret>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    let request: ClientCreate = super::parse(&body)?;
    let client_id = tokens::subject(&tenant, &request.name)?;
    tokens::refuse_service_scopes(&request.scopes)?;
    tenants::require(&state, &tenant).await?;
    let (secret, client_secret) = Secret::fresh(Utc::now().timestamp());
    let ClientCreate { name, role, scopes, host } = request;
    let details = json!({"client": client_id, "role": role, "scopes": scopes, "host": host});
    let stored = Stored { secrets: vec![secret], role, scopes, host };
    let change = Change::new(&tenant, &actor(&access), "client-created", &details);
    if !change.put(KIND, &name, Some(0), &stored)?.make(&state).await? {
        return Err(CatalogError::AlreadyExists(format!("the client '{client_id}' exists already")).into());
    }
    Ok(Json(ClientSecret { client_id, client_secret, former_until: None }))
}

/// `POST /v1/tenants/{tenant}/clients/{name}/rotate`: a new secret; the former ones are good for the overlap.
pub(super) async fn rotate(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ClientSecret>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    let request: ClientRotate = if body.is_empty() { ClientRotate::default() } else { super::parse(&body)? };
    let overlap_s = request.overlap_s.unwrap_or(DEFAULT_OVERLAP_S);
    let overlap_s = i64::try_from(overlap_s).ok().filter(|_| overlap_s <= MAX_OVERLAP_S);
    let Some(overlap_s) = overlap_s else {
        let text = format!("secrets overlap for at most {MAX_OVERLAP_S} s");
        return Err(CatalogError::Invalid(text).into());
    };
    let client_id = format!("{tenant}/{name}");
    let (mut stored, version) = load(&state, &tenant, &name).await?.ok_or_else(|| missing(&client_id))?;
    let now = Utc::now().timestamp();
    let until = now.saturating_add(overlap_s);
    for former in &mut stored.secrets {
        former.until = Some(former.until.map_or(until, |old| old.min(until)));
    }
    stored.secrets.retain(|former| former.is_good(now));
    if stored.secrets.len() >= MAX_SECRETS {
        let text =
            format!("'{client_id}' has {MAX_SECRETS} secrets that are good: rotate with an overlap of 0");
        return Err(CatalogError::Invalid(text).into());
    }
    let (secret, client_secret) = Secret::fresh(now);
    stored.secrets.push(secret);
    let details = json!({"client": client_id, "former_until": until});
    let change = Change::new(&tenant, &actor(&access), "client-rotated", &details);
    if !change.put(KIND, &name, Some(version), &stored)?.make(&state).await? {
        let text = format!("the client '{client_id}' was changed meanwhile: try again");
        return Err(CatalogError::ReferenceConflict(text).into());
    }
    Ok(Json(ClientSecret { client_id, client_secret, former_until: Some(instant(until)) }))
}

/// `DELETE /v1/tenants/{tenant}/clients/{name}`: its tokens end, too; one that doesn't exist is no error.
pub(super) async fn remove(
    State(state): State<AppState>,
    Path((tenant, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    if load(&state, &tenant, &name).await?.is_none() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let (actor, client_id) = (actor(&access), format!("{tenant}/{name}"));
    // Gone first: else it could get another token after the revocation.
    let change = Change::new(&tenant, &actor, "client-removed", &json!({"client": client_id}));
    change.remove(KIND, &name, None).make(&state).await?;
    rules::revoke_principal(&state, &tenant, &actor, client_id, "the client was removed").await?;
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
    let Some((stored, _)) = load(state, tenant.as_str(), name).await? else { return Ok(None) };
    let (given, now) = (hash(secret), Utc::now().timestamp());
    if !stored.secrets.iter().any(|secret| secret.hash == given && secret.is_good(now)) {
        return Ok(None);
    }
    let mut claims = Claims::new(id, ttl);
    claims.tenants.insert(tenant, stored.role);
    claims.scopes = stored.scopes;
    claims.host = stored.host;
    Ok(Some(claims))
}

async fn load(state: &AppState, tenant: &str, name: &str) -> Result<Option<(Stored, i64)>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::One { tenant, key: name }).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some((decode(&format!("{tenant}/{name}"), &row.body)?, row.version)))
}

/// Also of clients that were made when a client had one secret.
fn decode(id: &str, body: &[u8]) -> Result<Stored, CatalogError> {
    let damaged = |error| CatalogError::Internal(format!("the client '{id}' can't be read: {error}"));
    let mut value: Value = serde_json::from_slice(body).map_err(damaged)?;
    if let Some(hash) = value.get("secret_hash").cloned() {
        value["secrets"] = json!([{"hash": hash, "made": 0}]);
    }
    serde_json::from_value(value).map_err(damaged)
}

fn missing(id: &str) -> CatalogError {
    CatalogError::NotFound { what: Missing::Client, name: id.to_owned(), hint: String::new() }
}

fn instant(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}
