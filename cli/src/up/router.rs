//! All services' routes on one port.

use std::{sync::Arc, time::Instant};

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
    http::{json_error, with_basics},
};
use tokio_util::sync::CancellationToken;

use super::{Server, stages::Services};
use crate::{
    console::{self, Console},
    openapi,
    status::{ServerStatus, StageLine},
};

/// Every route of the server.
pub(super) fn of(server: &Server, services: &Services) -> Router {
    let guard = server.catalog.guard();
    let console = Console::new(
        server.key.clone(),
        server.codes.clone(),
        server.catalog.clone(),
        server.board.clone(),
        server.own_url.clone(),
    );
    let status = StatusState {
        board: server.board.clone(),
        readiness: server.readiness.clone(),
        guard: guard.clone(),
        started: Instant::now(),
    };
    let draining = server.draining.clone();
    let uploads =
        services.gateway.router().layer(middleware::from_fn_with_state(draining, refuse_while_draining));
    with_basics(
        Router::new()
            .merge(server.catalog.router())
            .merge(uploads)
            .merge(services.compactor.router(guard.clone()))
            .merge(services.worker.router(guard.clone()))
            .merge(services.alerts.router(guard))
            .merge(console::router(console))
            .merge(health::router(server.readiness.clone()))
            .merge(server.metrics.router())
            .merge(Router::new().route("/v1/status", get(status_of)).with_state(Arc::new(status)))
            .route("/openapi.json", get(|| async { Json(openapi::document()) }))
            .fallback(|| async {
                json_error(
                    StatusCode::NOT_FOUND,
                    "NotFound",
                    "no such path; /openapi.json lists what there is",
                )
            }),
    )
}

struct StatusState {
    board: StatusBoard,
    readiness: Readiness,
    guard: Guard,
    started: Instant,
}

async fn status_of(State(state): State<Arc<StatusState>>, headers: HeaderMap) -> Response {
    let principal = match state.guard.authenticate(&headers).await {
        Ok(principal) => principal,
        Err(denied) => return denied.into_response(),
    };
    let mut lines = Vec::new();
    for ((stage, tenant), status) in state.board.all() {
        if may_see(&state.guard, &principal, &tenant).await {
            lines.push(StageLine { stage, tenant, status });
        }
    }
    Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: state.started.elapsed().as_secs(),
        waiting_for: state.readiness.reason(),
        stages: lines,
    })
    .into_response()
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
