//! HTTP: where a tenant stands in the log, and replays.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use firn_auth::{Role, TenantName, Verifier};
use firn_catalog_client::ClientErrorKind;
use firn_runtime::http::{authorization, json_error};
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
    verifier: Verifier,
}

pub(super) fn router(worker: Worker, verifier: Verifier) -> Router {
    Router::new()
        .route("/v1/tenants/{tenant}/ingest/positions", get(positions))
        .route("/v1/tenants/{tenant}/ingest/positions/forget", post(forget_positions))
        .route("/v1/tenants/{tenant}/ingest/replay", post(replay_step))
        .with_state(ApiState { worker, verifier })
}

async fn positions(
    State(state): State<ApiState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let tenant = authorize(&state, &headers, &tenant, Role::Reader).map_err(|refusal| *refusal)?;
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
    let tenant = authorize(&state, &headers, &tenant, Role::Maintainer).map_err(|refusal| *refusal)?;
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
    let tenant = authorize(&state, &headers, &tenant, Role::Maintainer).map_err(|refusal| *refusal)?;
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

/// The tenant, if the caller has the role there. What a token does not reach is refused alike, whether it exists or not.
fn authorize(
    state: &ApiState,
    headers: &HeaderMap,
    tenant: &str,
    role: Role,
) -> Result<TenantName, Box<Response>> {
    let principal = state.verifier.verify_header(authorization(headers)).map_err(|error| {
        Box::new(json_error(StatusCode::UNAUTHORIZED, "NotAuthorized", error.to_string()))
    })?;
    let name = tenant.parse::<TenantName>().ok().filter(|name| principal.may(name, role));
    name.ok_or_else(|| {
        let role = if role == Role::Reader { "reader" } else { "maintainer" };
        let message = format!("this needs the role {role} in tenant '{tenant}'");
        Box::new(json_error(StatusCode::FORBIDDEN, "Forbidden", message))
    })
}
