//! HTTP: what ran, and which models there are.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use firn_auth::{Action, Denied, Guard, TenantName};
use firn_catalog_client::{CatalogClient, ClientErrorKind, nessie::LogEntry};
use firn_runtime::{
    http::json_error,
    openapi::{self, Endpoint, query, shape},
};
use firn_table::FileIo;
use serde::{Deserialize, Serialize};

use crate::{
    CheckSeverity, Model, ModelGraph, ModelKind, Receipt, RunRecord, RunState, TenantModels,
    history::History,
    promotion::{MAIN, RECEIPT_PROPERTY, failed_runs},
};

/// Commits of a branch that are searched for receipts.
const SEARCHED_COMMITS: usize = 200;
/// Most runs in one answer.
const MOST_RUNS: usize = 100;

#[derive(Clone)]
struct ApiState {
    client: CatalogClient,
    guard: Guard,
    graph: Arc<ModelGraph>,
    file_io: FileIo,
    history: History,
}

#[derive(Deserialize, utoipa::IntoParams)]
struct Paging {
    limit: Option<usize>,
    /// Branch that runs started from; `main` if absent.
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Promotions {
    promotions: Vec<RunRecord>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Models {
    models: Vec<ModelView>,
}

/// A model as the API shows it.
#[derive(Serialize, utoipa::ToSchema)]
struct ModelView {
    table: String,
    kind: ModelKind,
    description: String,
    inputs: Vec<String>,
    key: Vec<String>,
    interval_s: Option<u64>,
    freshness_s: Option<u64>,
    checks: Vec<CheckView>,
    hash: String,
    sql: String,
}

#[derive(Serialize, utoipa::ToSchema)]
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
            freshness_s: model.freshness.map(|longest| longest.as_secs()),
            checks: model.checks.iter().map(check).collect(),
            hash: model.hash(),
            sql: model.sql.clone(),
        }
    }
}

/// What is served here, for `/openapi.json`.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        query: query::<Paging>,
        ..openapi::get(
            "/v1/tenants/{tenant}/promotions",
            "promotion",
            "Recent promotion runs with their receipts",
            openapi::Body::Json(shape::<Promotions>),
        )
    },
    openapi::get(
        "/v1/tenants/{tenant}/models",
        "promotion",
        "The models, in the order they run",
        openapi::Body::Json(shape::<Models>),
    ),
];

pub(crate) fn router(
    client: CatalogClient,
    guard: Guard,
    graph: Arc<ModelGraph>,
    file_io: FileIo,
    history: History,
) -> Router {
    Router::new()
        .route("/v1/tenants/{tenant}/promotions", get(promotions))
        .route("/v1/tenants/{tenant}/models", get(list_models))
        .with_state(ApiState { client, guard, graph, file_io, history })
}

/// The tenant, if the caller may read all of it.
async fn readable(state: &ApiState, headers: &HeaderMap, tenant: &str) -> Result<TenantName, Denied> {
    let access = state.guard.authorize(headers, tenant, Action::Read).await?;
    access.require_all(Action::Read, None)?;
    Ok(access.tenant().clone())
}

async fn promotions(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> Response {
    let tenant = match readable(&state, &headers, &tenant).await {
        Ok(tenant) => tenant,
        Err(denied) => return denied.into_response(),
    };
    let (client, reference) =
        (state.client.tenant(tenant.as_str()), paging.reference.as_deref().unwrap_or(MAIN));
    let log = match client.log(reference, SEARCHED_COMMITS, false).await {
        Ok(log) => log,
        Err(error) if error.kind == ClientErrorKind::NotFound => {
            let message = format!("there is no reference '{reference}'");
            return json_error(StatusCode::NOT_FOUND, "NoSuchReferenceException", message);
        }
        Err(error) => {
            let message = format!("the log of {reference} can't be read: {error}");
            return json_error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message);
        }
    };
    let mut promotions = state.history.of(tenant.as_str());
    let known: HashSet<_> = promotions.iter().map(|record| record.run.clone()).collect();
    let kept = failed_runs(&client, &state.file_io).await.unwrap_or_else(|error| {
        tracing::warn!(tenant = tenant.as_str(), %error, "what earlier runs failed for can't be read");
        Vec::new()
    });
    let earlier = log.iter().filter_map(published).chain(kept);
    promotions.extend(earlier.filter(|record| !known.contains(&record.run)));
    promotions.retain(|record| record.reference == reference);
    promotions.sort_by_key(|record| std::cmp::Reverse(record.started_at_ms));
    promotions.truncate(paging.limit.unwrap_or(20).min(MOST_RUNS));
    Json(Promotions { promotions }).into_response()
}

/// A run that an earlier process published.
fn published(entry: &LogEntry) -> Option<RunRecord> {
    let text = entry.commit_meta.all_properties.get(RECEIPT_PROPERTY)?.first()?;
    let receipt: Receipt = serde_json::from_str(text).ok()?;
    Some(RunRecord {
        run: receipt.run.clone(),
        reference: receipt.reference.clone(),
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
    let tenant = match readable(&state, &headers, &tenant).await {
        Ok(tenant) => tenant,
        Err(denied) => return denied.into_response(),
    };
    let client = state.client.tenant(tenant.as_str());
    match TenantModels::read(&client, &state.file_io, MAIN, &state.graph).await {
        Ok(models) => {
            Json(Models { models: models.graph.models().iter().map(ModelView::of).collect() }).into_response()
        }
        Err(error) => {
            let message = format!("the tenant's models can't be read: {error}");
            json_error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use axum::{body::Body, http::Request};
    use firn_tests::{Answer, Specification};
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use crate::{
        change_own_models,
        promotion::TenantPlace,
        testing::{Lake, inventory},
    };

    async fn get(lake: &Lake, compactor: &crate::Compactor, path: &str, token: &str) -> (u16, Value) {
        let request =
            Request::get(path).header("authorization", format!("Bearer {token}")).body(Body::empty());
        let answer = compactor.router(lake.key.verifier()).oneshot(request.unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let path = path.split('?').next().unwrap();
        let answer = Answer { method: "GET", path, status, is_json: true, body: &body };
        Specification::firn().check(answer).unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_a_run_failed_for_is_told_after_a_restart_with_the_rows() {
        let lake = Lake::start().await;
        lake.report(&[inventory(0, "h1", "e1", json!({})), inventory(1, "h2", "e2", json!({}))]).await;
        let text = "-- model: gold.hosts\n-- kind: full\n-- check: not-h2 fail host_id <> 'h2'\n\
                    SELECT DISTINCT host_id FROM silver.device";
        let files = [("hosts.sql".to_owned(), text.to_owned())].into();
        change_own_models(&lake.client, &lake.file_io, "main", files, &[]).await.unwrap();
        let first = lake.compactor("one");
        first.promotion.visit(&lake.client, &mut TenantPlace::default(), &CancellationToken::new()).await;
        let token = lake.key.service_token("reader", Duration::from_secs(60));
        let path = "/v1/tenants/acme/promotions";
        let (_, told) = get(&lake, &first, path, &token).await;
        let (status, again) = get(&lake, &lake.compactor("one"), path, &token).await;
        assert_eq!((status, &again), (200, &told), "nothing was forgotten");
        let run = &again["promotions"][0];
        assert_eq!((&run["state"], &run["checks"][0]["violations"]), (&json!("failed"), &json!(1)), "{run}");
        assert_eq!(run["checks"][0]["rows"], json!([{"host_id": "h2"}]));
        assert!(run["error"].as_str().unwrap().contains("not-h2"), "{run}");
        let (status, elsewhere) = get(&lake, &first, &format!("{path}?ref=dev"), &token).await;
        assert_eq!(status, 404, "{elsewhere}");
    }

    #[tokio::test]
    async fn runs_and_models_are_shown_to_readers_also_after_a_restart() {
        let lake = Lake::start().await;
        lake.report(&[inventory(0, "h1", "e1", json!({}))]).await;
        let first = lake.compactor("one");
        first.promotion.visit(&lake.client, &mut TenantPlace::default(), &CancellationToken::new()).await;
        let token = lake.key.service_token("reader", Duration::from_secs(60));
        let restarted = lake.compactor("one");
        for compactor in [&first, &restarted] {
            let (status, body) = get(&lake, compactor, "/v1/tenants/acme/promotions", &token).await;
            assert_eq!((status, body["promotions"].as_array().unwrap().len()), (200, 1), "{body}");
            assert_eq!(body["promotions"][0]["state"], "succeeded");
            assert_eq!(body["promotions"][0]["receipt"]["models"][0]["rows"], 1);
        }
        let (status, body) = get(&lake, &restarted, "/v1/tenants/acme/models", &token).await;
        assert_eq!((status, &body["models"][0]["table"]), (200, &json!("silver.inventory")));
        let (status, body) = get(&lake, &restarted, "/v1/tenants/acme/models", "forged").await;
        assert_eq!((status, &body["error"]["code"]), (401, &json!(401)));
    }
}
