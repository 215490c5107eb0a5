//! HTTP: where a tenant stands in the log, and replays.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use firn_auth::{Action, Guard, TenantName};
use firn_catalog_client::ClientErrorKind;
use firn_runtime::http::json_error;
use serde::de::DeserializeOwned;

use super::{
    Worker,
    forget::{self, ForgetRequest},
    replay::{self, ReplayError, ReplayRequest},
    standing::{self, StandingError},
};

#[derive(Clone)]
struct ApiState {
    worker: Worker,
    guard: Guard,
}

pub(super) fn router(worker: Worker, guard: Guard) -> Router {
    Router::new()
        .route("/v1/tenants/{tenant}/ingest/positions", get(positions))
        .route("/v1/tenants/{tenant}/ingest/positions/forget", post(forget_positions))
        .route("/v1/tenants/{tenant}/ingest/replay", post(replay_step))
        .with_state(ApiState { worker, guard })
}

async fn positions(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let tenant = authorize(&state, &headers, &tenant, Action::Read).await?;
    match standing::standing(&state.worker, tenant.as_str()).await {
        Ok(standing) => Ok(Json(standing).into_response()),
        Err(StandingError::Catalog(error)) if error.kind == ClientErrorKind::NotFound => {
            Err(json_error(StatusCode::NOT_FOUND, "NotFound", format!("there is no tenant '{tenant}'")))
        }
        Err(error) => {
            tracing::warn!(%tenant, %error, "positions not read");
            let message = format!("the positions can't be read now: {error}");
            Err(json_error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message))
        }
    }
}

async fn replay_step(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let tenant = authorize(&state, &headers, &tenant, Action::Maintain).await?;
    let request: ReplayRequest = parse(&body)?;
    let step = replay::step(&state.worker, tenant.as_str(), request).await;
    step.map(|step| Json(step).into_response()).map_err(|error| refused(&tenant, &error))
}

async fn forget_positions(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let tenant = authorize(&state, &headers, &tenant, Action::Maintain).await?;
    let request: ForgetRequest = parse(&body)?;
    let forgotten = forget::forget(&state.worker, tenant.as_str(), &request).await;
    forgotten.map(|forgotten| Json(forgotten).into_response()).map_err(|error| refused(&tenant, &error))
}

#[allow(clippy::result_large_err, reason = "the refusal is the answer")]
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the request is not as documented: {error}");
        json_error(StatusCode::BAD_REQUEST, "BadRequest", message)
    })
}

fn refused(tenant: &TenantName, error: &ReplayError) -> Response {
    let (status, kind) = match error {
        ReplayError::Refused(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
        ReplayError::Later(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        ReplayError::Broken(_) => (StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntity"),
    };
    tracing::warn!(%tenant, %error, "refused");
    json_error(status, kind, error.to_string())
}

/// The tenant, if the caller may do this in all of it.
async fn authorize(
    state: &ApiState,
    headers: &HeaderMap,
    tenant: &str,
    action: Action,
) -> Result<TenantName, Response> {
    let access = state.guard.authorize(headers, tenant, action).await.map_err(IntoResponse::into_response)?;
    access.require_all(action, None).map_err(IntoResponse::into_response)?;
    Ok(access.tenant().clone())
}
