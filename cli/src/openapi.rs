//! `/openapi.json`: Firn's own endpoints. Iceberg REST and Nessie REST have specifications of their own.

#[cfg(test)]
mod tests;

use anyhow::Result;
use firn_runtime::openapi::{
    Body::{Json, Other},
    Endpoint, describe, get, open, shape,
};
use utoipa::openapi::{
    Info, OpenApi, OpenApiBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{output, status::ServerStatus};

/// Those of the server itself.
const ENDPOINTS: &[Endpoint] = &[
    get(
        "/v1/status",
        "server",
        "How each stage is doing, for the tenants that the token reaches",
        Json(shape::<ServerStatus>),
    ),
    open("/health/live", "200 while the process answers", Other("application/json")),
    open("/health/ready", "200 once the server does its work, else 503", Other("application/json")),
    open("/metrics", "Metrics in Prometheus' text format", Other("text/plain")),
    open("/openapi.json", "This document", Other("application/json")),
];

/// Each service describes its own.
fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    [
        firn_ingest::ENDPOINTS,
        firn_catalog::ENDPOINTS,
        firn_compactor::ENDPOINTS,
        firn_alerts::ENDPOINTS,
        ENDPOINTS,
    ]
    .into_iter()
    .flatten()
}

/// The document.
pub(crate) fn document() -> OpenApi {
    let (paths, mut components) = describe(endpoints());
    let mut info = Info::new("Firn", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Firn's own endpoints. The catalog also speaks Iceberg REST below `/iceberg` and Nessie REST v2 below \
         `/nessie/{tenant}/api/v2`, as their specifications say."
            .to_owned(),
    );
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

/// Prints the document.
pub(crate) fn print() -> Result<()> {
    output::json(&document())
}
