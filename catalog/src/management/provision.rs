//! Provisioning of a tenant's bucket.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use firn_catalog_client::Provisioning;
use serde::Deserialize;

use super::{AppState, answer::Refused, tenants::require};
use crate::provision;

/// Query of the request.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Change nothing.
    #[serde(default)]
    plan: bool,
}

/// `POST /v1/tenants/{tenant}/provision`: operators only, since it is the server's own keys that manage buckets.
pub(super) async fn run(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
) -> Result<Json<Provisioning>, Refused> {
    state.guard.operator(&headers).await?;
    let tenant = require(&state, &tenant).await?;
    Ok(Json(provision::provision(&state.config, &state.storage, &tenant, options.plan).await?))
}
