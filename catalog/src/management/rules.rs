//! Grants, protected branches and revocations of a tenant.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;
use chrono::Utc;
use firn_auth::{Action, Claims, Policy, Revocation, RevokedWhat};
use firn_catalog_client::{AccessRules, RevocationRequest};
use serde_json::json;

use super::{
    AppState,
    answer::Refused,
    change::{Change, SYSTEM, actor},
    policies::{RULES, StoredRules},
    tenants, tokens,
};
use crate::{CatalogError, store::DocumentSelection, version::Actor};

/// More rules than these are no longer understood by anybody.
const MAX_RULES: usize = 1_000;
const MAX_REVOCATIONS: usize = 10_000;
const MAX_PATTERN_BYTES: usize = 1_000;
/// Tries against others who change the same rules.
const ATTEMPTS: usize = 8;
/// A revocation outlives every token that it can be about: those of a session, and the longest ones that are minted.
const KEPT_S: i64 = 31 * 86_400;

/// `GET /v1/tenants/{tenant}/access`.
pub(super) async fn show(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<AccessRules>, Refused> {
    state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let (rules, version) = load(&state, &tenant).await?;
    Ok(Json(answer(rules, version)))
}

/// `GET /v1/tenants/{tenant}/policy`: all that decides, for Firn's services in other processes. Of a tenant that doesn't exist it
/// is the one that gives nothing.
pub(super) async fn policy(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Policy>, Refused> {
    state.guard.operator(&headers).await?;
    let name = tenant.parse().map_err(|error| CatalogError::Invalid(format!("{error}")))?;
    Ok(Json((*state.guard.policy(&name).await?).clone()))
}

/// `PUT /v1/tenants/{tenant}/access`: replaces grants and protections, if the version is the newest.
pub(super) async fn replace(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AccessRules>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    let wanted: AccessRules = super::parse(&body)?;
    check(&wanted)?;
    tenants::require(&state, &tenant).await?;
    let (present, version) = load(&state, &tenant).await?;
    let rules = StoredRules {
        grants: wanted.grants,
        protections: wanted.protections,
        revocations: present.revocations,
    };
    let details = json!({"grants": rules.grants, "protections": rules.protections});
    let change = Change::new(&tenant, &actor(&access), "access-changed", &details);
    let expected = Some(wanted.version);
    if version != wanted.version || !change.put(RULES, "", expected, &rules)?.make(&state).await? {
        let text = format!("the access rules of '{tenant}' were changed meanwhile: load them again");
        return Err(CatalogError::ReferenceConflict(text).into());
    }
    Ok(Json(answer(rules, version + 1)))
}

/// `POST /v1/tenants/{tenant}/revocations`: tokens that are refused in this tenant.
pub(super) async fn revoke(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Revocation>, Refused> {
    let access = state.guard.authorize(&headers, &tenant, Action::Administer).await?;
    tenants::require(&state, &tenant).await?;
    let what = what(&state, &super::parse(&body)?)?;
    Ok(Json(add_revocation(&state, &tenant, &actor(&access), what).await?))
}

/// `POST /v1/revocations`: tokens that are refused in all tenants, by an operator.
pub(super) async fn revoke_everywhere(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Revocation>, Refused> {
    let principal = state.guard.operator(&headers).await?;
    let what = what(&state, &super::parse(&body)?)?;
    let actor = tokens::actor(&principal, &headers);
    Ok(Json(add_revocation(&state, SYSTEM, &actor, what).await?))
}

/// Refuses what a principal was issued until now, as when its client is removed.
pub(super) async fn revoke_principal(
    state: &AppState,
    tenant: &str,
    actor: &Actor,
    name: String,
    reason: &str,
) -> Result<(), CatalogError> {
    let what = RevokedWhat::Principal { name, issued_until: Utc::now().timestamp() };
    add_revocation(state, tenant, actor, (what, reason.to_owned())).await.map(drop)
}

async fn add_revocation(
    state: &AppState,
    tenant: &str,
    actor: &Actor,
    (what, reason): (RevokedWhat, String),
) -> Result<Revocation, CatalogError> {
    let now = Utc::now().timestamp();
    let revocation = Revocation { what, reason, by: actor.principal.clone(), until: now + KEPT_S };
    for _ in 0..ATTEMPTS {
        let (mut rules, version) = load(state, tenant).await?;
        rules.revocations.retain(|old| old.until > now && old.what != revocation.what);
        if rules.revocations.len() >= MAX_REVOCATIONS {
            let text =
                format!("'{tenant}' has {MAX_REVOCATIONS} revocations: revoke principals, not single tokens");
            return Err(CatalogError::Invalid(text));
        }
        rules.revocations.push(revocation.clone());
        let change = Change::new(tenant, actor, "tokens-revoked", &json!(revocation));
        if change.put(RULES, "", Some(version), &rules)?.make(state).await? {
            return Ok(revocation);
        }
    }
    Err(CatalogError::Unavailable(format!("the access rules of '{tenant}' are contended: try again")))
}

/// What a request means by its token, id or principal.
fn what(state: &AppState, request: &RevocationRequest) -> Result<(RevokedWhat, String), CatalogError> {
    let what = match (&request.token, &request.id, &request.principal) {
        (Some(token), None, None) => {
            // Whoever shows a token to revoke it needn't show that it is still valid.
            let claims = state.config.signing_key.verifier().verify_at(token, issued_at(token));
            let claims = claims.map_err(|error| CatalogError::Invalid(error.to_string()))?;
            RevokedWhat::Token(id_of(&claims.claims))
        }
        (None, Some(id), None) if !id.is_empty() => RevokedWhat::Token(id.clone()),
        (None, None, Some(name)) if !name.is_empty() => {
            RevokedWhat::Principal { name: name.clone(), issued_until: Utc::now().timestamp() }
        }
        _ => return Err(CatalogError::Invalid("give one of 'token', 'id' and 'principal'".to_owned())),
    };
    Ok((what, request.reason.clone()))
}

/// The first token of a chain of exchanges: all that came of it goes with it.
fn id_of(claims: &Claims) -> String {
    claims.origin.clone().unwrap_or_else(|| claims.jti.clone())
}

/// When a token says that it begins; it is checked as of then.
fn issued_at(token: &str) -> i64 {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let body = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: serde_json::Value =
        body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    claims["nbf"].as_i64().unwrap_or_else(|| Utc::now().timestamp())
}

fn check(rules: &AccessRules) -> Result<(), CatalogError> {
    let invalid = |text: String| Err(CatalogError::Invalid(text));
    if rules.grants.len() + rules.protections.len() > MAX_RULES {
        return invalid(format!("a tenant has at most {MAX_RULES} grants and protections"));
    }
    let fits = |text: &str| !text.is_empty() && text.len() <= MAX_PATTERN_BYTES;
    for grant in &rules.grants {
        if !fits(&grant.principal) || !fits(&grant.reference) || !fits(&grant.key) || grant.actions.is_empty()
        {
            return invalid("a grant has a principal, actions, a reference and a key".to_owned());
        }
        if let Some(action) = grant.actions.iter().find(|action| !action.is_grantable()) {
            return invalid(format!("{} can't be granted: it takes a role", json!(action)));
        }
    }
    if rules.protections.iter().any(|protection| !fits(&protection.reference)) {
        return invalid("a protection has a reference".to_owned());
    }
    Ok(())
}

async fn load(state: &AppState, tenant: &str) -> Result<(StoredRules, i64), CatalogError> {
    let rows = state.store.documents(RULES, DocumentSelection::One { tenant, key: "" }).await?;
    StoredRules::of(rows.first()).map_err(CatalogError::Internal)
}

fn answer(rules: StoredRules, version: i64) -> AccessRules {
    let StoredRules { grants, protections, revocations } = rules;
    AccessRules { version, grants, protections, revocations }
}
