//! HTTP: what ran, and which models there are.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::get,
};
use firn_auth::{Role, TenantName, Verifier};
use firn_catalog_client::{CatalogClient, nessie::LogEntry};
use firn_runtime::http::json_error;
use serde::{Deserialize, Serialize};

use crate::{
    CheckSeverity, Model, ModelGraph, ModelKind, Receipt, RunRecord, RunState,
    history::History,
    promotion::{MAIN, RECEIPT_PROPERTY},
};

/// Commits of `main` that are searched for receipts.
const SEARCHED_COMMITS: usize = 200;
/// Most runs in one answer.
const MOST_RUNS: usize = 100;

#[derive(Clone)]
struct ApiState {
    client: CatalogClient,
    verifier: Verifier,
    graph: Arc<ModelGraph>,
    history: History,
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Promotions {
    promotions: Vec<RunRecord>,
}

#[derive(Serialize)]
struct Models {
    models: Vec<ModelView>,
}

/// A model as the API shows it.
#[derive(Serialize)]
struct ModelView {
    table: String,
    kind: ModelKind,
    description: String,
    inputs: Vec<String>,
    key: Vec<String>,
    interval_s: Option<u64>,
    checks: Vec<CheckView>,
    hash: String,
    sql: String,
}

#[derive(Serialize)]
struct CheckView {
    name: String,
    severity: CheckSeverity,
    condition: String,
}

impl ModelView {
    fn of(model: &Model) -> Self {
        let check = |check: &crate::Check| CheckView {
            name: check.name.clone(),
            severity: check.severity,
            condition: check.condition.clone(),
        };
        Self {
            table: model.table.to_string(),
            kind: model.kind,
            description: model.description.clone(),
            inputs: model.inputs.iter().map(ToString::to_string).collect(),
            key: model.key.clone(),
            interval_s: model.interval.map(|interval| interval.as_secs()),
            checks: model.checks.iter().map(check).collect(),
            hash: model.hash(),
            sql: model.sql.clone(),
        }
    }
}

pub(crate) fn router(
    client: CatalogClient,
    verifier: Verifier,
    graph: Arc<ModelGraph>,
    history: History,
) -> Router {
    Router::new()
        .route("/v1/tenants/{tenant}/promotions", get(promotions))
        .route("/v1/tenants/{tenant}/models", get(list_models))
        .with_state(ApiState { client, verifier, graph, history })
}

/// The tenant, if the caller may read it. What a token does not reach is refused alike, whether it exists or not.
fn readable(state: &ApiState, headers: &HeaderMap, tenant: &str) -> Result<TenantName, Box<Response>> {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let principal = state.verifier.verify_header(authorization).map_err(|error| {
        Box::new(json_error(StatusCode::UNAUTHORIZED, "NotAuthorizedException", error.to_string()))
    })?;
    let name = tenant.parse::<TenantName>().ok().filter(|name| principal.may(name, Role::Reader));
    name.ok_or_else(|| {
        let message = format!("the token may not read tenant '{tenant}'");
        Box::new(json_error(StatusCode::FORBIDDEN, "ForbiddenException", message))
    })
}

async fn promotions(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> Response {
    let tenant = match readable(&state, &headers, &tenant) {
        Ok(tenant) => tenant,
        Err(refusal) => return *refusal,
    };
    let log = state.client.tenant(tenant.as_str()).log(MAIN, SEARCHED_COMMITS, false).await;
    let log = match log {
        Ok(log) => log,
        Err(error) => {
            let message = format!("the log of main can't be read: {error}");
            return json_error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message);
        }
    };
    let mut promotions = state.history.of(tenant.as_str());
    let known: HashSet<_> = promotions.iter().map(|record| record.run.clone()).collect();
    promotions.extend(log.iter().filter_map(published).filter(|record| !known.contains(&record.run)));
    promotions.sort_by(|a, b| b.started_at_ms.cmp(&a.started_at_ms));
    promotions.truncate(paging.limit.unwrap_or(20).min(MOST_RUNS));
    Json(Promotions { promotions }).into_response()
}

/// A run that an earlier process published.
fn published(entry: &LogEntry) -> Option<RunRecord> {
    let text = entry.commit_meta.all_properties.get(RECEIPT_PROPERTY)?.first()?;
    let receipt: Receipt = serde_json::from_str(text).ok()?;
    Some(RunRecord {
        run: receipt.run.clone(),
        state: RunState::Succeeded,
        started_at_ms: receipt.started_at_ms,
        finished_at_ms: Some(receipt.finished_at_ms),
        branch: None,
        error: None,
        checks: Vec::new(),
        receipt: Some(receipt),
    })
}

async fn list_models(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    match readable(&state, &headers, &tenant) {
        Ok(_) => {
            Json(Models { models: state.graph.models().iter().map(ModelView::of).collect() }).into_response()
        }
        Err(refusal) => *refusal,
    }
}
