//! Iceberg REST under `/iceberg`: what engines speak.
//!
//! A commit's way: `commit` takes the table's turn, checks requirements and applies updates (`metadata`), writes the
//! metadata file (`storage`), and only then joins the branch's queue (`version`).

mod answer;
mod call;
mod commit;
mod config;
mod content;
mod create;
mod delegate;
mod error;
mod functions;
mod idempotency;
mod load;
mod metrics;
mod names;
mod namespaces;
mod page;
mod plan;
mod recent;
mod rename;
mod tables;
mod token;
mod transaction;
mod turns;
mod views;
mod write;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, get, on, post},
};

use crate::management::AppState;

pub(crate) use commit::POSITION_PREFIX;
pub(crate) use content::Kind;
pub(crate) use recent::RecentTables;
pub(crate) use turns::Turns;

/// Larger than any commit that makes sense.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// All endpoints, as `config` lists them: methods and paths of the specification.
const ENDPOINTS: &[&str] = &[
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks",
    "GET /v1/{prefix}/namespaces/{namespace}/functions",
    "GET /v1/{prefix}/namespaces/{namespace}/functions/{function}",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
    "GET /v1/{prefix}/namespaces/{namespace}/views",
    "POST /v1/{prefix}/namespaces/{namespace}/views",
    "GET /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/views/rename",
    "POST /v1/{prefix}/namespaces/{namespace}/register-view",
];

/// `/iceberg/v1/…`.
pub(crate) fn router(state: AppState) -> Router {
    let namespace = "/iceberg/v1/{prefix}/namespaces/{namespace}";
    let at = |rest: &str| format!("{namespace}{rest}");
    Router::new()
        .route("/iceberg/v1/config", get(config::show))
        .route("/iceberg/v1/oauth/tokens", post(token::issue))
        .route("/iceberg/v1/{prefix}/namespaces", get(namespaces::list).post(namespaces::create))
        .route(namespace, head(namespaces::exists).get(namespaces::show).delete(namespaces::remove))
        .route(&at("/properties"), post(namespaces::update_properties))
        .route(&at("/tables"), get(tables::list).post(create::create))
        .route(&at("/register"), post(create::register))
        .route(
            &at("/tables/{table}"),
            head(tables::exists).get(load::load).post(commit::commit).delete(tables::remove),
        )
        .route(&at("/tables/{table}/unregister"), post(tables::unregister))
        .route(&at("/tables/{table}/metrics"), post(metrics::report))
        .route(&at("/tables/{table}/credentials"), get(delegate::load_credentials))
        .route(&at("/tables/{table}/sign"), post(delegate::sign))
        .route(&at("/tables/{table}/plan"), post(plan::submit))
        .route(&at("/tables/{table}/plan/{plan-id}"), get(plan::result).delete(plan::cancel))
        .route(&at("/tables/{table}/tasks"), post(plan::tasks))
        .route(&at("/functions"), get(functions::list))
        .route(&at("/functions/{function}"), get(functions::load))
        .route("/iceberg/v1/{prefix}/tables/rename", post(rename::rename_table))
        .route("/iceberg/v1/{prefix}/transactions/commit", post(transaction::commit))
        .route(&at("/views"), get(views::list).post(views::create))
        .route(
            &at("/views/{view}"),
            head(views::exists).get(views::load).post(views::replace).delete(views::remove),
        )
        .route("/iceberg/v1/{prefix}/views/rename", post(rename::rename_view))
        .route(&at("/register-view"), post(views::register))
        .route("/iceberg/{*rest}", axum::routing::any(error::no_endpoint))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

/// HEAD with a handler of its own: axum would run GET for it otherwise.
fn head<H: Handler<T, AppState>, T: 'static>(handler: H) -> MethodRouter<AppState> {
    on(MethodFilter::HEAD, handler)
}
