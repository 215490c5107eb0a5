//! Firn's own endpoints under `/v1`: tenants, who may do what in them, leases, suspensions, events; and what all of the catalog's
//! routers share.

mod access;
mod answer;
mod audit;
mod change;
mod clients;
mod endpoints;
mod erasures;
mod events;
mod expiries;
mod gc;
mod holds;
mod leases;
mod lifecycle;
mod limits;
mod policies;
mod provision;
mod reads;
mod refusals;
mod reports;
mod rules;
mod state;
mod suspensions;
mod tenants;
mod tokens;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post, put},
};
use serde::de::DeserializeOwned;

use crate::CatalogError;

pub(crate) use change::actor;
pub(crate) use clients::client_claims;
pub use endpoints::ENDPOINTS;
pub(crate) use erasures::recover_erasures;
pub(crate) use holds::{forbid as forbid_held, held_reference, held_table};
pub(crate) use lifecycle::purge_due;
pub(crate) use limits::{check_references, check_tables};
pub(crate) use reads::Given;
pub(crate) use state::AppState;
pub(crate) use tenants::{create_tenant, put_tenant, require as tenant, tenant_names};

/// `/v1/tenants…`, `/v1/events`, `/v1/suspensions`, `/v1/revocations` and `/v1/refusals`.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/tenants", get(tenants::list).post(tenants::create))
        .route("/v1/tenants/{tenant}", get(tenants::show).patch(tenants::update).delete(lifecycle::delete))
        .route("/v1/tenants/{tenant}/provision", post(provision::run))
        .route("/v1/tenants/{tenant}/suspend", post(lifecycle::suspend))
        .route("/v1/tenants/{tenant}/resume", post(lifecycle::resume))
        .route("/v1/tenants/{tenant}/restore", post(lifecycle::restore))
        .route("/v1/tenants/{tenant}/purge", post(lifecycle::purge))
        .route("/v1/tenants/{tenant}/leases/{name}", post(leases::acquire).delete(leases::release))
        .route("/v1/tenants/{tenant}/clients", get(clients::list).post(clients::create))
        .route("/v1/tenants/{tenant}/clients/{name}", delete(clients::remove))
        .route("/v1/tenants/{tenant}/clients/{name}/rotate", post(clients::rotate))
        .route("/v1/tenants/{tenant}/tokens", post(tokens::issue))
        .route("/v1/tenants/{tenant}/access", get(rules::show).put(rules::replace))
        .route("/v1/tenants/{tenant}/policy", get(rules::policy))
        .route("/v1/tenants/{tenant}/revocations", post(rules::revoke))
        .route("/v1/revocations", post(rules::revoke_everywhere))
        .route("/v1/refusals", post(refusals::report))
        .route("/v1/tenants/{tenant}/audit", get(audit::list))
        .route("/v1/tenants/{tenant}/events", get(events::list))
        .route("/v1/events", get(events::last))
        .route("/v1/suspensions", get(suspensions::list))
        .route(
            "/v1/tenants/{tenant}/suspensions/{stage}",
            post(suspensions::suspend).delete(suspensions::resume),
        )
        .route("/v1/tenants/{tenant}/gc", get(gc::show).post(gc::start))
        .route("/v1/tenants/{tenant}/expiries", get(expiries::list).post(expiries::prune))
        .route("/v1/tenants/{tenant}/expiries/{ref}", put(expiries::set).delete(expiries::unset))
        .route("/v1/tenants/{tenant}/metrics-reports", get(reports::list))
        .route("/v1/keys", get(erasures::keys))
        .route("/v1/erasures", get(erasures::jobs))
        .route("/v1/tenants/{tenant}/erasures", get(erasures::list).post(erasures::request))
        .route(
            "/v1/tenants/{tenant}/erasures/{id}",
            get(erasures::show).put(erasures::keep).layer(DefaultBodyLimit::max(erasures::MAX_JOB_BYTES)),
        )
        .route("/v1/tenants/{tenant}/holds", get(holds::list).post(holds::place))
        .route("/v1/tenants/{tenant}/holds/{id}", delete(holds::release))
        .with_state(state)
}

/// Reads a JSON body.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CatalogError> {
    serde_json::from_slice(body)
        .map_err(|error| CatalogError::Invalid(format!("the request is not as documented: {error}")))
}
