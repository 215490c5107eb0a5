//! `GET /v1/config`: the first request of every client.

use axum::{Json, extract::State};
use firn_auth::Action;
use serde_json::{Value, json};

use super::{call::Call, error::ApiError, names::Warehouse};
use crate::{management::AppState, version::named_reference};

/// How long a client may reuse an idempotency key (ISO 8601).
const IDEMPOTENCY_KEY_LIFETIME: &str = "PT30M";

/// Answers the prefix of a warehouse and what works.
pub(super) async fn show(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    let principal = state.guard.authenticate(&call.headers).await?;
    let warehouse = match call.query("warehouse").filter(|text| !text.is_empty()) {
        Some(text) => Warehouse::parse(text)?,
        None => {
            let mut tenants = principal.claims.tenants.keys();
            match (tenants.next(), tenants.next()) {
                (Some(only), None) => Warehouse { tenant: only.clone(), spec: String::new() },
                _ => {
                    return Err(ApiError::invalid(
                        "say which warehouse: the token is not of exactly one tenant",
                    ));
                }
            }
        }
    };
    let tenant = warehouse.tenant.as_str();
    let access = state.guard.let_in(principal, &call.headers, tenant, Action::Read).await?;
    access.require(Action::Read, named_reference(&warehouse.spec)?.as_deref())?;
    state.versions.repository(tenant).resolve(&warehouse.spec).await?;
    Ok(Json(json!({
        "defaults": {},
        "overrides": {"prefix": warehouse.prefix()},
        "endpoints": super::ENDPOINTS,
        "idempotency-key-lifetime": IDEMPOTENCY_KEY_LIFETIME,
    })))
}
