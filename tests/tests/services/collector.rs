//! Takes OTLP over HTTP, as a collector does, and remembers which service told of which trace.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::{Router, body::Bytes, extract::State, routing::post};

type Bodies = Arc<Mutex<Vec<Bytes>>>;

/// Runs until it is dropped.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    bodies: Bodies,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let bodies = Bodies::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(bodies.clone());
        let task = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { endpoint, bodies, task })
    }

    /// Names of the services that sent spans of a trace, in order. In protobuf both stand in the request as they are.
    pub(crate) fn services_of(&self, trace: &str) -> Vec<&'static str> {
        let digits = (0..trace.len()).step_by(2).map(|at| u8::from_str_radix(&trace[at..at + 2], 16));
        let id: Vec<u8> = digits.filter_map(std::result::Result::ok).collect();
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |body: &Bytes, part: &[u8]| body.windows(part.len()).any(|window| window == part);
        let mut services =
            ["firn-alerts", "firn-catalog", "firn-compactor", "firn-gateway", "firn-ingest"].to_vec();
        services.retain(|name| bodies.iter().any(|body| holds(body, name.as_bytes()) && holds(body, &id)));
        services
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(bodies): State<Bodies>, body: Bytes) {
    bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
}
