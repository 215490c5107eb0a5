//! Serving HTTP: request ids, traces, panics as answers, bounded drains, and one shape of error body.

use std::{
    any::Any,
    fmt,
    future::IntoFuture,
    io,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    serve::Listener,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::trace;

/// Header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body of every error of Firn's own endpoints; Iceberg's has the same shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// What was wrong, where, and what to do.
    pub message: String,
    /// A name that programs branch on, such as `NotFound`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status.
    pub code: u16,
}

/// An error answer: `{"error": {"message", "type", "code"}}`.
#[must_use]
pub fn json_error(status: StatusCode, kind: &str, message: impl Into<String>) -> Response {
    let error = ErrorDetail { message: message.into(), kind: kind.to_owned(), code: status.as_u16() };
    (status, Json(ErrorBody { error })).into_response()
}

/// An answer that says when to come back, if it does.
#[must_use]
pub fn come_back(mut answer: Response, retry_after_s: Option<u64>) -> Response {
    if let Some(seconds) = retry_after_s {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All requests were answered.
    Completely,
    /// The deadline passed with requests open; they were cut off.
    CutOff,
}

/// Serves `router` until `shutdown`, then answers what was begun for at most `drain`.
pub async fn serve<L>(
    listener: L,
    router: Router,
    shutdown: CancellationToken,
    drain: Duration,
) -> io::Result<Drained>
where
    L: Listener<Addr: fmt::Debug>,
{
    let deadline = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(drain).await;
        }
    };
    let graceful = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::select! {
        served = graceful.into_future() => served.map(|()| Drained::Completely),
        () = deadline => Ok(Drained::CutOff),
    }
}

/// Puts around `router` what every service needs: a request id (the caller's, if it sent a sane one), a trace span and
/// metrics per request, and 500 instead of a broken connection when a handler panics. From `leaving` on each answer closes
/// its connection, so that clients find another replica before this one ends.
pub fn with_basics(router: Router, leaving: CancellationToken) -> Router {
    let observed = middleware::from_fn_with_state(leaving, observe);
    router.layer(CatchPanicLayer::custom(panicked)).layer(observed)
}

/// A caller's id goes into logs: only short and plain ones do.
fn request_id(request: &Request) -> HeaderValue {
    let plain = |id: &&HeaderValue| {
        id.len() <= 64
            && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    request.headers().get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        let fresh = uuid::Uuid::now_v7().hyphenated().to_string();
        HeaderValue::from_str(&fresh).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// One layer for all of it: each layer costs every request a boxed future and a copy of the routes.
async fn observe(State(leaving): State<CancellationToken>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = request.method().clone();
    // The route, not the path: paths hold names, and a metric per name would never end.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::info_span!(
        "http",
        %method,
        path = request.uri().path(),
        request_id = id.to_str().unwrap_or_default()
    );
    if let Some(parent) = request.headers().get(trace::TRACEPARENT).and_then(|value| value.to_str().ok()) {
        trace::follow(&span, parent);
    }
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    if leaving.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    let elapsed = began.elapsed();
    let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
    let labels = [("method", method.to_string()), ("route", route), ("status", status.as_str().to_owned())];
    metrics::histogram!("firn_http_request_seconds", &labels).record(elapsed.as_secs_f64());
    span.in_scope(|| {
        let elapsed_ms = elapsed.as_secs_f64() * 1000.0;
        // 503 is an answer, not a failure: who is not ready, full or draining says why itself.
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(status = status.as_u16(), elapsed_ms, "request failed");
        } else {
            tracing::debug!(status = status.as_u16(), elapsed_ms, "request answered");
        }
    });
    response
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "request handler panicked");
    let message = "a bug stopped this request; the server's log has the details under this x-request-id";
    json_error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
}

/// The value of a request's `Authorization` header, if it is text.
#[must_use]
pub fn authorization(headers: &axum::http::HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests;
