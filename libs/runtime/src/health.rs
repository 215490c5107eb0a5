//! `/health/live` and `/health/ready`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::json;

/// Whether this process can do its work, and why not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Invariant: `None` is ready; a text says what is awaited.
    waiting_for: Arc<Mutex<Option<String>>>,
}

impl Readiness {
    /// Not ready yet.
    #[must_use]
    pub fn waiting_for(what: &str) -> Self {
        Self { waiting_for: Arc::new(Mutex::new(Some(what.to_owned()))) }
    }

    /// From now on ready.
    pub fn set_ready(&self) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on not ready.
    pub fn set_waiting(&self, what: &str) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
    }

    /// What is awaited, or `None` if ready.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `GET /health/live` is 200 as long as the process answers; `GET /health/ready` is 200 when it is ready, else 503 with
/// what it waits for. Neither needs a token, and neither says more than that.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/health/live", get(|| async { Json(json!({"status": "live"})) }))
        .route("/health/ready", get(ready))
        .with_state(readiness)
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.reason() {
        None => (StatusCode::OK, Json(json!({"status": "ready"}))),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "waiting", "for": what}))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn status(readiness: &Readiness, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router(readiness.clone()).oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn ready_is_503_until_set_and_live_never() {
        let readiness = Readiness::waiting_for("the first tenant");
        assert_eq!(status(&readiness, "/health/ready").await, 503);
        assert_eq!(status(&readiness, "/health/live").await, 200);
        readiness.set_ready();
        assert_eq!(status(&readiness, "/health/ready").await, 200);
        readiness.set_waiting("draining");
        assert_eq!(status(&readiness, "/health/ready").await, 503);
    }
}
