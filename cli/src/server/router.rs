//! The routes of the services that this process runs, on one port.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use firn_auth::{Guard, Principal, TenantName};
use firn_runtime::{
    StatusBoard,
    health::{self, Readiness},
    http::{authorization, json_error, with_basics},
};
use tokio_util::sync::CancellationToken;

use super::{Server, front::Front, stages::Services};
use crate::{
    console::{self, Console},
    openapi,
    status::{ServerStatus, StageLine},
};

/// Every route of the process.
///
/// From `leaving` on the process is about to end: each answer closes its connection.
pub(super) fn of(server: &Server, services: &Services, leaving: &CancellationToken) -> Result<Router> {
    let guard = &server.guard;
    let mut routes = Router::new()
        .merge(health::router(server.readiness.clone()))
        .merge(server.metrics.router())
        .route("/openapi.json", get(|| async { Json(openapi::document()) }));
    if let Some(catalog) = &server.catalog {
        routes = routes.merge(catalog.router());
    }
    if let Some(worker) = &services.worker {
        routes = routes.merge(worker.router(guard.clone()));
    }
    if let Some(compactor) = &services.compactor {
        routes = routes.merge(compactor.router(guard.clone()));
    }
    if let Some(alerts) = &services.alerts {
        routes = routes.merge(alerts.router(guard.clone()));
    }
    if let Some(gateway) = &services.gateway {
        let uploads = gateway.router();
        let refuse = middleware::from_fn_with_state(server.draining.clone(), refuse_while_draining);
        routes = routes.merge(uploads.layer(refuse));
    }
    if let (Some(catalog), true) = (&server.catalog, server.is_whole()) {
        let console = Console::new(
            server.key.clone(),
            server.codes.clone(),
            catalog.clone(),
            server.board.clone(),
            server.own_url.clone(),
        );
        routes = routes.merge(console::router(console));
    }
    let status = StatusState {
        board: server.board.clone(),
        readiness: server.readiness.clone(),
        guard: guard.clone(),
        started: Instant::now(),
        front: None,
    };
    // A gateway of its own is the one address of all services: what it doesn't serve it passes on.
    let routes = match Front::of(server)? {
        Some(front) => {
            let status = StatusState { front: Some(front.clone()), ..status };
            routes.merge(status_router(status)).merge(front.router())
        }
        None => routes.merge(status_router(status)).fallback(no_such_path),
    };
    Ok(with_basics(routes, leaving.clone()))
}

async fn no_such_path() -> Response {
    json_error(StatusCode::NOT_FOUND, "NotFound", "no such path; /openapi.json lists what there is")
}

fn status_router(state: StatusState) -> Router {
    Router::new().route("/v1/status", get(status_of)).with_state(Arc::new(state))
}

struct StatusState {
    board: StatusBoard,
    readiness: Readiness,
    guard: Guard,
    started: Instant,
    /// Asks the other services, where they run elsewhere.
    front: Option<Front>,
}

async fn status_of(State(state): State<Arc<StatusState>>, headers: HeaderMap) -> Response {
    let principal = match state.guard.authenticate(&headers).await {
        Ok(principal) => principal,
        Err(denied) => return denied.into_response(),
    };
    let mut stages = Vec::new();
    for ((stage, tenant), status) in state.board.all() {
        if may_see(&state.guard, &principal, &tenant).await {
            stages.push(StageLine { stage, tenant, status });
        }
    }
    let mut status = ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: state.started.elapsed().as_secs(),
        waiting_for: state.readiness.reason(),
        stages,
    };
    if let Some(front) = &state.front {
        status.stages.extend(front.stages(authorization(&headers).unwrap_or_default()).await);
    }
    Json(status).into_response()
}

/// A stage's own line says nothing of any tenant.
async fn may_see(guard: &Guard, principal: &Principal, tenant: &str) -> bool {
    match tenant.parse::<TenantName>() {
        Ok(tenant) => principal.claims.operator || guard.reaches(principal, &tenant).await,
        Err(_) => tenant == "*",
    }
}

async fn refuse_while_draining(
    State(draining): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    if !draining.is_cancelled() {
        return next.run(request).await;
    }
    let message = "the server is stopping and takes no more records: send them again in a moment";
    let refusal = json_error(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message);
    ([(header::RETRY_AFTER, "5"), (header::CONNECTION, "close")], refusal).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{collections::BTreeMap, time::Duration};

    use axum::{body::Body, routing::post};
    use firn_auth::{Claims, Role, SigningKey};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn tenant_s_token_sees_its_own_stages_alone() {
        let key = SigningKey::generate();
        let acme: TenantName = "acme".parse().unwrap();
        let minute = Duration::from_secs(60);
        let claims = Claims { tenants: BTreeMap::from([(acme, Role::Reader)]), ..Claims::new("u", minute) };
        let principal = key.verifier().verify(&key.sign(&claims)).unwrap();
        let guard = Guard::from(key.verifier());
        for (tenant, seen) in [("*", true), ("acme", true), ("other", false), ("no tenant", false)] {
            assert_eq!(may_see(&guard, &principal, tenant).await, seen, "{tenant}");
        }
    }

    #[tokio::test]
    async fn uploads_are_refused_while_draining() {
        let draining = CancellationToken::new();
        let router = Router::new()
            .route("/", post(|| async { StatusCode::ACCEPTED }))
            .layer(middleware::from_fn_with_state(draining.clone(), refuse_while_draining));
        let send = || router.clone().oneshot(Request::post("/").body(Body::empty()).unwrap());
        assert_eq!(send().await.unwrap().status(), 202);
        draining.cancel();
        let refused = send().await.unwrap();
        assert_eq!((refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER] == "5"), (503, true));
    }
}
