//! Traces to a collector: OTLP over HTTP.

use std::{fmt, time::Duration};

use axum::{body::Bytes, http};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(10);
/// What a stop waits for the last spans.
const FLUSH: Duration = Duration::from_secs(3);

/// The section `[trace]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// The collector, such as `http://127.0.0.1:4318`; no traces if absent.
    pub endpoint: Option<String>,
    /// Share of traces that begin here and are kept, from 0 to 1. Traces that others began are kept as they decided.
    pub sample: f64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { endpoint: None, sample: 1.0 }
    }
}

/// Traces can't be sent.
#[derive(Debug, thiserror::Error)]
#[error("trace.endpoint '{endpoint}': {reason}; expected http://HOST:PORT of an OTLP collector")]
pub struct TraceError {
    endpoint: String,
    reason: String,
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Starts sending. Must be called within a Tokio runtime, which sends.
pub(super) fn start(endpoint: &str, sample: f64, service: &str) -> Result<(Exporter, SdkTracer), TraceError> {
    let failed = |reason: String| TraceError { endpoint: endpoint.to_owned(), reason };
    let client = Client {
        http: crate::tls::outside().timeout(TIMEOUT).build().map_err(|error| failed(error.to_string()))?,
        runtime: tokio::runtime::Handle::current(),
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(service.to_owned()).build())
        .build();
    let tracer = provider.tracer("firn");
    Ok((Exporter { provider }, tracer))
}

/// The exporter's thread has no Tokio of its own, so requests run on the process's.
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request =
            self.http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let sent = self.runtime.spawn(async move {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let (status, body) = sent.await??;
        Ok(http::Response::builder().status(status).body(body)?)
    }
}
