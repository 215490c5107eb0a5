//! What Firn's own endpoints ask the guard.

use axum::http::HeaderMap;
use firn_auth::{Access, Action};

use super::AppState;
use crate::CatalogError;

/// For what tells of a whole repository: its events, what a garbage collection found.
pub(super) async fn read_all(
    state: &AppState,
    headers: &HeaderMap,
    tenant: &str,
) -> Result<Access, CatalogError> {
    let access = state.guard.authorize(headers, tenant, Action::Read).await?;
    access.require_all(Action::Read, None)?;
    Ok(access)
}
