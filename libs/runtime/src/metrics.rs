//! Prometheus metrics of the process.

use std::time::Duration;

use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Seconds; from a cached read to a slow merge.
const LATENCY_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Histograms keep their samples until they are drained; this is how often that happens if nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Metrics can't be recorded.
#[derive(Debug, thiserror::Error)]
#[error("can't start the metrics recorder: {0}")]
pub struct MetricsError(#[from] BuildError);

/// Starts recording for this process. Called once; a second recorder is an error.
pub fn install() -> Result<Metrics, MetricsError> {
    let builder = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS)?;
    Ok(Metrics { handle: builder.install_recorder()? })
}

/// What was recorded. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// The text exposition format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// `GET /metrics`.
    pub fn router(&self) -> Router {
        let metrics = self.clone();
        let text = move || {
            let body = metrics.render();
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body) }
        };
        Router::new().route("/metrics", get(text))
    }

    /// Keeps the memory of histograms bounded, until `shutdown`.
    pub async fn upkeep(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => self.handle.run_upkeep(),
                () = shutdown.cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn recorded_values_are_rendered_with_buckets() {
        let recorder = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS).unwrap().build_recorder();
        let metrics = Metrics { handle: recorder.handle() };
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("firn_test_total").increment(3);
            metrics::histogram!("firn_test_seconds").record(0.003);
        });
        let text = metrics.render();
        assert!(text.contains("firn_test_total 3"), "{text}");
        assert!(text.contains("firn_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
