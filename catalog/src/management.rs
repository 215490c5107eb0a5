//! Firn's own endpoints under `/v1`: tenants, leases, suspensions, events; and what all of the catalog's routers share.

mod access;
mod answer;
mod clients;
mod events;
mod gc;
mod leases;
mod provision;
mod state;
mod suspensions;
mod tenants;

use axum::{
    Router,
    routing::{delete, get, post},
};

pub(crate) use access::{authenticate, authorize};
pub(crate) use clients::client_claims;
pub(crate) use state::AppState;
pub(crate) use tenants::{create_tenant, put_tenant, require as tenant, tenant_names};

/// `/v1/tenants…` and `/v1/suspensions`.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/tenants", get(tenants::list).post(tenants::create))
        .route("/v1/tenants/{tenant}", get(tenants::show))
        .route("/v1/tenants/{tenant}/provision", post(provision::run))
        .route("/v1/tenants/{tenant}/leases/{name}", post(leases::acquire).delete(leases::release))
        .route("/v1/tenants/{tenant}/clients", post(clients::create))
        .route("/v1/tenants/{tenant}/clients/{name}", delete(clients::remove))
        .route("/v1/tenants/{tenant}/events", get(events::list))
        .route("/v1/suspensions", get(suspensions::list))
        .route(
            "/v1/tenants/{tenant}/suspensions/{stage}",
            post(suspensions::suspend).delete(suspensions::resume),
        )
        .route("/v1/tenants/{tenant}/gc", get(gc::show).post(gc::start))
        .with_state(state)
}
