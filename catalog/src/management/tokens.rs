//! Tokens that an administrator issues by hand.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use firn_auth::{Action, Claims, Principal, Scope, TenantName};
use firn_catalog_client::{IssuedToken, TokenRequest};
use firn_runtime::http::REQUEST_ID;
use serde_json::json;

use super::{
    AppState,
    answer::Refused,
    change::{self, Change},
    tenants,
};
use crate::{CatalogError, version::Actor};

const DEFAULT_TTL_S: u64 = 3_600;
/// What is to live longer is a client, whose tokens are renewed and whose secret can be rotated.
const MAX_TTL_S: u64 = 86_400;

/// `POST /v1/tenants/{tenant}/tokens`.
pub(super) async fn issue(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<IssuedToken>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    let request: TokenRequest = super::parse(&body)?;
    let subject = subject(&tenant, &request.subject)?;
    refuse_service_scopes(&request.scopes)?;
    let ttl_s = request.ttl_s.unwrap_or(DEFAULT_TTL_S);
    if !(1..=MAX_TTL_S).contains(&ttl_s) {
        let text = format!("a token is valid for 1 to {MAX_TTL_S} s: make a client for what needs longer");
        return Err(CatalogError::Invalid(text).into());
    }
    tenants::require(&state, &tenant).await?;
    let claims = Claims {
        tenants: [(access.tenant().clone(), request.role)].into(),
        scopes: request.scopes,
        host: request.host,
        ..Claims::new(&subject, Duration::from_secs(ttl_s))
    };
    let details = json!({
        "id": claims.jti, "subject": subject, "role": request.role, "expires": claims.exp,
    });
    Change::new(&tenant, &change::actor(&access), "token-issued", &details).make(&state).await?;
    let expires = DateTime::from_timestamp(claims.exp, 0).unwrap_or_default();
    Ok(Json(IssuedToken {
        token: state.config.signing_key.sign(&claims),
        id: claims.jti,
        expires_at: expires.to_rfc3339_opts(SecondsFormat::Secs, true),
    }))
}

/// The principal of a name within a tenant. It follows a tenant's rules, since it is part of an id with a slash.
pub(super) fn subject(tenant: &str, name: &str) -> Result<String, CatalogError> {
    match name.parse::<TenantName>() {
        Ok(name) => Ok(format!("{tenant}/{name}")),
        Err(_) => Err(CatalogError::Invalid(format!("'{name}' is not a name of a-z, 0-9 and '-'"))),
    }
}

/// Firn's own scopes are nobody's to give.
pub(super) fn refuse_service_scopes(scopes: &[Scope]) -> Result<(), CatalogError> {
    if scopes.iter().all(|scope| *scope == Scope::InventoryWrite) {
        return Ok(());
    }
    Err(CatalogError::Forbidden("nobody can be given the scopes of Firn's own services".to_owned()))
}

/// An operator, for the audit log.
pub(super) fn actor(principal: &Principal, headers: &HeaderMap) -> Actor {
    let request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    Actor { principal: principal.name().to_owned(), request_id }
}
